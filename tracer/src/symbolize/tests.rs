//! Real programs, compiled here, named while running and after their end.

mod debug_files;
mod elsewhere;
mod headlines;
mod jit;
mod tail;

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use super::{Namer, Wanted};
use crate::{
    report::Frame,
    target::{
        Pid,
        mappings::{self, Mappings},
    },
};

/// Prints return addresses, then waits for the end of its input.
const SERVER_C: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
static volatile int sink;
static void *seen[4];
__attribute__((noinline)) void note(int at) { seen[at] = __builtin_return_address(0); }
__attribute__((noinline, noreturn)) void print_and_wait(void) {
    note(2);
    char *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("%p %p %p %p %p %p %p\n", seen[0], seen[1], __builtin_return_address(0),
           (void *)(code + 8), (void *)(getauxval(AT_SYSINFO_EHDR) + 1024),
           (void *)((char *)&qsort + 4), (void *)seen);
    fflush(stdout);
    getchar();
    exit(0);
}
#line 100 "server.c"
static inline __attribute__((always_inline)) void inner(void) {
    note(0);
    sink++;
}
static inline __attribute__((always_inline)) void middle(void) {
    inner();
    sink++;
}
__attribute__((noinline)) void outer(void) {
    middle();
    sink++;
}
#line 200 "server.c"
__attribute__((noinline)) static void handle(void) {
    note(1);
    sink++;
}
__attribute__((noinline, noreturn)) static void ends_in_a_call(void) {
    print_and_wait();
}
int main(void) {
    outer();
    handle();
    ends_in_a_call();
}
"#;

const SERVER_CPP: &str = r#"
#include <cstdio>
static volatile int sink;
static void *seen;
__attribute__((noinline)) void note() { seen = __builtin_return_address(0); }
namespace {
__attribute__((noinline)) int local(int number) { note(); sink = number; return 1; }
}
namespace app {
struct Session {
    template <class T> __attribute__((noinline)) void on_open(T) { note(); sink = sink + 1; }
};
}
int main() {
    local(7);
    void *first = seen;
    app::Session().on_open(7);
    std::printf("%p %p\n", seen, first);
    std::fflush(stdout);
    std::getchar();
}
"#;

/// A folder with a program in it, and the program running.
struct Running {
    folder: PathBuf,
    child: Child,
    addresses: Vec<u64>,
}

/// Runs a tool that must succeed.
fn tool(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).status().unwrap();
    assert!(done.success(), "{program} {arguments:?}");
}

impl Running {
    fn start(name: &str, compiler: &str, source: &str, arguments: &[&str]) -> Self {
        Self::prepared(name, compiler, source, arguments, |program| Command::new(program))
    }

    /// The same, with a step between building and running; `prepare` returns the command to run.
    fn prepared(
        name: &str,
        compiler: &str,
        source: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let own = std::process::id();
        let folder = std::env::temp_dir().join(format!("leaktrace-symbolize-{name}-{own}"));
        fs::create_dir_all(&folder).unwrap();
        let extension = if compiler == "g++" { "cpp" } else { "c" };
        let file = folder.join("source").with_extension(extension);
        fs::write(&file, source).unwrap();
        let program = folder.join("server");
        let built = Command::new(compiler)
            .args(["-g", "-O2", "-fno-optimize-sibling-calls", "-o"])
            .arg(&program)
            .arg(&file)
            .args(arguments)
            .status();
        assert!(built.unwrap().success());
        let mut command = prepare(&program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
        let addresses = line.split_whitespace().map(hex).collect();
        Self { folder, child, addresses }
    }

    fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    fn mappings(&self) -> Mappings {
        mappings::read(self.pid()).unwrap()
    }

    fn namer(&self) -> Namer {
        let mut namer = Namer::new();
        namer.learn(self.pid(), &self.mappings());
        namer
    }

    fn end(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        fs::remove_dir_all(&self.folder).unwrap_or(());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `symbol file:line`, with `(inlined)` where it was.
fn lines(frames: &[Frame]) -> Vec<String> {
    let line = |frame: &Frame| {
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        format!("{} {}{inlined}", frame.label(), frame.source().unwrap_or_default())
    };
    frames.iter().map(line).collect()
}

fn why(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.why_unnamed.as_deref().unwrap_or("")).collect()
}

const NAMED: [&str; 5] = [
    "inner server.c:101 (inlined)",
    "middle server.c:105 (inlined)",
    "outer server.c:109",
    "handle server.c:201",
    "ends_in_a_call server.c:205",
];

#[test]
fn functions_lines_and_inlined_levels_are_named() {
    let server = Running::start("names", "gcc", SERVER_C, &[]);
    let addresses = &server.addresses[..3];
    let frames = server.namer().name(server.pid(), addresses);
    assert_eq!(lines(&frames), NAMED);
    for (frame, address) in frames.iter().zip([0, 0, 0, 1, 2]) {
        assert_eq!(frame.address.0, addresses[address]);
        assert_eq!(frame.module.as_deref(), server.folder.join("server").to_str());
        assert_eq!(frame.why_unnamed, None);
        assert_eq!(frame.offset.is_none(), frame.inlined);
    }
    // The reported address is the true one, although the one before it was looked up: both offsets move alike.
    let base = |frame: usize, address: usize| {
        addresses[address].wrapping_sub(frames[frame].module_offset.unwrap())
    };
    assert_eq!(base(2, 0), base(3, 1));
    assert_eq!(base(2, 0) % 4096, 0);
}

#[test]
fn a_namer_that_read_the_mappings_needs_neither_process_nor_file() {
    let mut server = Running::start("dead", "gcc", SERVER_C, &[]);
    let mut namer = server.namer();
    let pid = server.pid();
    fs::remove_file(server.folder.join("server")).unwrap();
    server.end();
    assert_eq!(lines(&namer.name(pid, &server.addresses[..3])), NAMED);
    // It also keeps mappings that have gone.
    namer.learn(pid, &Mappings::default());
    assert_eq!(lines(&namer.name(pid, &server.addresses[..3])), NAMED);
}

#[test]
fn a_file_deleted_before_it_was_opened_is_named() {
    let server = Running::start("deleted", "gcc", SERVER_C, &[]);
    fs::remove_file(server.folder.join("server")).unwrap();
    let frames = server.namer().name(server.pid(), &server.addresses[..3]);
    assert_eq!(lines(&frames), NAMED);
    assert_eq!(frames[0].module.as_deref(), server.folder.join("server").to_str());
}

#[test]
fn unnamed_memory_has_a_reason() {
    let server = Running::start("why", "gcc", SERVER_C, &[]);
    let [_, _, _, code, vdso, libc, data] = server.addresses[..] else { panic!() };
    let frames = server.namer().name(server.pid(), &[code, vdso, data, 0x10, libc]);
    assert_eq!(
        why(&frames),
        [
            "JIT (anonymous executable memory) without a perf map",
            "stripped to its exported functions, and no debug file was found",
            "not in executable memory",
            "not in any mapping",
            "",
        ]
    );
    assert!(frames[4].symbol.as_deref().unwrap().contains("qsort"), "{:?}", frames[4]);
    assert_eq!(frames[4].offset, Some(4));
    assert!(frames[4].module.as_deref().unwrap().contains("/libc.so"));
    assert_eq!(frames[1].module.as_deref(), Some("[vdso]"));
    assert_eq!((frames[0].module.as_deref(), frames[0].module_offset), (None, None));
}

#[test]
fn a_stripped_program_has_offsets_and_a_reason() {
    let server = Running::start("stripped", "gcc", SERVER_C, &["-s"]);
    let frames = server.namer().name(server.pid(), &server.addresses[..2]);
    let reason = "stripped, and no debug file was found";
    assert_eq!(why(&frames), [reason, reason]);
    for frame in frames.iter() {
        let offset = frame.module_offset.unwrap();
        assert_eq!(frame.label(), format!("server+{offset:#x}"));
        // The offset is a file offset: the code that ran is there.
        let size = fs::metadata(server.folder.join("server")).unwrap().len();
        assert!(offset > 0 && offset < size);
    }
}

#[test]
fn a_program_with_a_symbol_table_only_has_names_without_lines() {
    let server = Running::start("symtab", "gcc", SERVER_C, &["-g0"]);
    let frames = server.namer().name(server.pid(), &server.addresses[..3]);
    assert_eq!(lines(&frames), ["outer ", "handle ", "ends_in_a_call "]);
}

#[test]
fn a_debug_link_to_another_build_costs_the_lines_not_the_names() {
    let server = Running::start("link", "gcc", SERVER_C, &["-g0"]);
    let program = server.folder.join("server");
    let link = server.folder.join("server.debug");
    fs::write(&link, b"of another build").unwrap();
    let linked = server.folder.join("linked");
    let option = format!("--add-gnu-debuglink={}", link.display());
    tool("objcopy", &[&option, text(&program), text(&linked)]);
    // Other content, same length: the checksum in the link is wrong.
    fs::write(&link, b"of a third build").unwrap();
    let mut namer = Namer::new();
    let mut moved_text = Vec::new();
    for mapping in server.mappings().iter().filter(|found| found.path.as_ref() == Some(&program)) {
        let mut mapping = mapping.clone();
        // A mapping without a kernel link: the path is used.
        mapping.path = Some(linked.clone());
        (mapping.start, mapping.end) = (mapping.start + 1, mapping.end + 1);
        moved_text.push(mapping);
    }
    namer.learn(server.pid(), &moved_text.into_iter().collect());
    let moved: Vec<u64> = server.addresses[..3].iter().map(|address| address + 1).collect();
    let frames = namer.name(server.pid(), &moved);
    assert_eq!(lines(&frames), ["outer ", "handle ", "ends_in_a_call "]);
}

#[test]
fn an_invalid_or_missing_object_has_a_reason() {
    let server = Running::start("gone", "gcc", SERVER_C, &[]);
    let pid = server.pid();
    let fake = |path: &str| {
        let line = format!("1000-2000 r-xp 00000000 08:01 7 {path}\n");
        let mut namer = Namer::new();
        namer.learn(pid, &Mappings::parse(line.as_bytes()));
        why(&namer.name(pid, &[0x1010]))[0].to_owned()
    };
    let help = |path: &str| {
        let line = format!("1000-2000 r-xp 00000000 08:01 7 {path}\n");
        let mut namer = Namer::new();
        namer.learn(pid, &Mappings::parse(line.as_bytes()));
        let wanted = Wanted { site: 1, pid, addresses: [0x1010].into(), probed: None };
        namer.work(&mut VecDeque::from([wanted]), Duration::from_secs(60));
        let modules = namer.modules([1].into_iter());
        assert_eq!((modules.len(), modules[0].path.as_deref()), (1, Some(path)));
        modules[0].help.clone().unwrap()
    };
    let gone = help("/nosuch/libgone.so");
    assert_eq!(gone, "run leaktrace as root, and start it while the file is still there");
    let text = help(server.folder.join("source.c").to_str().unwrap());
    assert_eq!(text, "nothing: its file is no object that can be read");
    let gone = fake("/nosuch/libgone.so (deleted)");
    assert_eq!(gone, "object file is not readable: No such file or directory (os error 2)");
    let text = fake(server.folder.join("source.c").to_str().unwrap());
    assert!(text.starts_with("object file is not readable: "), "{text}");
    let device = fake("/dev/zero");
    assert_eq!(device, "object file is not readable: not a regular file");
}

#[test]
fn names_of_c_plus_plus_are_demangled() {
    let server = Running::start("cpp", "g++", SERVER_CPP, &[]);
    let frames = server.namer().name(server.pid(), &server.addresses);
    assert_eq!(frames[0].symbol.as_deref(), Some("void app::Session::on_open<int>(int)"));
    assert_eq!(frames[0].source().as_deref(), Some("source.cpp:11"));
    // Its debug information has only `local`.
    assert_eq!(frames[1].symbol.as_deref(), Some("(anonymous namespace)::local(int)"));
}

#[test]
fn poor_debug_information_is_completed_from_the_symbol_table() {
    let server = Running::start("cpp-g1", "g++", SERVER_CPP, &["-g1"]);
    let frames = server.namer().name(server.pid(), &server.addresses);
    assert_eq!(frames[0].symbol.as_deref(), Some("void app::Session::on_open<int>(int)"));
    assert_eq!(frames[1].symbol.as_deref(), Some("(anonymous namespace)::local(int)"));
}

#[test]
#[inline(never)]
fn names_of_rust_are_demangled() {
    let own = Pid::own();
    let here = names_of_rust_are_demangled as fn() as usize as u64 + 1;
    let mut namer = Namer::new();
    namer.learn(own, &mappings::read(own).unwrap());
    let frames = namer.name(own, &[here]);
    let symbol = frames.last().unwrap().symbol.as_deref().unwrap();
    assert_eq!(symbol, "leaktrace::symbolize::tests::names_of_rust_are_demangled");
}

#[test]
fn a_queue_is_processed_within_its_budget_and_names_follow_later() {
    let server = Running::start("queue", "gcc", SERVER_C, &[]);
    let pid = server.pid();
    let mut namer = server.namer();
    let addresses: Arc<[u64]> = server.addresses[..3].into();
    let mut queue: VecDeque<Wanted> = (1..=3)
        .map(|site| Wanted { site, pid, addresses: Arc::clone(&addresses), probed: None })
        .collect();
    assert_eq!(namer.lookup(1), None);
    let frames = namer.unnamed(pid, &addresses);
    assert_eq!(why(&frames), ["not looked up yet"; 3]);
    assert!(frames[0].label().starts_with("server+0x"));
    // No budget: one address each time, the rest stays in the queue.
    assert_eq!((namer.work(&mut queue, Duration::ZERO), queue.len()), (0, 3));
    assert_eq!(why(&namer.unnamed(pid, &addresses))[3..], ["not looked up yet"; 2]);
    assert_eq!((namer.work(&mut queue, Duration::ZERO), queue.len()), (0, 3));
    assert_eq!((namer.work(&mut queue, Duration::ZERO), queue.len()), (1, 2));
    assert_eq!(lines(&namer.lookup(1).unwrap()), NAMED);
    assert_eq!((namer.work(&mut queue, Duration::from_secs(60)), queue.len()), (2, 0));
    assert_eq!(lines(&namer.lookup(3).unwrap()), NAMED);
}

#[test]
fn a_site_in_unknown_memory_is_named_once_the_memory_is_known() {
    let server = Running::start("late", "gcc", SERVER_C, &[]);
    let pid = server.pid();
    let mut namer = Namer::new();
    let addresses: Arc<[u64]> = server.addresses[1..2].into();
    let queue = || {
        VecDeque::from([Wanted { site: 1, pid, addresses: Arc::clone(&addresses), probed: None }])
    };
    namer.work(&mut queue(), Duration::from_secs(60));
    assert_eq!(why(&namer.lookup(1).unwrap()), ["not in any mapping"]);
    namer.learn(pid, &server.mappings());
    assert_eq!(namer.lookup(1), None);
    namer.work(&mut queue(), Duration::from_secs(60));
    assert_eq!(lines(&namer.lookup(1).unwrap()), ["handle server.c:201"]);
}

#[test]
fn processes_share_objects() {
    let one = Running::start("share-one", "gcc", SERVER_C, &[]);
    let two = Running::start("share-two", "gcc", SERVER_C, &[]);
    let mut namer = one.namer();
    let before = namer.memories[&one.pid()].files.len();
    namer.learn(two.pid(), &two.mappings());
    let objects: std::collections::HashSet<_> =
        namer.memories.values().flat_map(|memory| memory.files.values()).collect();
    // Each has its own executable; they share libc and the loader.
    assert_eq!(objects.len(), before + 1);
}
