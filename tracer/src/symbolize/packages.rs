//! Which Debian package an object belongs to, to suggest a package to install.
//!
//! Takes paths as a target sees them, returns package names from dpkg's own lists (`/var/lib/dpkg/info/*.list`, one
//! path per line) in the target's root. Runs no other program.

use std::{
    collections::HashMap,
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::target::root::Root;

/// Where dpkg keeps its lists.
const LISTS: &str = "/var/lib/dpkg/info";

/// The packages of these files, by path; files of no package are left out. One pass over all lists (some 10 MiB)
/// serves all of them.
pub(super) fn owners(root: &Root, paths: &[PathBuf]) -> HashMap<PathBuf, String> {
    let spelled = paths.iter().flat_map(|path| spellings(path).map(move |text| (text, path)));
    let wanted: HashMap<Vec<u8>, &PathBuf> = spelled.collect();
    let mut owners = HashMap::new();
    let Ok(lists) = root.list(Path::new(LISTS)) else { return owners };
    let mut text = Vec::new();
    for list in lists {
        let Some(package) = list.to_str().and_then(|name| name.strip_suffix(".list")) else {
            continue;
        };
        text.clear();
        let opened = root.open(&Path::new(LISTS).join(&list));
        if opened.and_then(|mut file| file.read_to_end(&mut text)).is_err() {
            continue;
        }
        let lines = text.split(|byte| *byte == b'\n');
        for path in lines.filter_map(|line| wanted.get(line)) {
            // `libc6:amd64`: the architecture is known.
            let name = package.split_once(':').map_or(package, |(name, _)| name);
            owners.insert((*path).clone(), name.to_owned());
        }
        if owners.len() == paths.len() {
            break;
        }
    }
    owners
}

/// The spellings under which dpkg may list a path: since `/lib` is a link to `/usr/lib`, the kernel reports
/// `/usr/lib/x.so` where an older package's list says `/lib/x.so`.
fn spellings(path: &Path) -> impl Iterator<Item = Vec<u8>> + use<> {
    let path = path.as_os_str().as_bytes();
    let short = path.strip_prefix(b"/usr").filter(|rest| rest.starts_with(b"/"));
    [Some(path.to_vec()), short.map(<[u8]>::to_vec)].into_iter().flatten()
}

/// The package with the debug files of another. Debian generates a `-dbgsym` package for every package; only the C
/// library still has its own `-dbg` package.
pub(super) fn debug_package(package: &str) -> String {
    match package {
        "libc6" => "libc6-dbg".to_owned(),
        other => format!("{other}-dbgsym"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn owners_are_found_under_both_spellings_and_never_invented() {
        let folder = std::env::temp_dir().join(format!("leaktrace-dpkg-{}", std::process::id()));
        let info = folder.join("var/lib/dpkg/info");
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("libc6:amd64.list"), "/.\n/lib\n/lib/libc.so.6\n").unwrap();
        fs::write(info.join("libevent.list"), "/usr/lib/libevent.so.7\n/usr/lib/lib").unwrap();
        fs::write(info.join("libevent.md5sums"), "/usr/bin/other\n").unwrap();
        let root = Root::at(&folder).unwrap();
        let paths = ["/usr/lib/libc.so.6", "/usr/lib/libevent.so.7", "/usr/bin/other", "/srv/x"];
        let found = owners(&root, &paths.map(PathBuf::from));
        let owner = |path: &str| found.get(Path::new(path)).map(String::as_str);
        assert_eq!(paths.map(owner), [Some("libc6"), Some("libevent"), None, None]);
        assert_eq!(owners(&Root::at(&info).unwrap(), &paths.map(PathBuf::from)), HashMap::new());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_c_librarys_debug_package_has_another_name() {
        assert_eq!(debug_package("libc6"), "libc6-dbg");
        assert_eq!(debug_package("nodejs"), "nodejs-dbgsym");
    }
}
