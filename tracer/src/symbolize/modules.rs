//! How to get missing names, one entry per module.
//!
//! Takes the modules that named stacks run through and the facts known about each, returns [`report::Module`]s, the
//! poorest names first. Reads dpkg's lists once for each module that lacks names.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    debug_file::Origin,
    objects::{ObjectId, Objects},
    packages,
};
use crate::{
    format::file_name,
    report::{Frame, Module, Names},
    target::Pid,
};

/// A source of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// An object file, or the vdso.
    Object(ObjectId),
    /// JIT code of a target.
    Jit(Pid),
}

/// Frame counts of a module, of one stack or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) path: Option<Arc<str>>,
    pub(super) without_name: u64,
    /// Reason for the first frame without a name.
    why: Option<Arc<str>>,
}

impl Tally {
    /// Adds a frame.
    pub(super) fn add(&mut self, frame: &Frame) {
        self.path = self.path.take().or_else(|| frame.module.clone());
        if frame.symbol.is_none() {
            self.without_name += 1;
            self.why = self.why.take().or_else(|| frame.why_unnamed.clone());
        }
    }

    fn merge(&mut self, other: &Self) {
        self.path = self.path.take().or_else(|| other.path.clone());
        self.why = self.why.take().or_else(|| other.why.clone());
        self.without_name += other.without_name;
    }
}

/// Facts about a target needed to name its JIT code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JitFacts {
    /// It has a trusted perf map.
    pub(super) mapped: bool,
    /// The runtime that generates the code.
    pub(super) runtime: Runtime,
}

/// Runtimes that generate code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Runtime {
    Node,
    Java,
    Python,
    DotNet,
    #[default]
    Other,
}

impl Runtime {
    /// Recognizes a runtime by a file that it maps.
    pub(super) fn by_file(path: &Path) -> Option<Self> {
        let path = path.to_string_lossy();
        let name = file_name(&path);
        match name {
            "node" | "nodejs" => Some(Self::Node),
            "libjvm.so" => Some(Self::Java),
            "libcoreclr.so" => Some(Self::DotNet),
            _ if name.starts_with("python3") || name.starts_with("libpython3") => {
                Some(Self::Python)
            }
            _ if name.starts_with("libnode.so") => Some(Self::Node),
            _ => None,
        }
    }

    /// How to make it write a perf map.
    fn help(self) -> &'static str {
        match self {
            Self::Node => {
                "start it as `node --perf-basic-prof`, with `--interpreted-frames-native-stack` for \
                 functions that are not compiled yet"
            }
            Self::Java => {
                "write the perf map with `jcmd PID Compiler.perfmap` (Java 17 and later), and start \
                 Java with `-XX:+PreserveFramePointer`"
            }
            Self::Python => "start it as `python3 -X perf` (Python 3.12 and later)",
            Self::DotNet => "start it with `DOTNET_PerfMapEnabled=1` in its environment",
            Self::Other => {
                "let the program's run time write /tmp/perf-PID.map, or its build give its \
                 generated code an object file"
            }
        }
    }
}

/// Packages of objects, looked up once.
#[derive(Debug, Default)]
pub(super) struct Packages(HashMap<ObjectId, Option<String>>);

impl Packages {
    /// Finds the packages of these objects, as far as they are unknown.
    fn learn(&mut self, objects: &Objects, wanted: &[ObjectId]) {
        self.0.extend(wanted.iter().map(|id| (*id, None)));
        let located = wanted.iter().filter_map(|id| Some((*id, objects.origin(*id)?)));
        let mut rest: Vec<(ObjectId, &Origin)> = located.collect();
        while let Some((_, Origin { root, .. })) = rest.first() {
            // Reads the lists once for all objects of a root.
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                rest.iter().partition(|(_, origin)| Arc::ptr_eq(&origin.root, root));
            let paths: Vec<PathBuf> = here.iter().map(|(_, origin)| origin.path.clone()).collect();
            let owners = packages::owners(root, &paths);
            let owned =
                |(id, origin): &(ObjectId, &Origin)| (*id, owners.get(&origin.path).cloned());
            self.0.extend(here.iter().map(owned));
            rest = elsewhere;
        }
    }

    fn of(&self, id: ObjectId) -> Option<&str> {
        self.0.get(&id)?.as_deref()
    }
}

/// All modules, the one with most unnamed frames first.
pub(super) fn describe(
    tallies: &[&(Part, Tally)],
    objects: &Objects,
    packages: &mut Packages,
    jit: impl Fn(Pid) -> JitFacts,
) -> Vec<Module> {
    let mut all: BTreeMap<Part, Tally> = BTreeMap::new();
    for (part, tally) in tallies {
        all.entry(*part).or_default().merge(tally);
    }
    let poor = all.iter().filter(|(_, tally)| tally.without_name > 0);
    let poor = poor.filter_map(|(part, _)| match part {
        Part::Object(id) => Some(*id),
        Part::Jit(_) => None,
    });
    let poor: Vec<ObjectId> = poor.filter(|id| !packages.0.contains_key(id)).collect();
    packages.learn(objects, &poor);
    let mut modules: Vec<Module> = all
        .into_iter()
        .map(|(part, tally)| match part {
            Part::Object(id) => of_object(id, &tally, objects, packages.of(id)),
            Part::Jit(pid) => of_jit(&tally, jit(pid)),
        })
        .collect();
    modules.sort_by(|one, other| {
        let order = |module: &Module| (std::cmp::Reverse(module.frames_without_name), module.names);
        order(one).cmp(&order(other)).then_with(|| one.path.cmp(&other.path))
    });
    modules
}

fn of_object(id: ObjectId, tally: &Tally, objects: &Objects, package: Option<&str>) -> Module {
    let name_quality = objects.name_quality(id);
    let names = name_quality.map_or(Names::None, |(names, _)| names);
    let path = tally.path.as_deref();
    let help = || match (name_quality, names) {
        (None, _) if objects.is_open(id) => {
            "nothing: its file is no object that can be read".to_owned()
        }
        (None, _) => "run leaktrace as root, and start it while the file is still there".to_owned(),
        (Some(_), Names::Full) => {
            "nothing: it is code without a symbol, such as assembly or padding".to_owned()
        }
        (Some((_, ids)), _) => {
            let by_hand = match ids.by_build_id() {
                Some(file) => format!("put its debug file at {}", file.display()),
                None => "build it with `-Wl,--build-id`".to_owned(),
            };
            match package {
                Some(package) => format!(
                    "apt install {} (Debian's debug archive), or {by_hand}",
                    packages::debug_package(package)
                ),
                None if path.is_some_and(|path| path.starts_with('[')) => {
                    "nothing: the kernel brings no more names".to_owned()
                }
                None => format!("build it with `-g` and do not strip it, or {by_hand}"),
            }
        }
    };
    Module {
        path: path.map(str::to_owned),
        build_id: name_quality.and_then(|(_, ids)| ids.hex()),
        names,
        frames_without_name: tally.without_name,
        why: tally.why.as_deref().map(str::to_owned),
        help: (tally.without_name > 0).then(help),
    }
}

fn of_jit(tally: &Tally, facts: JitFacts) -> Module {
    Module {
        path: tally.path.as_deref().map(str::to_owned),
        build_id: None,
        names: if facts.mapped { Names::Symbols } else { Names::None },
        frames_without_name: tally.without_name,
        why: tally.why.as_deref().map(str::to_owned),
        help: (tally.without_name > 0).then(|| facts.runtime.help().to_owned()),
    }
}
