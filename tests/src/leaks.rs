//! Programs that leak library objects on purpose, one case each, and their truth. See `victims/leaks.h`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{Victim, compile, uwebsockets, workspace};

/// Libraries that have a test program.
pub const LIBRARIES: [&str; 6] = ["libevent", "libzmq", "openssl", "uws", "cares", "uv"];

/// Kinds that are counted by acquiring function, because the library also acquires them elsewhere.
const BY_FUNCTION: [&str; 4] = ["heap", "fd", "socket", "zmq_pipe_chunk"];

/// The pack of a library that leaktrace has no built-in pack for: written from docs/packs.md alone.
pub fn pack(library: &str) -> Option<PathBuf> {
    let name = match library {
        "cares" => "c-ares",
        "uv" => "libuv",
        _ => return None,
    };
    Some(workspace().join("examples/packs").join(name).with_extension("toml"))
}

/// The program that leaks objects of a library.
pub fn program(library: &str) -> Result<PathBuf> {
    match library {
        "uws" => uwebsockets::leaks(),
        _ => compile::victim(&format!("leaks_{library}")),
    }
}

/// The same, built so that a witness sees all calls between program and library.
pub fn program_to_witness(library: &str) -> Result<PathBuf> {
    match library {
        "uws" => uwebsockets::leaks_shared(),
        _ => program(library),
    }
}

/// A case of a program, parsed from its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Name of the case.
    pub name: String,
    /// leaktrace's name for the kind that leaks.
    pub kind: String,
    /// The function that acquires it.
    pub function: String,
    /// Another function that leaks with it, if there is one: the other end, or the content.
    pub also: Option<String>,
}

/// The cases of a program.
pub fn cases(program: &Path) -> Result<Vec<Case>> {
    let output = Command::new(program).arg("list").output()?;
    ensure!(output.status.success(), "`{} list` ended with {}", program.display(), output.status);
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| Case::parse(&serde_json::from_str(line)?))
        .collect()
}

impl Case {
    fn parse(line: &Value) -> Result<Self> {
        let word = |key: &str| {
            let found = line.get(key).and_then(Value::as_str);
            found.map(str::to_owned).with_context(|| format!("no `{key}` in {line}"))
        };
        // Only the list of cases has it.
        let also = line.get("also").and_then(Value::as_str).filter(|also| !also.is_empty());
        Ok(Self {
            name: word("scene")?,
            kind: word("kind")?,
            function: word("function")?,
            also: also.map(str::to_owned),
        })
    }
}

/// Objects of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    /// Created since the start.
    pub created: u64,
    /// Destroyed since the start.
    pub destroyed: u64,
}

impl Objects {
    /// Live objects.
    pub fn live(self) -> u64 {
        self.created - self.destroyed
    }
}

/// A program's account of the case that it ran.
#[derive(Debug, Clone)]
pub struct Played {
    /// The case.
    pub case: Case,
    /// Live objects whose release was requested.
    pub release_asked: u64,
    /// By kind, library objects: all live objects.
    pub objects: BTreeMap<String, Objects>,
    /// By kind, other resources: those of the case's function.
    pub by_function: BTreeMap<String, Objects>,
}

impl Played {
    /// Starts the work of a program that is ready, and reads its truth.
    pub fn by(victim: &mut Victim) -> Result<Self> {
        victim.go()?;
        Self::parse(&victim.answer()?)
    }

    /// Parses a program's truth.
    pub fn parse(truth: &Value) -> Result<Self> {
        if let Some(error) = truth.get("error") {
            bail!("the program is broken: {error}");
        }
        let kinds = truth.get("kinds").and_then(Value::as_object).context("no `kinds`")?;
        let (mut objects, mut by_function) = (BTreeMap::new(), BTreeMap::new());
        for (kind, found) in kinds {
            let number = |key: &str| found.get(key).and_then(Value::as_u64).context("a number");
            let one = Objects { created: number("created")?, destroyed: number("destroyed")? };
            let own = BY_FUNCTION.contains(&kind.as_str());
            if own { &mut by_function } else { &mut objects }.insert(kind.clone(), one);
        }
        let asked = truth.get("release_asked").and_then(Value::as_u64);
        Ok(Self {
            case: Case::parse(truth)?,
            release_asked: asked.context("no `release_asked`")?,
            objects,
            by_function,
        })
    }

    /// The numbers of the leaking kind.
    pub fn leaking(&self) -> Objects {
        let kind = &self.case.kind;
        self.objects.get(kind).or_else(|| self.by_function.get(kind)).copied().unwrap_or_default()
    }
}

/// The witness's counts.
#[derive(Debug)]
pub struct Witnessed {
    /// Live heap blocks, including those that are objects.
    pub blocks: u64,
    /// Objects by kind.
    pub objects: BTreeMap<String, Objects>,
}

impl Witnessed {
    /// Reads the witness's file; a kind without a line has no objects.
    pub fn parse(note: &str) -> Result<Self> {
        let mut lines = note.lines();
        let first =
            lines.next().and_then(|line| line.split(' ').next()).context("an empty note")?;
        let mut objects = BTreeMap::new();
        for line in lines {
            let fields: Vec<&str> = line.split(' ').collect();
            let [kind, created, destroyed] = fields.as_slice() else { bail!("a note of `{line}`") };
            let one = Objects { created: created.parse()?, destroyed: destroyed.parse()? };
            if one != Objects::default() {
                objects.insert((*kind).to_owned(), one);
            }
        }
        Ok(Self { blocks: first.parse()?, objects })
    }
}
