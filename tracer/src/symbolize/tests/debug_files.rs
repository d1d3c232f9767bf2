//! Symbols stored apart from their object are found, and used only when they are of the same build.

use std::io::{Read as _, Write as _};

use super::*;
use crate::report::Names;

const STRIPPED: &str = "stripped, and no debug file was found";
/// The function names alone: the symbol table has them too.
const SYMBOLS: [&str; 3] = ["outer ", "handle ", "ends_in_a_call "];

/// Moves the debug information of `program` to a file of its own.
fn split(program: &Path, debug: &Path) {
    tool("objcopy", &["--only-keep-debug", text(program), text(debug)]);
    tool("strip", &["-s", text(program)]);
}

/// The standard path of a program's debug file, below a root.
fn by_build_id(program: &Path, root: &Path) -> PathBuf {
    let notes = Command::new("readelf").arg("-n").arg(program).output().unwrap();
    let notes = String::from_utf8(notes.stdout).unwrap();
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap();
    root.join("usr/lib/debug/.build-id").join(&id[..2]).join(format!("{}.debug", &id[2..]))
}

/// A file installed at a path, and removed when dropped.
struct Placed(PathBuf);

impl Placed {
    fn new(file: &Path, place: PathBuf) -> Self {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(file, &place).unwrap();
        Self(place)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
        // Keeps folders that others use.
        for folder in self.0.ancestors().skip(1).take(3) {
            drop(fs::remove_dir(folder));
        }
    }
}

/// The modules of one stack, as in the report: the program's first.
fn program_of(server: &Running, namer: &mut Namer, addresses: &[u64]) -> crate::report::Module {
    let wanted = Wanted { site: 1, pid: server.pid(), addresses: addresses.into(), probed: None };
    namer.work(&mut VecDeque::from([wanted]), Duration::from_secs(60));
    let modules = namer.modules([1].into_iter());
    let own = |module: &crate::report::Module| module.label() == "server";
    modules.into_iter().find(own).unwrap()
}

#[test]
fn a_debug_file_is_found_by_build_id_also_for_a_deleted_program() {
    let mut placed = None;
    let server = Running::prepared("by-id", "gcc", SERVER_C, &["-Wl,--build-id"], |program| {
        let debug = program.with_extension("debug");
        split(program, &debug);
        placed = Some(Placed::new(&debug, by_build_id(program, Path::new("/"))));
        fs::remove_file(&debug).unwrap();
        Command::new(program)
    });
    fs::remove_file(server.folder.join("server")).unwrap();
    let mut namer = server.namer();
    assert_eq!(lines(&namer.name(server.pid(), &server.addresses[..3])), NAMED);
    let module = program_of(&server, &mut namer, &server.addresses[..3]);
    let found = (module.names, module.frames_without_name, module.why, module.help);
    assert_eq!(found, (Names::Full, 0, None, None));
    let id = module.build_id.unwrap();
    assert!(placed.unwrap().0.ends_with(format!("{}/{}.debug", &id[..2], &id[2..])));
}

#[test]
fn a_debug_file_of_another_build_is_not_used() {
    let mut placed = None;
    let server = Running::prepared("other-id", "gcc", SERVER_C, &["-Wl,--build-id"], |program| {
        // The same program, one line further down: everything else would match.
        let other = program.with_file_name("other");
        let source = program.with_file_name("other.c");
        fs::write(&source, SERVER_C.replace("#line 100", "int more = 1;\n#line 101")).unwrap();
        let option = ["-g", "-O2", "-Wl,--build-id", "-o", text(&other), text(&source)];
        tool("gcc", &option);
        let place = by_build_id(program, Path::new("/"));
        placed = Some(Placed::new(&other, place));
        tool("strip", &["-s", text(program)]);
        Command::new(program)
    });
    let mut namer = server.namer();
    assert_eq!(why(&namer.name(server.pid(), &server.addresses[..2])), [STRIPPED; 2]);
    let module = program_of(&server, &mut namer, &server.addresses[..2]);
    assert_eq!((module.names, module.frames_without_name), (Names::None, 2));
    assert_eq!(module.why.as_deref(), Some(STRIPPED));
    let place = placed.unwrap().0.display().to_string();
    let help = format!("build it with `-g` and do not strip it, or put its debug file at {place}");
    assert_eq!(module.help, Some(help));
}

#[test]
fn a_debug_link_is_followed_only_if_the_checksum_matches() {
    for (name, damaged) in [("link-right", false), ("link-wrong", true)] {
        let arguments = ["-Wl,--build-id=none"];
        let server = Running::prepared(name, "gcc", SERVER_C, &arguments, |program| {
            let folder = program.with_file_name(".debug");
            fs::create_dir_all(&folder).unwrap();
            let debug = folder.join("server.debug");
            split(program, &debug);
            tool("objcopy", &[&format!("--add-gnu-debuglink={}", text(&debug)), text(program)]);
            if damaged {
                // One more byte at its end: an ELF reader would not notice.
                let mut bytes = fs::read(&debug).unwrap();
                bytes.push(0);
                fs::write(&debug, bytes).unwrap();
            }
            Command::new(program)
        });
        let frames = server.namer().name(server.pid(), &server.addresses[..3]);
        if damaged {
            assert_eq!(why(&frames), [STRIPPED; 3]);
        } else {
            assert_eq!(lines(&frames), NAMED);
        }
    }
}

#[test]
fn a_debug_file_is_found_in_the_targets_root() {
    let arguments = ["-static", "-Wl,--build-id"];
    let server = Running::prepared("chroot", "gcc", SERVER_C, &arguments, |program| {
        let debug = program.with_extension("debug");
        split(program, &debug);
        let root = program.parent().unwrap();
        let place = by_build_id(program, root);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        // As the target sees it, this link is right; as we see it, it leads nowhere.
        fs::rename(&debug, root.join("kept")).unwrap();
        std::os::unix::fs::symlink("/kept", &place).unwrap();
        let mut command = Command::new("chroot");
        command.arg(root).arg("/server");
        command
    });
    let frames = server.namer().name(server.pid(), &server.addresses[..3]);
    assert_eq!(lines(&frames), NAMED);
}

#[test]
fn a_packed_symbol_table_names_what_stripping_took_away() {
    let server = Running::prepared("packed", "gcc", SERVER_C, &[], |program| {
        // As Fedora's build does it: everything but symbols is removed, the rest packed.
        let debug = program.with_extension("debug");
        split(program, &debug);
        let mini = program.with_extension("mini");
        tool("objcopy", &["-g", text(&debug), text(&mini)]);
        tool("xz", &[text(&mini)]);
        let section = format!(".gnu_debugdata={}.xz", text(&mini));
        tool("objcopy", &["--add-section", &section, text(program)]);
        Command::new(program)
    });
    let mut namer = server.namer();
    assert_eq!(lines(&namer.name(server.pid(), &server.addresses[..3])), SYMBOLS);
    let module = program_of(&server, &mut namer, &server.addresses[..3]);
    assert_eq!((module.names, module.frames_without_name), (Names::Symbols, 0));
}

#[test]
fn an_invalid_packed_symbol_table_is_ignored() {
    let server = Running::prepared("unpacked", "gcc", SERVER_C, &[], |program| {
        tool("strip", &["-s", text(program)]);
        let junk = program.with_extension("xz");
        fs::write(&junk, b"\xfd7zXZ\0 and no more").unwrap();
        let section = format!(".gnu_debugdata={}", text(&junk));
        tool("objcopy", &["--add-section", &section, text(program)]);
        Command::new(program)
    });
    let frames = server.namer().name(server.pid(), &server.addresses[..1]);
    assert_eq!(why(&frames), [STRIPPED]);
}

#[test]
fn a_program_of_debian_without_names_has_a_package_to_install() {
    let mut cat = Command::new("cat");
    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Only when it answers is it sure to be mapped: `spawn` returns during the exec.
    let mut answer = [0];
    child.stdin.as_ref().unwrap().write_all(b"?").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    let pid = Pid(child.id());
    let mappings = mappings::read(pid).unwrap();
    let cat = mappings.objects().into_iter().find(|object| object.path.ends_with("cat")).unwrap();
    let mut namer = Namer::new();
    namer.learn(pid, &mappings);
    let addresses = [cat.code.start + 0x100].into();
    namer.work(
        &mut VecDeque::from([Wanted { site: 1, pid, addresses, probed: None }]),
        Duration::from_secs(60),
    );
    drop(child.stdin.take());
    child.wait().unwrap();
    let modules = namer.modules([1].into_iter());
    let [module] = &modules[..] else { panic!("{modules:?}") };
    // dpkg is the reference.
    let owner = Command::new("dpkg-query").args(["-S", "/bin/cat"]).output().unwrap();
    let owner = String::from_utf8(owner.stdout).unwrap();
    let package = owner.split_once(':').unwrap().0;
    assert_eq!((module.frames_without_name, module.why.as_deref()), (1, Some(STRIPPED)));
    let help = module.help.as_deref().unwrap();
    let begin = format!("apt install {package}-dbgsym (Debian's debug archive), or put ");
    assert!(help.starts_with(&begin), "{help}");
    assert_eq!(module.path.as_deref(), cat.path.to_str());
}
