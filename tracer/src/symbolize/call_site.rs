//! Selects the headline frame of a call site: the frame that "asked" for the resource.
//!
//! Takes named frames, innermost first, returns an index. A stack begins at the allocator's caller, which often only
//! forwards the request: `operator new`, a container, a string, `strdup`, a library's own `malloc`. The reader wants
//! the first function beyond this plumbing. One table lists what counts as plumbing, each entry with a reason; pure.

use crate::{format::file_name, report::Frame};

/// How a plumbing frame is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plumbing {
    /// The function has exactly this name (without template arguments, parameters, return type).
    Name(&'static str),
    /// Its name has this prefix.
    Prefix(&'static str),
    /// Its name has this suffix.
    Suffix(&'static str),
    /// It lives in an object whose file name has this prefix.
    Module(&'static str),
    /// Its source path contains this.
    Source(&'static str),
}

use Plumbing::{Module, Name, Prefix, Source, Suffix};

/// Code that only forwards requests for memory, each entry with the reason.
const TABLE: &[(Plumbing, &str)] = &[
    (Name("operator new"), "C++ allocation function"),
    (Name("operator new[]"), "C++ allocation function"),
    (Prefix("_Znw"), "C++ allocation function, not demangled"),
    (Prefix("_Zna"), "C++ allocation function, not demangled"),
    (Prefix("_ZSt"), "a function of namespace std whose name is too new for the demangler"),
    (Prefix("_ZNSt"), "the same"),
    (Prefix("_ZNKSt"), "the same"),
    (
        Source("/include/c++/"),
        "templates of the C++ library: inlined ones may lack their namespace",
    ),
    (Source("/lib/rustlib/src/rust/library/"), "Rust's libraries, when their source is installed"),
    (Source("/rustc/"), "Rust's libraries, when it is not"),
    (Prefix("std::"), "standard library of C++ or Rust: containers, strings, smart pointers"),
    (Prefix("__gnu_cxx::"), "allocators of libstdc++"),
    (Suffix("::allocate"), "the function of a C++ allocator that containers call"),
    (Suffix("::do_allocate"), "the same of a memory resource"),
    (Prefix("alloc::"), "Rust's allocating library: Vec, Box, String"),
    (Prefix("core::"), "Rust's core library: iterators, closures' calls"),
    (Prefix("hashbrown::"), "the hash table behind Rust's HashMap"),
    (Prefix("__rust_"), "Rust's allocator entry points"),
    (Prefix("__rustc::"), "the same, as newer compilers name them"),
    (Prefix("__rdl_"), "Rust's default allocator"),
    (Prefix("__rg_"), "Rust's chosen global allocator"),
    (Name("thrd_create"), "C11's start of a thread"),
    (Name("uv_thread_create"), "libuv's start of a thread"),
    (Name("uv_thread_create_ex"), "libuv's start of a thread"),
    (Prefix("g_thread_new"), "GLib's start of a thread"),
    (Prefix("g_thread_try_new"), "GLib's start of a thread"),
    (Prefix("g_system_thread_new"), "GLib's start of a thread"),
    (Name("malloc"), "an allocator linked into the program"),
    (Name("calloc"), "an allocator linked into the program"),
    (Name("realloc"), "an allocator linked into the program"),
    (Name("strdup"), "a copy for its caller"),
    (Name("strndup"), "a copy for its caller"),
    (Name("asprintf"), "a text for its caller"),
    (Name("vasprintf"), "a text for its caller"),
    (Name("getline"), "a line for its caller"),
    (Name("getdelim"), "a line for its caller"),
    (Prefix("event_mm_"), "libevent's allocation functions"),
    (Prefix("evutil_mm_"), "libevent's allocation functions"),
    (Prefix("CRYPTO_malloc"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_zalloc"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_calloc"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_realloc"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_clear_realloc"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_aligned_alloc"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_strdup"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_strndup"), "OpenSSL's allocation functions"),
    (Prefix("CRYPTO_memdup"), "OpenSSL's allocation functions"),
    (Prefix("g_malloc"), "GLib's allocation functions"),
    (Prefix("g_try_malloc"), "GLib's allocation functions"),
    (Prefix("g_realloc"), "GLib's allocation functions"),
    (Prefix("g_try_realloc"), "GLib's allocation functions"),
    (Prefix("g_slice_"), "GLib's allocation functions"),
    (Prefix("g_strdup"), "GLib's copies for their caller"),
    (Name("g_strndup"), "GLib's copies for their caller"),
    (Prefix("g_memdup"), "GLib's copies for their caller"),
    (Name("xmalloc"), "the usual name of a malloc that does not fail"),
    (Name("xcalloc"), "the same"),
    (Name("xzalloc"), "the same"),
    (Name("xrealloc"), "the same"),
    (Name("xreallocarray"), "the same"),
    (Name("xstrdup"), "the same"),
    (Name("xstrndup"), "the same"),
    (Name("xmemdup"), "the same"),
    (Name("xasprintf"), "the same"),
    (Prefix("zmalloc"), "a server's counted malloc"),
    (Prefix("zcalloc"), "the same"),
    (Prefix("zrealloc"), "the same"),
    (Name("zstrdup"), "the same"),
    (Name("ngx_alloc"), "nginx's malloc"),
    (Name("ngx_calloc"), "nginx's malloc"),
    (Prefix("PyMem_"), "Python's allocation functions"),
    (Prefix("_PyMem_"), "Python's allocation functions"),
    (Prefix("PyObject_Malloc"), "Python's allocation functions"),
    (Prefix("PyObject_Calloc"), "Python's allocation functions"),
    (Prefix("PyObject_Realloc"), "Python's allocation functions"),
    (Prefix("_PyObject_Malloc"), "Python's allocation functions"),
    (Prefix("_PyObject_Calloc"), "Python's allocation functions"),
    (Prefix("_PyObject_Realloc"), "Python's allocation functions"),
    (Name("os::malloc"), "the Java virtual machine's malloc"),
    (Name("os::realloc"), "the same"),
    (Name("os::strdup"), "the same"),
    (Name("AllocateHeap"), "the same"),
    (Name("ReallocateHeap"), "the same"),
    (Prefix("__zend_malloc"), "PHP's malloc that does not fail"),
    (Prefix("__zend_calloc"), "the same"),
    (Prefix("__zend_realloc"), "the same"),
    (Prefix("_emalloc"), "PHP's allocation functions"),
    (Prefix("_ecalloc"), "PHP's allocation functions"),
    (Prefix("_erealloc"), "PHP's allocation functions"),
    (Prefix("_safe_malloc"), "PHP's allocation functions"),
    (Name("uv__malloc"), "libuv's allocation functions"),
    (Name("uv__calloc"), "libuv's allocation functions"),
    (Name("uv__realloc"), "libuv's allocation functions"),
    (Name("uv__strdup"), "libuv's allocation functions"),
    (Name("ruby_xmalloc"), "Ruby's allocation functions"),
    (Name("ruby_xcalloc"), "Ruby's allocation functions"),
    (Name("ruby_xrealloc"), "Ruby's allocation functions"),
    (Prefix("ruby_xmalloc2"), "Ruby's allocation functions"),
    (Name("Perl_safesysmalloc"), "Perl's allocation functions"),
    (Name("Perl_safesyscalloc"), "Perl's allocation functions"),
    (Name("Perl_safesysrealloc"), "Perl's allocation functions"),
    (Name("my_malloc"), "MySQL's malloc"),
    (Name("my_realloc"), "MySQL's malloc"),
    (Prefix("sqlite3Malloc"), "SQLite's allocation functions"),
    (Prefix("sqlite3MemMalloc"), "SQLite's allocation functions"),
    (Prefix("sqlite3MemRealloc"), "SQLite's allocation functions"),
    (Prefix("sqlite3DbMalloc"), "SQLite's allocation functions"),
    (Prefix("sqlite3_malloc"), "SQLite's allocation functions"),
    (Name("git__malloc"), "libgit2's allocation functions"),
    (Name("av_malloc"), "FFmpeg's allocation functions"),
    (Name("av_mallocz"), "FFmpeg's allocation functions"),
    (Name("moz_xmalloc"), "Mozilla's malloc that does not fail"),
    (Name("safe_malloc"), "a usual name of a malloc that does not fail"),
    (Name("xmalloc0"), "the same"),
    (Name("xnmalloc"), "the same"),
    (Name("checked_malloc"), "the same"),
    (Module("libc.so"), "glibc or musl: what it acquires, it acquires for its caller"),
    (Module("libc-"), "glibc before 2.34"),
    (Module("ld-linux"), "the loader"),
    (Module("ld-musl"), "the loader, and musl itself"),
    (Module("libstdc++.so"), "the C++ standard library"),
    (Module("libc++.so"), "the C++ standard library"),
    (Module("libc++abi.so"), "the C++ runtime"),
    (Module("libjemalloc"), "an allocator"),
    (Module("libtcmalloc"), "an allocator"),
    (Module("libmimalloc"), "an allocator"),
];

/// Index of the headline frame: the first that is not plumbing; 0 when all are. A library's frame without a name says
/// little: the first one with a name counts, if there is any.
pub fn headline(frames: &[Frame]) -> usize {
    let asks = |frame: &Frame| why_plumbing(frame).is_none();
    let Some(first) = frames.iter().position(asks) else { return 0 };
    let named = |(at, frame): (usize, &Frame)| {
        (at >= first && asks(frame) && !is_nameless_library(frame)).then_some(at)
    };
    frames.iter().enumerate().find_map(named).unwrap_or(first)
}

/// Whether a frame is in a shared library and has no name.
fn is_nameless_library(frame: &Frame) -> bool {
    let module = frame.module.as_deref().map(file_name).unwrap_or_default();
    frame.symbol.is_none() && module.contains(".so")
}

/// Whether a frame only forwards requests.
pub(super) fn is_plumbing(frame: &Frame) -> bool {
    why_plumbing(frame).is_some()
}

/// Why a frame only forwards requests; `None` for one that asks itself.
fn why_plumbing(frame: &Frame) -> Option<&'static str> {
    let name = frame.symbol.as_deref().map(plain_name).unwrap_or_default();
    let module = frame.module.as_deref().map(file_name).unwrap_or_default();
    let source = frame.file.as_deref().unwrap_or_default();
    let fits = |plumbing: Plumbing| match plumbing {
        Name(whole) => name == whole,
        Prefix(begin) => name.starts_with(begin),
        Suffix(end) => name.ends_with(end),
        Module(begin) => module.starts_with(begin),
        Source(part) => source.contains(part),
    };
    TABLE.iter().find(|(plumbing, _)| fits(*plumbing)).map(|(_, why)| *why)
}

/// A demangled name without template arguments, parameters and return type: `void
/// std::vector<int>::_M_realloc_insert<int>(int*)` is `std::vector::_M_realloc_insert`.
pub fn plain_name(symbol: &str) -> String {
    if let Some(inside) = symbol.strip_prefix('<') {
        return rust_owner(inside).to_owned();
    }
    let symbol = symbol.replace("(anonymous namespace)", "{anonymous}");
    let mut plain = String::with_capacity(symbol.len());
    let mut depth = 0_usize;
    for letter in symbol.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            '(' if depth == 0 => break,
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    // A space separates the return type, and also the two words of `operator new`.
    let function = plain.find("operator ").unwrap_or(plain.len());
    let (before, operator) = plain.split_at(function);
    let before = before.rsplit(' ').next().unwrap_or(before);
    format!("{before}{operator}").trim_end().to_owned()
}

/// The owner of a Rust function named `<Type>::function` or `<Type as Trait>::function`; takes the text behind the
/// first bracket, returns the type or the trait. A function of an application's trait belongs to the application, and
/// so does an application's implementation of a library's trait.
fn rust_owner(inside: &str) -> &str {
    let mut depth = 0_usize;
    let mut before = ' ';
    let (mut end, mut parted) = (inside.len(), None);
    for (at, letter) in inside.char_indices() {
        match letter {
            // The arrow of `fn() -> T` closes nothing.
            '>' if before == '-' => {}
            '>' if depth == 0 => {
                end = at;
                break;
            }
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && parted.is_none() => {
                parted = inside.get(at..).filter(|rest| rest.starts_with(" as ")).map(|_| at);
            }
            _ => {}
        }
        before = letter;
    }
    let kind = inside.get(..parted.unwrap_or(end)).unwrap_or(inside);
    // `&mut [T]`: skips what precedes the path itself.
    let kind = kind.trim_start_matches(['&', '[', '*', '(', ' ']);
    let words = ["mut ", "dyn ", "const "];
    let kind = words.iter().fold(kind, |kind, word| kind.strip_prefix(word).unwrap_or(kind));
    let kind = kind.trim_start_matches(['[', '(']);
    let Some(of) = parted.and_then(|at| inside.get(at + " as ".len()..end)) else { return kind };
    let of_library = LIBRARIES.iter().any(|library| of.starts_with(library));
    // Applications rarely implement the traits of `alloc`, and a type that implements those of `core::alloc` is an
    // allocator; for other traits the type decides, if it is known.
    let is_path = kind.contains("::") && !kind.contains("fn(");
    let of_allocators = ["alloc::", "core::alloc::"].iter().any(|path| of.starts_with(path));
    if !of_library || of_allocators || !is_path { of } else { kind }
}

/// Path prefixes of Rust's standard libraries.
const LIBRARIES: [&str; 4] = ["alloc::", "core::", "std::", "hashbrown::"];
#[cfg(test)]
mod tests {
    use super::{headline, plain_name};
    use crate::report::Frame;

    fn frame(symbol: &str, module: &str) -> Frame {
        Frame {
            address: crate::report::Address(1),
            symbol: (!symbol.is_empty()).then(|| symbol.into()),
            offset: None,
            module: Some(module.into()),
            module_offset: Some(1),
            file: None,
            line: None,
            inlined: false,
            tail_call: false,
            why_unnamed: None,
        }
    }

    #[test]
    fn plumbing_is_skipped() {
        let check = |symbol: &str| {
            let frames = [frame(symbol, "/opt/server"), frame("on_open", "/opt/server")];
            assert_eq!(headline(&frames), 1, "{symbol}");
        };
        check("operator new(unsigned long)");
        check("operator new[](unsigned long, std::nothrow_t const&)");
        check("_Znwm");
        check(
            "std::allocator_traits<std::allocator<char> >::allocate(std::allocator<char>&, unsigned long)",
        );
        check("std::__new_allocator<int>::allocate(unsigned long, void const*)");
        check("__gnu_cxx::new_allocator<Session>::allocate(unsigned long, void const*)");
        check(
            "void std::vector<int, std::allocator<int> >::_M_realloc_insert<int const&>(int*, int const&)",
        );
        check("std::__cxx11::basic_string<char>::_M_create(unsigned long&, unsigned long)");
        check("std::__detail::_MakeUniq<Session>::__single_object std::make_unique<Session>()");
        check("alloc::raw_vec::RawVec<T,A>::grow_one");
        check("<alloc::vec::Vec<T> as core::clone::Clone>::clone");
        check("<alloc::raw_vec::RawVec<u8>>::grow_one");
        check("<T as alloc::slice::hack::ConvertVec>::to_vec");
        check("<str as alloc::string::ToString>::to_string");
        check("<[app::Session] as alloc::borrow::ToOwned>::to_owned");
        check("<fn() -> app::Session as core::ops::function::FnOnce<()>>::call_once");
        check("<&mut std::collections::hash::map::HashMap<u64, u64>>::insert");
        check("<hashbrown::map::HashMap<u64, u64>>::insert");
        check("_ZSt11make_sharedI7SessionJEESt10shared_ptr");
        check("__rust_alloc");
        check("__rustc::__rust_realloc");
        check("<tikv_jemallocator::Jemalloc as core::alloc::global::GlobalAlloc>::alloc");
        check("strdup");
        check("event_mm_malloc_");
        check("CRYPTO_zalloc");
        check("g_malloc0");
        check("xmalloc");
        check("_PyObject_Malloc");
        check("os::malloc(unsigned long, MEMFLAGS)");
        check("__zend_malloc");
        check("uv__malloc");
        check("Counted<std::shared_ptr<Shape> >::allocate(unsigned long)");
        check("arena::Resource::do_allocate(unsigned long, unsigned long)");
    }

    #[test]
    fn plumbing_libraries_are_skipped_named_or_not() {
        let check = |symbol: &str, module: &str| {
            let frames = [frame(symbol, module), frame("on_open", "/opt/server")];
            assert_eq!(headline(&frames), 1, "{module}");
        };
        check("", "/lib/x86_64-linux-gnu/libc.so.6");
        check("getdelim", "/lib/x86_64-linux-gnu/libc.so.6");
        check("", "/lib/x86_64-linux-gnu/libc-2.31.so");
        check("", "/usr/lib/libstdc++.so.6.0.30");
        check("_dl_map_object", "/lib64/ld-linux-x86-64.so.2");
        check("", "/lib/ld-musl-x86_64.so.1");
    }

    #[test]
    fn library_templates_without_a_namespace_are_recognized_by_source() {
        let check = |symbol: &str, file: &str| {
            let inlined = Frame { file: Some(file.into()), ..frame(symbol, "/opt/server") };
            assert_eq!(headline(&[inlined, frame("on_open", "/opt/server")]), 1, "{file}");
        };
        check("_M_create<app::on_open()::<lambda()> >", "/usr/include/c++/12/bits/std_function.h");
        check("grow<T>", "/rustc/59807616e1fa/library/alloc/src/raw_vec.rs");
        let installed = "/opt/rust/lib/rustlib/src/rust/library/core/src/a.rs";
        check("map<T>", installed);
    }

    #[test]
    fn requesting_frames_are_kept() {
        let check = |symbol: &str, module: &str| {
            let frames = [frame(symbol, module), frame("main", "/opt/server")];
            assert_eq!(headline(&frames), 0, "{symbol}");
        };
        check("on_open", "/opt/server");
        check("", "/opt/server");
        check("Session::operator new(unsigned long)", "/opt/server");
        check("stdlike::make()", "/opt/server");
        check("<app::Session as core::clone::Clone>::clone", "/opt/server");
        check("<alloc::vec::Vec<u8> as app::Codec>::encode", "/opt/server");
        check("<app::Server>::on_open", "/opt/server");
        check(
            "<&mut app::Server as app::Codec<fn() -> alloc::vec::Vec<u8>>>::on_open",
            "/opt/server",
        );
        check("void handle<std::string>(std::string const&)", "/opt/server");
        check("uWS::HttpContext<true>::init()", "/opt/server");
        check("evbuffer_add", "/usr/lib/libevent_core-2.1.so.7");
        check("SSL_new", "/usr/lib/libssl.so.3");
        check("xmalloc_stats", "/opt/server");
        check("my::alloc::Pool::get", "/opt/server");
    }

    #[test]
    fn a_librarys_frames_without_names_leave_the_headline_to_one_with_a_name() {
        let nameless = || frame("", "/usr/lib/libcurl.so.4");
        let frames = [nameless(), nameless(), frame("main", "/opt/server")];
        assert_eq!(headline(&frames), 2);
        assert_eq!(headline(&[frame("xmalloc", "/opt/server"), nameless()]), 1);
        let library = frame("curl_easy_init", "/usr/lib/libcurl.so.4");
        assert_eq!(headline(&[nameless(), library, frame("main", "/opt/server")]), 1);
    }

    #[test]
    fn a_stack_of_only_plumbing_has_its_innermost_frame_as_headline() {
        assert_eq!(headline(&[]), 0);
        let frames = [frame("strdup", "/lib/libc.so.6"), frame("", "/lib/libc.so.6")];
        assert_eq!(headline(&frames), 0);
    }

    #[test]
    fn names_lose_their_types() {
        let check = |symbol, plain: &str| assert_eq!(plain_name(symbol), plain);
        check("main", "main");
        check("operator new(unsigned long)", "operator new");
        check("operator new[](unsigned long)", "operator new[]");
        check("(anonymous namespace)::make(int)", "{anonymous}::make");
        check("int* a::b<c<d>, e>::f<g>(h<i>) const", "a::b::f");
        check("std::ostream& std::operator<< <char>(std::ostream&, char)", "std::operator");
        check("a::operator()(int) const", "a::operator");
        check("a::operator std::string() const", "a::operator std::string");
    }
}
