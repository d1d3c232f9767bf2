//! Computes the order in which the dynamic linker searches a program's objects for a symbol.
//!
//! Takes the objects' dependencies and the preloads, passes on their order. Pure. Leaves out objects that were loaded
//! later (`dlopen`): the linker does not search them for the program's own symbols.

use super::identify::ObjectInfo;
use crate::format::file_name;

/// Indices into `objects`: the executable, the preloads, then the dependencies, breadth first; each with whether it was
/// preloaded.
pub(super) fn search_order(
    objects: &[&ObjectInfo],
    executable: Option<usize>,
    preloads: &[String],
) -> Vec<(usize, bool)> {
    let mut order: Vec<(usize, bool)> = executable.map(|at| (at, false)).into_iter().collect();
    let add = |order: &mut Vec<(usize, bool)>, name: &str, preloaded| {
        let found = objects.iter().position(|object| matches(object, name));
        if let Some(at) = found.filter(|at| !order.iter().any(|(known, _)| known == at)) {
            order.push((at, preloaded));
        }
    };
    for name in preloads {
        add(&mut order, name, true);
    }
    let mut next = 0;
    while let Some((at, _)) = order.get(next).copied() {
        for name in objects.get(at).iter().flat_map(|object| &object.needed) {
            add(&mut order, name, false);
        }
        next += 1;
    }
    order
}

/// Whether `name` means an object: its soname or its file name. (A path may be a link to a file of another name, whose
/// soname is the requested one.)
fn matches(object: &ObjectInfo, name: &str) -> bool {
    let name = file_name(name);
    object.soname.as_deref() == Some(name) || file_name(&object.path.to_string_lossy()) == name
}

/// The names in `LD_PRELOAD` or `/etc/ld.so.preload`: separated by spaces, colons or lines.
pub(super) fn preloads(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(line));
    let words = lines.flat_map(|line| line.split([' ', '\t', ':']));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str, soname: Option<&str>, needed: &[&str]) -> ObjectInfo {
        ObjectInfo {
            path: path.into(),
            soname: soname.map(str::to_owned),
            needed: needed.iter().map(|name| (*name).to_owned()).collect(),
            ..ObjectInfo::default()
        }
    }

    #[test]
    fn executable_preloads_then_needed_breadth_first() {
        let all = [
            object("/bin/server", None, &["liba.so.1", "libb.so.1"]),
            object("/lib/libc.so.6", Some("libc.so.6"), &[]),
            object("/lib/liba.so.1.2", Some("liba.so.1"), &["libdeep.so", "libc.so.6"]),
            object("/lib/libb.so.1", Some("libb.so.1"), &["libc.so.6"]),
            object("/lib/libdeep.so", None, &[]),
            object("/opt/plugin.so", None, &["libc.so.6"]),
            object("/lib/libjemalloc.so.2", Some("libjemalloc.so.2"), &["libc.so.6"]),
        ];
        let all: Vec<&ObjectInfo> = all.iter().collect();
        let order = search_order(&all, Some(0), &["/usr/lib/libjemalloc.so.2".to_owned()]);
        assert_eq!(order, [(0, false), (6, true), (2, false), (3, false), (1, false), (4, false)]);
    }

    #[test]
    fn spaces_colons_and_lines_separate_preloads() {
        assert_eq!(
            preloads("/a.so:b.so  c.so\n# none\n d.so # why"),
            ["/a.so", "b.so", "c.so", "d.so"]
        );
        assert!(preloads("").is_empty());
    }
}
