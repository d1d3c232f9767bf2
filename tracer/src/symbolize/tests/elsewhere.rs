//! Files that are not at their path: replaced, or in another mount namespace; and the vdso.

use std::os::unix::fs::FileExt as _;

use object::{Object as _, ObjectSymbol as _};

use super::*;

const LIBRARY_C: &str = r"
static volatile int sink;
void note_caller(void);
__attribute__((noinline)) static void FUNCTION(void) {
    note_caller();
    sink++;
}
void enter(void) {
    FUNCTION();
    sink++;
}
";

const CALLER_C: &str = r#"
#include <stdio.h>
static void *seen;
void note_caller(void) { seen = __builtin_return_address(0); }
void enter(void);
int main(void) {
    enter();
    printf("%p\n", seen);
    fflush(stdout);
    getchar();
}
"#;

fn library(folder: &Path, file: &str, function: &str) -> PathBuf {
    let source = folder.join("library.c");
    fs::write(&source, LIBRARY_C.replace("FUNCTION", function)).unwrap();
    let library = folder.join(file);
    let define = ["-g", "-O2", "-fPIC", "-shared", "-fno-optimize-sibling-calls", "-o"];
    let mut arguments = define.to_vec();
    arguments.extend([text(&library), text(&source)]);
    tool("gcc", &arguments);
    library
}

fn library_folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("leaktrace-library-{name}-{}", std::process::id()))
}

/// A program that uses `libvictim.so` in a folder of its own.
fn with_library(name: &str, prepare: impl FnOnce(&Path) -> Command) -> Running {
    let folder = library_folder(name);
    fs::create_dir_all(&folder).unwrap();
    let library = library(&folder, "libvictim.so", "the_right_one");
    let path = format!("-Wl,-rpath,{}", text(&folder));
    let arguments = ["-rdynamic", text(&library), &path];
    Running::prepared(name, "gcc", CALLER_C, &arguments, prepare)
}

#[test]
fn a_library_replaced_after_the_start_keeps_its_own_names() {
    let server = with_library("replaced", |program| Command::new(program));
    let folder = library_folder("replaced");
    // Another build is now at the path that the target mapped.
    let other = library(&folder, "other.so", "the_wrong_one");
    fs::rename(other, folder.join("libvictim.so")).unwrap();
    let frames = server.namer().name(server.pid(), &server.addresses);
    assert_eq!(lines(&frames), ["the_right_one library.c:5"]);
    assert_eq!(frames[0].module.as_deref(), folder.join("libvictim.so").to_str());
    drop(server);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_program_in_a_mount_namespace_of_its_own_is_named() {
    let server = Running::prepared("unshared", "gcc", SERVER_C, &[], |program| {
        // In its own namespace the program is where we have nothing.
        let script = "mount -t tmpfs none /mnt && cp \"$1\" /mnt/server && exec /mnt/server";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(program);
        command
    });
    assert!(!Path::new("/mnt/server").exists());
    let frames = server.namer().name(server.pid(), &server.addresses[..3]);
    assert_eq!(lines(&frames), NAMED);
    assert_eq!(frames[0].module.as_deref(), Some("/mnt/server"));
}

#[test]
fn a_library_hidden_by_a_mount_is_named() {
    let server = with_library("hidden", |program| {
        let mut command = Command::new("unshare");
        command.args(["-m", "--"]).arg(program);
        command
    });
    let folder = library_folder("hidden");
    // The target's namespace has nothing at the path any more, and ours has another file.
    let pid = server.pid().to_string();
    tool("nsenter", &["-t", &pid, "-m", "mount", "-t", "tmpfs", "none", text(&folder)]);
    let lie = library(&folder, "lie.so", "the_wrong_one");
    fs::rename(lie, folder.join("libvictim.so")).unwrap();
    assert!(!Path::new(&format!("/proc/{pid}/root{}/libvictim.so", text(&folder))).exists());
    let frames = server.namer().name(server.pid(), &server.addresses);
    assert_eq!(lines(&frames), ["the_right_one library.c:5"]);
    drop(server);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_program_in_a_chroot_is_named() {
    let server = Running::prepared("jailed", "gcc", SERVER_C, &["-static"], |program| {
        let mut command = Command::new("chroot");
        command.arg(program.parent().unwrap()).arg("/server");
        command
    });
    let frames = server.namer().name(server.pid(), &server.addresses[..3]);
    assert_eq!(lines(&frames), NAMED);
}

#[test]
fn functions_of_the_vdso_are_named_from_its_image() {
    // The reference is another reader's view of our own vdso.
    let own = Pid::own();
    let mappings = mappings::read(own).unwrap();
    let special = |mapping: &&mappings::Mapping| mapping.special.as_deref() == Some("[vdso]");
    let vdso = mappings.iter().find(special).unwrap();
    let mut image = vec![0; usize::try_from(vdso.end - vdso.start).unwrap()];
    fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut image, vdso.start).unwrap();
    let elf = object::File::parse(&*image).unwrap();
    let mut namer = Namer::new();
    namer.learn(own, &mappings);
    let mut checked = 0;
    for symbol in elf.dynamic_symbols().filter(|symbol| symbol.size() > 8) {
        let frames = namer.name(own, &[vdso.start + symbol.address() + 5]);
        let [frame] = &frames[..] else { panic!("{frames:?}") };
        // Some have two names.
        let same = |other: &object::Symbol<'_, '_, _>| other.address() == symbol.address();
        let names: Vec<&str> =
            elf.dynamic_symbols().filter(same).map(|symbol| symbol.name().unwrap()).collect();
        assert!(names.contains(&frame.symbol.as_deref().unwrap()), "{names:?} {frame:?}");
        assert_eq!((frame.module.as_deref(), frame.offset), (Some("[vdso]"), Some(5)));
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}
