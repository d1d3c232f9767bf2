//! The witness of the exam: what a program holds by call path, counted below it (`tests/exam/witness.c`).
//!
//! Takes the witness's file and the symbol tables of the program and its shared objects; hands on what each of their
//! functions holds. It knows nothing of the program's truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::exam::Held;

/// The functions of a program and its shared objects by their addresses, named without parameters.
#[derive(Debug, Default)]
pub struct Functions {
    /// By the file's name, which is empty for the program, and by the start.
    by_start: BTreeMap<(String, u64), (u64, String)>,
    /// Names of functions, without the parts that the compiler moved away.
    whole: Vec<String>,
}

impl Functions {
    /// Reads the symbol tables by `nm`.
    pub fn of(program: &Path, objects: &[PathBuf]) -> Result<Self> {
        let mut functions = Self::default();
        functions.read(program, "")?;
        for object in objects {
            functions.read(object, &object.file_name().context("a name")?.to_string_lossy())?;
        }
        Ok(functions)
    }

    fn read(&mut self, path: &Path, file: &str) -> Result<()> {
        let output = Command::new("nm").args(["-C", "-S", "--defined-only"]).arg(path).output()?;
        ensure!(output.status.success(), "`nm {}` ended with {}", path.display(), output.status);
        for line in String::from_utf8(output.stdout)?.lines() {
            let mut fields = line.splitn(4, ' ');
            let (Some(start), Some(size), Some(class), Some(name)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue; // a symbol without a size
            };
            if !["t", "T", "w", "W"].contains(&class) {
                continue;
            }
            let start = u64::from_str_radix(start, 16)?;
            let end = start + u64::from_str_radix(size, 16)?;
            let function = without_parameters(name).to_owned();
            if !name.contains(" [clone ") {
                self.whole.push(function.clone());
            }
            self.by_start.insert((file.to_owned(), start), (end, function));
        }
        Ok(())
    }

    /// Whether there is exactly one function of this name.
    pub fn has(&self, name: &str) -> bool {
        self.whole.iter().filter(|function| *function == name).count() == 1
    }

    /// The function that a call at this return address in a file belongs to.
    fn at(&self, file: &str, return_address: u64) -> Option<&str> {
        let before = ..(file.to_owned(), return_address);
        let ((of_file, _), (end, name)) = self.by_start.range(before).next_back()?;
        (of_file == file && return_address <= *end).then_some(name)
    }
}

fn without_parameters(name: &str) -> &str {
    const ANONYMOUS: &str = "(anonymous namespace)";
    let from = name.rfind(ANONYMOUS).map_or(0, |at| at + ANONYMOUS.len());
    let parameters = name.get(from..).and_then(|rest| rest.find('('));
    parameters.map_or(name, |at| name.get(..from + at).unwrap_or(name))
}

/// What the witness saw in all processes of a program.
#[derive(Debug, Default)]
pub struct Witnessed {
    /// By function and kind. An object belongs to the innermost function that was asked for.
    pub by_function: BTreeMap<(String, String), Held>,
    /// By kind, in the first process: objects whose call path has none of these functions.
    pub by_others: BTreeMap<String, Held>,
    /// Descriptors of the first process.
    pub descriptors: u64,
}

impl Witnessed {
    /// Reads the witness's file. `wanted`: the functions that acquire by the program's own account.
    pub fn parse(note: &str, functions: &Functions, wanted: &BTreeSet<&str>) -> Result<Self> {
        let mut found = Self::default();
        for line in note.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [kind, process, count, bytes, path @ ..] = fields.as_slice() else {
                anyhow::bail!("the witness wrote `{line}`");
            };
            let held = Held { count: count.parse()?, bytes: bytes.parse()? };
            if (*kind, *process) == ("descriptor", "0") {
                found.descriptors += held.count;
            }
            let mut owner = None;
            for frame in path {
                let (file, address) = frame.split_once(':').unwrap_or(("", frame));
                let address = u64::from_str_radix(address, 16).context("an address")?;
                owner = functions.at(file, address).filter(|name| wanted.contains(name));
                if owner.is_some() {
                    break;
                }
            }
            let kind = (*kind).to_owned();
            let sum = match owner {
                Some(function) => found.by_function.entry((function.to_owned(), kind)).or_default(),
                None if *process == "0" => found.by_others.entry(kind).or_default(),
                None => continue,
            };
            *sum = *sum + held;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_parameters() {
        assert_eq!(without_parameters("copy_name"), "copy_name");
        assert_eq!(without_parameters("Hub::open(int, char const*) [clone .cold]"), "Hub::open");
        let name = "(anonymous namespace)::open_session(int)";
        assert_eq!(without_parameters(name), "(anonymous namespace)::open_session");
    }

    #[test]
    fn an_object_belongs_to_the_innermost_function_that_acquires() -> Result<()> {
        let named =
            |file: &str, name: &str, start, end| ((file.to_owned(), start), (end, name.to_owned()));
        let by_start =
            [named("", "make", 16, 32), named("", "helper", 32, 48), named("a.so", "take", 16, 32)];
        let functions = Functions { by_start: by_start.into(), whole: Vec::new() };
        let note = "heap 0 2 30 a.so:18 21 18\nheap 4 1 5 18\ndescriptor 0 3 0 21\n";
        let seen = Witnessed::parse(note, &functions, &BTreeSet::from(["make"]))?;
        let make = ("make".to_owned(), "heap".to_owned());
        assert_eq!(seen.by_function, BTreeMap::from([(make, Held { count: 3, bytes: 35 })]));
        let others = Held { count: 3, bytes: 0 };
        assert_eq!(seen.by_others, BTreeMap::from([("descriptor".to_owned(), others)]));
        assert_eq!(seen.descriptors, 3);
        Ok(())
    }
}
