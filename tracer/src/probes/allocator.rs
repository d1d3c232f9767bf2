//! Finds the allocators that a process uses, with a sentence for each, and the objects that contain them.
//!
//! Takes mappings, passes on [`Survey`]. Reads the objects and the process's preloads; must not attach probes. The
//! dynamic linker binds every `malloc` to the first object that exports it, in the order that `order` computes; an
//! allocator with a prefix, or one that was loaded later, is used in addition.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Function, catalog,
    identify::{Family, ObjectInfo, inspect},
    order::{preloads, search_order},
    threads,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocator {
    /// Its name: `jemalloc`; the file's name if the allocator is unknown.
    pub name: String,
    /// Its version, if the file contains it.
    pub version: Option<String>,
    /// Path of the object that contains it, as the target sees it.
    #[serde(with = "crate::tape::wire::path")]
    pub object: PathBuf,
    /// Whether any code calls it.
    pub in_use: bool,
    /// A description for people.
    pub sentence: String,
}

/// An object with functions to probe.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its file.
    pub file: FileId,
    /// Its path as the target sees it.
    pub path: PathBuf,
    /// Path for opening it.
    pub open: PathBuf,
    /// Prefixes of the allocator functions in it.
    prefixes: Vec<String>,
    /// The libraries whose marks it defines: indices into the list that [`Surveyor::new`] takes.
    pub libraries: Vec<usize>,
    /// Whether threads are started in it, and traced.
    pub starts_threads: bool,
    is_libc: bool,
    executable: bool,
}

impl Source {
    /// Whether it contains an allocator.
    pub const fn is_allocator(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Whether functions of it are probed, but for those that the user names.
    pub const fn may_have_probes(&self) -> bool {
        self.is_allocator() || !self.libraries.is_empty() || self.starts_threads
    }

    /// The functions to look for; `names` are those that the object defines.
    pub fn functions(&self, names: &[&str]) -> Vec<Function> {
        let prefixes: Vec<&str> = self.prefixes.iter().map(String::as_str).collect();
        if prefixes.is_empty() {
            return Vec::new();
        }
        catalog::functions(&prefixes, !self.is_libc, names)
    }

    /// The user-defined probes that may be in it.
    pub fn user_defined(&self, user_probes: &[UserProbe]) -> Vec<Function> {
        let path = self.path.to_string_lossy();
        let meant = user_probes.iter().filter(|probe| probe.may_be_in(&path, self.executable));
        meant.map(|probe| probe.function.clone()).collect()
    }
}

/// The allocators and objects of a process.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Its allocators, the one that `malloc` resolves to first.
    pub allocators: Vec<Allocator>,
    /// All objects with code; those that contain allocators first.
    pub sources: Vec<Source>,
    /// Whether the executable has any function symbol: a stripped static one has none.
    pub has_symbols: bool,
}

/// Inspects objects, each once.
#[derive(Default)]
pub struct Surveyor {
    /// Prefixes in addition to the known ones.
    prefixes: Vec<String>,
    /// The marks of each library: an object that defines every function of one list contains the library.
    libraries: Vec<Vec<Vec<String>>>,
    /// Whether threads are traced.
    threads: bool,
    marks: HashSet<String>,
    seen: BTreeMap<FileId, Arc<ObjectInfo>>,
}

impl Surveyor {
    /// A surveyor that also recognizes these prefixes of allocator functions, and libraries by their marks.
    pub fn new(prefixes: Vec<String>, libraries: Vec<Vec<Vec<String>>>, threads: bool) -> Self {
        let marks = libraries.iter().flatten().flatten().cloned();
        let marks = marks.chain([threads::START.to_owned()]).collect();
        Self { prefixes, libraries, threads, marks, seen: BTreeMap::new() }
    }

    /// Surveys the objects that a process has mapped.
    pub fn survey(&mut self, pid: Pid, mappings: &Mappings) -> Survey {
        let objects = mappings.objects();
        let mut infos = Vec::with_capacity(objects.len());
        for object in &objects {
            let (prefixes, marks) = (&self.prefixes, &self.marks);
            let inspect =
                || Arc::new(inspect(object.path, &open_path(pid, object.code), prefixes, marks));
            infos.push(Arc::clone(self.seen.entry(object.file).or_insert_with(inspect)));
        }
        let executable = fs::read_link(pid.proc_path("exe")).ok().and_then(|path| {
            let path = path.to_string_lossy();
            let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(&path)).to_owned();
            objects.iter().position(|object| object.path == path)
        });
        let infos: Vec<&ObjectInfo> = infos.iter().map(Arc::as_ref).collect();
        let found = rank(&infos, executable, &preloaded(pid));
        let mut sources: Vec<Source> = objects
            .iter()
            .zip(&infos)
            .enumerate()
            .map(|(at, (object, info))| Source {
                file: object.file,
                path: object.path.to_owned(),
                open: open_path(pid, object.code),
                prefixes: info.families.iter().flat_map(|family| family.prefixes.clone()).collect(),
                libraries: self.libraries_in(info),
                starts_threads: self.threads && info.marks.contains(threads::START),
                is_libc: info.is_libc,
                executable: executable == Some(at),
            })
            .collect();
        sources.sort_by_key(|source| source.prefixes.is_empty());
        let has_symbols = executable.and_then(|at| infos.get(at)).is_none_or(|exe| exe.has_symbols);
        Survey { allocators: found, sources, has_symbols }
    }
}

impl Surveyor {
    /// The libraries that an object is, or contains copies of.
    fn libraries_in(&self, info: &ObjectInfo) -> Vec<usize> {
        let whole = |marks: &Vec<String>| marks.iter().all(|mark| info.marks.contains(mark));
        let all = self.libraries.iter().enumerate();
        all.filter(|(_, lists)| lists.iter().any(whole)).map(|(at, _)| at).collect()
    }
}

/// Names of preloaded objects. `/proc/PID/environ` shows the environment that the process was started with.
fn preloaded(pid: Pid) -> Vec<String> {
    let environment = fs::read(pid.proc_path("environ")).unwrap_or_default();
    let own = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"LD_PRELOAD="))
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default();
    let system_wide =
        fs::read_to_string(pid.proc_path("root/etc/ld.so.preload")).unwrap_or_default();
    let mut names = preloads(&own);
    names.extend(preloads(&system_wide));
    names
}

/// How an object was loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoadedAs {
    Executable,
    Preloaded,
    Linked,
    Later,
}

/// The allocators, those in use first.
fn rank(objects: &[&ObjectInfo], executable: Option<usize>, preloads: &[String]) -> Vec<Allocator> {
    let order = search_order(objects, executable, preloads);
    let mut all: Vec<(usize, LoadedAs)> = order
        .iter()
        .map(|(at, preloaded)| match (executable == Some(*at), preloaded) {
            (true, _) => (*at, LoadedAs::Executable),
            (_, true) => (*at, LoadedAs::Preloaded),
            _ => (*at, LoadedAs::Linked),
        })
        .collect();
    let known = |all: &[(usize, LoadedAs)], at| all.iter().any(|(one, _)| *one == at);
    // Without an executable that lists what it needs, every object counts as linked.
    let other = if order.len() > 1 { LoadedAs::Later } else { LoadedAs::Linked };
    let rest: Vec<usize> = (0..objects.len()).filter(|at| !known(&all, *at)).collect();
    all.extend(rest.into_iter().map(|at| (at, other)));
    // Without a search order, libc comes last: another object that exports `malloc` is there to replace libc's.
    all.sort_by_key(|(at, loaded_as)| {
        *loaded_as == LoadedAs::Linked
            && order.len() <= 1
            && objects.get(*at).is_some_and(|one| one.is_libc)
    });
    let winner = all.iter().copied().find_map(|(at, loaded_as)| {
        let info = objects.get(at)?;
        let plain = info.families.iter().find(|family| is_plain(family))?;
        let bound = info.offers || loaded_as == LoadedAs::Executable;
        (bound && loaded_as != LoadedAs::Later).then(|| (at, name_of(plain, info)))
    });
    let mut found: Vec<Allocator> = Vec::new();
    let mut first = None;
    for (at, loaded_as) in all {
        let Some(info) = objects.get(at) else { continue };
        for family in &info.families {
            let wins = winner.as_ref().is_some_and(|(first, _)| *first == at);
            if wins && is_plain(family) {
                first = Some(found.len());
            }
            // A family with a prefix has callers of its own; one that was loaded later, those of its library.
            let in_use =
                !is_plain(family) || wins || loaded_as == LoadedAs::Later || winner.is_none();
            let winner = winner.as_ref().map_or("", |(_, name)| name);
            let sentence = sentence(family, info, loaded_as, in_use, winner);
            found.push(Allocator {
                name: name_of(family, info),
                version: family.version.clone(),
                object: info.path.clone(),
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

fn name_of(family: &Family, info: &ObjectInfo) -> String {
    let file = || file_name(&info.path.to_string_lossy()).to_owned();
    family.name.map_or_else(file, str::to_owned)
}

fn sentence(
    family: &Family,
    info: &ObjectInfo,
    loaded_as: LoadedAs,
    in_use: bool,
    winner: &str,
) -> String {
    let path = info.path.to_string_lossy();
    let file = file_name(&path);
    let mut text = family.name.unwrap_or("an allocator of its own").to_owned();
    if let Some(version) = &family.version {
        text = format!("{text} {version}");
    }
    let from = match loaded_as {
        LoadedAs::Executable => format!("in the executable {file}"),
        LoadedAs::Preloaded => format!("from {file}, preloaded"),
        LoadedAs::Linked => format!("from {file}"),
        LoadedAs::Later => format!("from {file}, loaded later"),
    };
    let names = match (is_plain(family), family.prefixes.first()) {
        (false, Some(prefix)) => format!(", as {prefix}malloc"),
        _ => String::new(),
    };
    let unused =
        if in_use { String::new() } else { format!(": not used, {winner}'s malloc comes first") };
    let never =
        if family.never_releases { " (which has no free: nothing is ever released)" } else { "" };
    format!("{text} {from}{names}{never}{unused}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(
        path: &str,
        needed: &[&str],
        families: &[(Option<&'static str>, &str)],
    ) -> ObjectInfo {
        let family = |(name, prefix): &(Option<&'static str>, &str)| Family {
            name: *name,
            version: (*name == Some("jemalloc")).then(|| "5.3.0".to_owned()),
            prefixes: vec![(*prefix).to_owned()],
            never_releases: false,
        };
        ObjectInfo {
            path: path.into(),
            needed: needed.iter().map(|name| (*name).to_owned()).collect(),
            is_libc: path.contains("libc.so"),
            offers: families.iter().any(|(_, prefix)| prefix.is_empty()),
            families: families.iter().map(family).collect(),
            ..ObjectInfo::default()
        }
    }

    #[track_caller]
    fn check(objects: &[ObjectInfo], preloads: &[&str], expected: &[(&str, bool)]) {
        let objects: Vec<&ObjectInfo> = objects.iter().collect();
        let preloads: Vec<String> = preloads.iter().map(|name| (*name).to_owned()).collect();
        let found = rank(&objects, Some(0), &preloads);
        let sentences: Vec<(&str, bool)> =
            found.iter().map(|one| (one.sentence.as_str(), one.in_use)).collect();
        assert_eq!(sentences, expected);
    }

    fn libc() -> ObjectInfo {
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
    fn a_preloaded_allocator_comes_before_libc() {
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
    fn a_rust_programs_own_allocator_is_used_beside_libc() {
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
    fn an_allocator_after_libc_in_the_search_order_is_not_used() {
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
    fn allocators_of_a_plugin_and_of_a_static_program() {
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
