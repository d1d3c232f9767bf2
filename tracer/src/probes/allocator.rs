//! Which allocators a process uses, in a sentence each, and which functions of which objects they are.
//!
//! Takes what is mapped, hands on [`Survey`]. Reads the objects and the process's preloads; probes
//! nothing. The dynamic linker binds everybody's `malloc` to the first object that offers it, in the
//! order of `order`; an allocator with a prefix, or one that was loaded later, serves beside that one.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Function, catalog,
    identify::{Family, Looked, look},
    order::{preloads, search_order},
    user_defined::UserProbe,
};
use crate::{
    format::file_name,
    target::{
        Pid,
        mappings::{FileId, Mappings, open_path},
    },
};

/// An allocator of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// What it is called: `jemalloc`; the file's name when nothing tells.
    pub name: String,
    /// Its version, when the file says it.
    pub version: Option<String>,
    /// The object it is in, as the target sees it.
    pub object: PathBuf,
    /// Whether anybody is bound to it.
    pub in_use: bool,
    /// The same for a person.
    pub sentence: String,
}

/// An object with functions to be probed.
#[derive(Clone, Debug)]
pub struct Source {
    /// Which file.
    pub file: FileId,
    /// Its path as the target sees it.
    pub path: PathBuf,
    /// Where it can be read.
    pub open: PathBuf,
    /// The functions that it may have.
    prefixes: Vec<String>,
    /// Whose marks it has: places in the list that [`Surveyor::new`] was given.
    pub libraries: Vec<usize>,
    is_libc: bool,
    executable: bool,
}

impl Source {
    /// Whether an allocator is in it.
    pub const fn is_allocator(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// The functions to look for, given the names of those that the object defines.
    pub fn functions(&self, names: &[&str]) -> Vec<Function> {
        let prefixes: Vec<&str> = self.prefixes.iter().map(String::as_str).collect();
        if prefixes.is_empty() {
            return Vec::new();
        }
        catalog::functions(&prefixes, !self.is_libc, names)
    }

    /// Those of the user's functions that may be in it.
    pub fn user_defined(&self, user_probes: &[UserProbe]) -> Vec<Function> {
        let path = self.path.to_string_lossy();
        let meant = user_probes.iter().filter(|wish| wish.may_be_in(&path, self.executable));
        meant.map(|wish| wish.function.clone()).collect()
    }
}

/// What was found in a process.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Its allocators, the one that `malloc` means first.
    pub allocators: Vec<Allocator>,
    /// All objects with code; those of allocators first.
    pub sources: Vec<Source>,
    /// Whether the executable names any function: a stripped static one does not.
    pub has_symbols: bool,
}

/// Looks at objects, each once.
#[derive(Default)]
pub struct Surveyor {
    /// Prefixes beside the known ones.
    prefixes: Vec<String>,
    /// Functions that an object has which is a library's, by library: all those of one of its lists.
    libraries: Vec<Vec<Vec<String>>>,
    marks: HashSet<String>,
    seen: BTreeMap<FileId, Arc<Looked>>,
}

impl Surveyor {
    /// One that also knows these prefixes of allocators' names, and libraries by the functions that all copies of
    /// them have.
    pub fn new(prefixes: Vec<String>, libraries: Vec<Vec<Vec<String>>>) -> Self {
        let marks = libraries.iter().flatten().flatten().cloned().collect();
        Self { prefixes, libraries, marks, seen: BTreeMap::new() }
    }

    /// The allocators among what a process has mapped.
    pub fn survey(&mut self, pid: Pid, mappings: &Mappings) -> Survey {
        let objects = mappings.objects();
        let mut looked = Vec::with_capacity(objects.len());
        for object in &objects {
            let (prefixes, marks) = (&self.prefixes, &self.marks);
            let look =
                || Arc::new(look(object.path, &open_path(pid, object.code), prefixes, marks));
            looked.push(Arc::clone(self.seen.entry(object.file).or_insert_with(look)));
        }
        let executable = fs::read_link(pid.proc_path("exe")).ok().and_then(|path| {
            let path = path.to_string_lossy();
            let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(&path)).to_owned();
            objects.iter().position(|object| object.path == path)
        });
        let looked: Vec<&Looked> = looked.iter().map(Arc::as_ref).collect();
        let found = judge(&looked, executable, &preloaded(pid));
        let mut sources: Vec<Source> = objects
            .iter()
            .zip(&looked)
            .enumerate()
            .map(|(at, (object, looked))| Source {
                file: object.file,
                path: object.path.to_owned(),
                open: open_path(pid, object.code),
                prefixes: looked
                    .families
                    .iter()
                    .flat_map(|family| family.prefixes.clone())
                    .collect(),
                libraries: self.libraries_in(looked),
                is_libc: looked.is_libc,
                executable: executable == Some(at),
            })
            .collect();
        sources.sort_by_key(|source| source.prefixes.is_empty());
        let has_symbols =
            executable.and_then(|at| looked.get(at)).is_none_or(|exe| exe.has_symbols);
        Survey { allocators: found, sources, has_symbols }
    }
}

impl Surveyor {
    /// Which libraries an object is, or has copies of inside.
    fn libraries_in(&self, looked: &Looked) -> Vec<usize> {
        let whole = |marks: &Vec<String>| marks.iter().all(|mark| looked.marks.contains(mark));
        let all = self.libraries.iter().enumerate();
        all.filter(|(_, lists)| lists.iter().any(whole)).map(|(at, _)| at).collect()
    }
}

/// Names that the process was told to preload. Its environment is the one it was started with.
fn preloaded(pid: Pid) -> Vec<String> {
    let environment = fs::read(pid.proc_path("environ")).unwrap_or_default();
    let own = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"LD_PRELOAD="))
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default();
    let everybodys =
        fs::read_to_string(pid.proc_path("root/etc/ld.so.preload")).unwrap_or_default();
    let mut names = preloads(&own);
    names.extend(preloads(&everybodys));
    names
}

/// How an object came to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Executable,
    Preloaded,
    Linked,
    Later,
}

/// The allocators in the order in which they are asked.
fn judge(objects: &[&Looked], executable: Option<usize>, preloads: &[String]) -> Vec<Allocator> {
    let order = search_order(objects, executable, preloads);
    let mut all: Vec<(usize, Came)> = order
        .iter()
        .map(|(at, preloaded)| match (executable == Some(*at), preloaded) {
            (true, _) => (*at, Came::Executable),
            (_, true) => (*at, Came::Preloaded),
            _ => (*at, Came::Linked),
        })
        .collect();
    let known = |all: &[(usize, Came)], at| all.iter().any(|(one, _)| *one == at);
    // Without an executable that tells what it needs, everything counts as linked.
    let other = if order.len() > 1 { Came::Later } else { Came::Linked };
    let rest: Vec<usize> = (0..objects.len()).filter(|at| !known(&all, *at)).collect();
    all.extend(rest.into_iter().map(|at| (at, other)));
    // A libc comes last unless the order says so: whoever brings a `malloc` means it to be used.
    all.sort_by_key(|(at, came)| {
        *came == Came::Linked && order.len() <= 1 && objects.get(*at).is_some_and(|one| one.is_libc)
    });
    let winner = all.iter().copied().find_map(|(at, came)| {
        let looked = objects.get(at)?;
        let plain = looked.families.iter().find(|family| is_plain(family))?;
        let bound = looked.offers || came == Came::Executable;
        (bound && came != Came::Later).then(|| (at, called(plain, looked)))
    });
    let mut found: Vec<Allocator> = Vec::new();
    let mut first = None;
    for (at, came) in all {
        let Some(looked) = objects.get(at) else { continue };
        for family in &looked.families {
            let wins = winner.as_ref().is_some_and(|(first, _)| *first == at);
            if wins && is_plain(family) {
                first = Some(found.len());
            }
            // A prefixed family has its own callers; a late one, its own library's.
            let in_use = !is_plain(family) || wins || came == Came::Later || winner.is_none();
            let winner = winner.as_ref().map_or("", |(_, name)| name);
            let sentence = sentence(family, looked, came, in_use, winner);
            found.push(Allocator {
                name: called(family, looked),
                version: family.version.clone(),
                object: looked.path.clone(),
                in_use,
                sentence,
            });
        }
    }
    let unused = found.iter().find(|one| !one.in_use).map(|one| one.name.clone());
    if let (Some(unused), Some(first)) = (unused, first.and_then(|at: usize| found.get_mut(at))) {
        first.sentence = format!("{}; {unused}'s malloc is not used", first.sentence);
    }
    found.sort_by_key(|one| !one.in_use);
    found
}

fn is_plain(family: &Family) -> bool {
    family.prefixes.iter().any(String::is_empty)
}

fn called(family: &Family, looked: &Looked) -> String {
    let file = || file_name(&looked.path.to_string_lossy()).to_owned();
    family.name.map_or_else(file, str::to_owned)
}

fn sentence(family: &Family, looked: &Looked, came: Came, in_use: bool, winner: &str) -> String {
    let path = looked.path.to_string_lossy();
    let file = file_name(&path);
    let mut text = family.name.unwrap_or("an allocator of its own").to_owned();
    if let Some(version) = &family.version {
        text = format!("{text} {version}");
    }
    let from = match came {
        Came::Executable => format!("in the executable {file}"),
        Came::Preloaded => format!("from {file}, preloaded"),
        Came::Linked => format!("from {file}"),
        Came::Later => format!("from {file}, loaded later"),
    };
    let names = match (is_plain(family), family.prefixes.first()) {
        (false, Some(prefix)) => format!(", as {prefix}malloc"),
        _ => String::new(),
    };
    let unused =
        if in_use { String::new() } else { format!(": not used, {winner}'s malloc comes first") };
    format!("{text} {from}{names}{unused}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str, needed: &[&str], families: &[(Option<&'static str>, &str)]) -> Looked {
        let family = |(name, prefix): &(Option<&'static str>, &str)| Family {
            name: *name,
            version: (*name == Some("jemalloc")).then(|| "5.3.0".to_owned()),
            prefixes: vec![(*prefix).to_owned()],
        };
        Looked {
            path: path.into(),
            needed: needed.iter().map(|name| (*name).to_owned()).collect(),
            is_libc: path.contains("libc.so"),
            offers: families.iter().any(|(_, prefix)| prefix.is_empty()),
            families: families.iter().map(family).collect(),
            ..Looked::default()
        }
    }

    #[track_caller]
    fn check(objects: &[Looked], preloads: &[&str], expected: &[(&str, bool)]) {
        let objects: Vec<&Looked> = objects.iter().collect();
        let preloads: Vec<String> = preloads.iter().map(|name| (*name).to_owned()).collect();
        let found = judge(&objects, Some(0), &preloads);
        let said: Vec<(&str, bool)> =
            found.iter().map(|one| (one.sentence.as_str(), one.in_use)).collect();
        assert_eq!(said, expected);
    }

    fn libc() -> Looked {
        object("/lib/libc.so.6", &[], &[(Some("glibc"), "")])
    }

    #[test]
    fn libc_alone() {
        check(
            &[object("/bin/a", &["libc.so.6"], &[]), libc()],
            &[],
            &[("glibc from libc.so.6", true)],
        );
    }

    #[test]
    fn a_preloaded_one_comes_before_libc() {
        let jemalloc = object("/lib/libjemalloc.so.2", &["libc.so.6"], &[(Some("jemalloc"), "")]);
        check(
            &[object("/bin/a", &["libc.so.6"], &[]), libc(), jemalloc],
            &["libjemalloc.so.2"],
            &[
                (
                    "jemalloc 5.3.0 from libjemalloc.so.2, preloaded; glibc's malloc is not used",
                    true,
                ),
                ("glibc from libc.so.6: not used, jemalloc's malloc comes first", false),
            ],
        );
    }

    #[test]
    fn a_rust_programs_own_serves_beside_libc() {
        check(
            &[object("/bin/a", &["libc.so.6"], &[(Some("jemalloc"), "_rjem_")]), libc()],
            &[],
            &[
                ("jemalloc 5.3.0 in the executable a, as _rjem_malloc", true),
                ("glibc from libc.so.6", true),
            ],
        );
    }

    #[test]
    fn one_behind_libc_in_the_order_is_not_used() {
        let late = object("/lib/libtcmalloc.so.4", &["libc.so.6"], &[(Some("tcmalloc"), "")]);
        check(
            &[object("/bin/a", &["libc.so.6", "libtcmalloc.so.4"], &[]), libc(), late],
            &[],
            &[
                ("glibc from libc.so.6; tcmalloc's malloc is not used", true),
                ("tcmalloc from libtcmalloc.so.4: not used, glibc's malloc comes first", false),
            ],
        );
    }

    #[test]
    fn a_plugins_own_and_a_static_programs() {
        let plugin = object("/opt/plugin.so", &["libc.so.6"], &[(None, "")]);
        check(
            &[object("/bin/a", &["libc.so.6"], &[]), libc(), plugin],
            &[],
            &[
                ("glibc from libc.so.6", true),
                ("an allocator of its own from plugin.so, loaded later", true),
            ],
        );
        check(
            &[object("/bin/a", &[], &[(Some("musl"), "")])],
            &[],
            &[("musl in the executable a", true)],
        );
        check(&[object("/bin/a", &[], &[])], &[], &[]);
    }
}
