//! Headline frames in whole stacks of real programs: through a C++ and a Rust standard library.
//!
//! The programs replace `malloc` by one that, on request, records the stack of its call (unwound by the compiler's
//! own library, so through every frame) and prints it behind the name of the function that must be the headline.

use super::*;
use crate::symbolize::call_site::headline;

/// Records a stack; the same for both languages.
const NOTING_C: &str = r#"
#define _GNU_SOURCE
#include <execinfo.h>
#include <stdio.h>
#include <stddef.h>
void *__libc_malloc(size_t);
void *__libc_realloc(void *, size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_memalign(size_t, size_t);
static __thread const char *expected;
static void note(void *caller) {
    const char *who = expected;
    void *stack[64];
    if (!who)
        return;
    expected = NULL;
    int depth = backtrace(stack, 64), level = 0;
    /* From the caller of malloc on. */
    while (level < depth && stack[level] != caller)
        level++;
    printf("%s", who);
    for (; level < depth; level++)
        printf(" %p", stack[level]);
    printf("\n");
}
#define NOTE note(__builtin_extract_return_addr(__builtin_return_address(0)))
void *malloc(size_t size) { NOTE; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { NOTE; return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { NOTE; return __libc_realloc(old, size); }
void *aligned_alloc(size_t to, size_t size) { NOTE; return __libc_memalign(to, size); }
int posix_memalign(void **at, size_t to, size_t size) { NOTE; *at = __libc_memalign(to, size); return 0; }
/* The next allocation is to be noted; the function that makes it is `who`. */
void expect(const char *who) {
    void *warm[2];
    backtrace(warm, 2);
    expected = who;
}
void done(void) { printf("end\n"); fflush(stdout); getchar(); }
"#;

const CASES_CPP: &str = r#"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
extern "C" void expect(const char *);
extern "C" void done(void);
volatile unsigned long sink;
#define APP __attribute__((noinline, noclone))
template <class T> void keep(T &&value) { sink = sink + reinterpret_cast<unsigned long>(&value); asm volatile("" ::: "memory"); }
struct Session { char bytes[200]; };
struct alignas(64) Wide { char bytes[128]; };
namespace app {
APP void plain_new() { expect(__func__); keep(*new Session); sink = sink + 1; }
APP void array_new() { expect(__func__); keep(*new int[100]); sink = sink + 1; }
APP void nothrow_new() { expect(__func__); keep(*new (std::nothrow) Session); sink = sink + 1; }
APP void aligned_new() { expect(__func__); keep(*new Wide); sink = sink + 1; }
APP void vector_growth(std::vector<Session> &all) { expect(__func__); all.push_back(Session()); sink = sink + 1; }
APP void vector_emplace(std::vector<Session> &all) { expect(__func__); all.emplace_back(); sink = sink + 1; }
APP void vector_reserve(std::vector<int> &all) { expect(__func__); all.reserve(300); sink = sink + 1; }
APP void vector_resize(std::vector<int> &all) { expect(__func__); all.resize(900); sink = sink + 1; }
APP void vector_copy(const std::vector<int> &all) { expect(__func__); keep(*new std::vector<int>(all)); sink = sink + 1; }
APP void vector_insert(std::vector<int> &all) { expect(__func__); all.insert(all.begin(), all.size() + 100, 7); sink = sink + 1; }
APP void string_growth(std::string &text) { expect(__func__); text.append(500, 'x'); sink = sink + 1; }
APP void string_push(std::string &text) { expect(__func__); text.push_back('x'); sink = sink + 1; }
APP void string_plus(std::string &text) { expect(__func__); keep(text + text); sink = sink + 1; }
APP void string_made(const char *text) { expect(__func__); keep(std::string(text)); sink = sink + 1; }
APP void shared() { expect(__func__); keep(std::make_shared<Session>()); sink = sink + 1; }
APP void unique() { expect(__func__); keep(*std::make_unique<Session>().release()); sink = sink + 1; }
APP void map_insert(std::map<int, Session> &all) { expect(__func__); all[7] = Session(); sink = sink + 1; }
APP void set_insert(std::set<std::string> &all) { expect(__func__); all.emplace("x"); sink = sink + 1; }
APP void hash_insert(std::unordered_map<int, int> &all) { expect(__func__); all[1] = 2; sink = sink + 1; }
APP void list_insert(std::list<Session> &all) { expect(__func__); all.emplace_back(); sink = sink + 1; }
APP void deque_made() { expect(__func__); keep(*new std::deque<Session>(3)); sink = sink + 1; }
APP void function_made(const Session &held) { expect(__func__); keep(std::function<void()>([held] { keep(held.bytes[3]); })); sink = sink + 1; }
APP void stream_made(std::ostringstream &out) { expect(__func__); out << "a text that is far too long for any small buffer " << 7; sink = sink + 1; }
APP void stable_sorted(std::vector<int> &all) { expect(__func__); std::stable_sort(all.begin(), all.end()); sink = sink + 1; }
APP void from_a_pool(std::pmr::memory_resource &pool) { expect(__func__); keep(*static_cast<char *>(pool.allocate(5000))); sink = sink + 1; }
APP void thread_made() { expect(__func__); std::thread([] { sink = 4; }).join(); sink = sink + 1; }
APP void duplicated(const char *text) { expect(__func__); keep(*strdup(text)); sink = sink + 1; }
template <class T> APP std::vector<T> template_made(const std::vector<T> &all) { expect("template_made"); return std::vector<T>(all); }
struct Server {
    std::vector<std::unique_ptr<Session>> sessions;
    APP void on_open() { expect(__func__); sessions.push_back(std::make_unique<Session>()); sink = sink + 1; }
};
APP void for_every(std::vector<int> &all) {
    // The loop is the library's, what it does is ours.
    std::for_each(all.begin(), all.begin() + 1, [](int) __attribute__((noinline)) { expect("operator()"); keep(*new Session); sink = sink + 1; });
}
APP void called_back(const std::function<void()> &call) { call(); sink = sink + 1; }
}
int main() {
    using namespace app;
    std::vector<Session> sessions;
    std::vector<int> numbers;
    std::map<int, Session> map;
    std::set<std::string> set;
    std::unordered_map<int, int> hash;
    std::list<Session> list;
    std::string text, short_text(15, 'y');
    std::ostringstream out;
    std::pmr::unsynchronized_pool_resource pool;
    Session held{};
    Server server;
    plain_new(); array_new(); nothrow_new(); aligned_new();
    vector_growth(sessions); vector_emplace(sessions);
    vector_reserve(numbers); vector_resize(numbers); vector_copy(numbers); vector_insert(numbers);
    string_growth(text); string_push(short_text); string_plus(text); string_made(text.c_str());
    shared(); unique(); map_insert(map); set_insert(set); hash_insert(hash); list_insert(list);
    deque_made(); function_made(held); stream_made(out); stable_sorted(numbers); from_a_pool(pool);
    thread_made(); duplicated("text"); keep(template_made(numbers)); server.on_open(); for_every(numbers);
    called_back([] () __attribute__((noinline)) { expect("operator()"); keep(*new Session); sink = sink + 1; });
    done();
}
"#;

const CASES_RS: &str = r#"
use std::{collections::{BTreeMap, HashMap, HashSet, VecDeque}, ffi::CString, hint::black_box, rc::Rc, sync::Arc};
unsafe extern "C" { fn expect(who: *const std::ffi::c_char); fn done(); }
fn next(who: &'static std::ffi::CStr) { unsafe { expect(who.as_ptr()) } }
#[derive(Clone)]
pub struct Session { pub bytes: [u8; 200], pub name: String }
pub mod app {
    use super::*;
    macro_rules! cases { ($($name:ident ($($argument:ident: $kind:ty),*) $body:block)*) => { $(
        #[inline(never)] pub fn $name($($argument: $kind),*) {
            next(std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()).unwrap());
            black_box($body);
        } )* } }
    cases! {
        boxed() { Box::leak(Box::new([7_u64; 30])) }
        boxed_slice(all: &[u64]) { Box::<[u64]>::from(all) }
        vec_push(all: &mut Vec<u64>) { all.push(1) }
        vec_with_capacity() { Vec::<u8>::with_capacity(black_box(100)) }
        vec_zeroed(count: usize) { vec![0_u8; count] }
        vec_filled(count: usize) { vec![7_u32; count] }
        vec_reserve(all: &mut Vec<u64>) { all.reserve(5000) }
        vec_extended(all: &mut Vec<u64>) { all.extend(0..10_000) }
        vec_from_slice(all: &[u64]) { all.to_vec() }
        collected(count: u64) { (0..count).map(|number| number * 3).collect::<Vec<u64>>() }
        filtered(all: &[u64]) { all.iter().filter(|number| **number != 5).copied().collect::<Vec<u64>>() }
        string_made(text: &str) { text.to_owned() }
        string_shown(number: u64) { number.to_string() }
        string_pushed(text: &mut String) { text.push_str("more than there is room for") }
        formatted(number: u64) { format!("session {number} is open") }
        joined(all: &[String]) { all.join(", ") }
        repeated(text: &str) { text.repeat(9) }
        cloned(all: &Vec<Vec<u64>>) { all.clone() }
        counted() { Rc::new([1_u64; 9]) }
        shared(text: &str) { Arc::<str>::from(text) }
        hash_inserted(all: &mut HashMap<u64, u64>) { all.insert(1, 2) }
        set_inserted(all: &mut HashSet<u64>) { all.insert(1) }
        tree_inserted(all: &mut BTreeMap<u64, u64>) { all.insert(1, 2) }
        queue_pushed(all: &mut VecDeque<u64>) { all.push_back(1) }
        c_text(text: &str) { CString::new(text).unwrap() }
        aligned() { Box::new(Wide([0; 256])) }
    }
    #[repr(align(64))] pub struct Wide(pub [u8; 256]);
    pub struct Server { pub sessions: Vec<Session> }
    impl Server {
        #[inline(never)] pub fn on_open(&mut self, session: Session) { next(c"on_open"); self.sessions.push(session); black_box(()); }
    }
    pub struct Named(pub Vec<u64>);
    impl Clone for Named {
        #[inline(never)] fn clone(&self) -> Self { next(c"clone"); let made = Named(self.0.clone()); black_box(()); made }
    }
    impl std::fmt::Display for Named {
        #[inline(never)] fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { next(c"fmt"); black_box(self.0.clone()); out.write_str("x") }
    }
    #[inline(never)] pub fn called_back(call: &dyn Fn()) { call() }
}
use app::*;
fn main() {
    let numbers: Vec<u64> = (0..100).collect();
    boxed(); boxed_slice(&numbers); vec_push(&mut Vec::new()); vec_with_capacity(); vec_zeroed(black_box(90)); vec_filled(black_box(90));
    vec_reserve(&mut vec![1]); vec_extended(&mut vec![1]); vec_from_slice(&numbers); collected(black_box(50)); filtered(&numbers);
    string_made(black_box("text")); string_shown(black_box(7)); string_pushed(&mut "x".to_string()); formatted(black_box(7));
    joined(&["a".to_string(), "b".to_string()]); repeated(black_box("text")); cloned(&vec![numbers.clone()]); counted(); shared(black_box("text"));
    hash_inserted(&mut HashMap::new()); set_inserted(&mut HashSet::new()); tree_inserted(&mut BTreeMap::new()); queue_pushed(&mut VecDeque::new());
    c_text(black_box("text")); aligned();
    let session = Session { bytes: [0; 200], name: String::new() };
    Server { sessions: Vec::new() }.on_open(session.clone());
    black_box(vec![Named(numbers.clone())].clone());
    black_box(Named(numbers.clone()).to_string());
    called_back(&|| { next(c"{{closure}}"); black_box(Box::new([3_u64; 40])); });
    unsafe { done() }
}
"#;

/// One stack each: the expected function, and the addresses.
fn stacks(child: &mut Child) -> Vec<(String, Vec<u64>)> {
    let mut stacks = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "end" {
            break;
        }
        let mut words = line.split(' ');
        let who = words.next().unwrap().to_owned();
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
        stacks.push((who, words.map(hex).collect()));
    }
    stacks
}

/// Compiles, runs, and compares every headline; returns how many there were.
fn check(name: &str, compiler: &str, source: &str, arguments: &[&str]) -> usize {
    let own = std::process::id();
    let folder = std::env::temp_dir().join(format!("leaktrace-headlines-{name}-{own}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("noting.c"), NOTING_C).unwrap();
    let noting = folder.join("noting.o");
    tool(
        "gcc",
        &["-O2", "-c", "-fexceptions", "-o", text(&noting), text(&folder.join("noting.c"))],
    );
    let file = folder.join(if compiler == "rustc" { "app.rs" } else { "app.cpp" });
    fs::write(&file, source).unwrap();
    let program = folder.join("app");
    let link = format!("link-arg={}", text(&noting));
    let mut all = vec![text(&file), "-o", text(&program)];
    all.extend(arguments);
    if compiler == "rustc" {
        all.extend(["-C", &link]);
    } else {
        all.push(text(&noting));
    }
    tool(compiler, &all);
    let mut child =
        Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stacks = stacks(&mut child);
    let pid = Pid(child.id());
    let mut namer = Namer::new();
    namer.learn(pid, &mappings::read(pid).unwrap());
    let mut wrong = Vec::new();
    for (who, addresses) in &stacks {
        let frames = namer.name(pid, addresses);
        let asked = headline(&frames);
        let symbol = frames[asked].symbol.as_deref().unwrap_or("");
        let plain = crate::symbolize::call_site::plain_name(symbol);
        // The plain name of a lambda is that of its enclosing function.
        let last = format!("::{who}");
        if plain.rsplit("::").next() != Some(who)
            && !symbol.contains(&format!("{last}("))
            && !symbol.ends_with(&last)
        {
            let shown: Vec<String> = lines(&frames);
            wrong.push(format!("{who}: headline {asked} of\n  {}", shown.join("\n  ")));
        }
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), stacks.len(), wrong.join("\n"));
    stacks.len()
}

const CPP_CASES: usize = 31;
const RUST_CASES: usize = 30;

#[test]
fn the_headline_is_in_the_application_not_the_cpp_library() {
    // With and without inlined functions, with debug information and without.
    for (name, options) in
        [("cpp-o2", ["-O2", "-g"]), ("cpp-o0", ["-O0", "-g"]), ("cpp-g0", ["-O2", "-g0"])]
    {
        let mut arguments = vec!["-std=c++17", "-fno-optimize-sibling-calls"];
        arguments.extend(options);
        assert_eq!(check(name, "g++", CASES_CPP, &arguments), CPP_CASES, "{name}");
    }
}

#[test]
fn the_headline_is_in_the_application_not_the_rust_library() {
    for (name, options) in [
        ("rust-o", ["-Copt-level=2", "-Cdebuginfo=2"]),
        ("rust-debug", ["-Copt-level=0", "-Cdebuginfo=2"]),
        ("rust-bare", ["-Copt-level=2", "-Cdebuginfo=0"]),
    ] {
        let mut arguments = vec!["--edition=2024"];
        arguments.extend(options);
        assert_eq!(check(name, "rustc", CASES_RS, &arguments), RUST_CASES, "{name}");
    }
}
