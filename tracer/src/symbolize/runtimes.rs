//! Memory that a language's runtime acquires for a heap of its own: leaktrace sees its arenas, not what is in them.
//!
//! Takes a call site's kind and frames, says which runtime it is and how to see inside. Pure.

use tracer_common::kind::ResourceKind;

use crate::{
    format::file_name,
    report::{Arena, Frame},
};

/// Frames from the innermost one in which a runtime's allocator is looked for: it has a few functions of its own above
/// the call of mmap, and after these everything that asks it for memory.
const DEPTH: usize = 8;

/// How a runtime acquires memory.
struct Runtime {
    name: &'static str,
    /// Beginnings of the names of functions of its allocator.
    functions: &'static [&'static str],
    /// Beginnings of the names of files whose mappings are arenas, whether their functions have names or not.
    files: &'static [&'static str],
    kind: ResourceKind,
    see_inside: &'static str,
}

/// The runtimes, from their sources; checked with Python 3.11, PHP 8.2, Java 17 and Node.js 20.
const RUNTIMES: [Runtime; 6] = [
    Runtime {
        name: "CPython",
        functions: &["_PyObject_Arena", "new_arena"],
        files: &["libpython", "python"],
        kind: ResourceKind::Mmap,
        see_inside: "PYTHONMALLOC=malloc in its environment makes each of its objects a block",
    },
    Runtime {
        name: "PHP",
        functions: &["zend_mm_", "_emalloc", "_ecalloc", "_erealloc", "_safe_emalloc", "_estrdup"],
        files: &["php", "libphp"],
        kind: ResourceKind::Mmap,
        see_inside: "USE_ZEND_ALLOC=0 in its environment makes each of its objects a block",
    },
    Runtime {
        name: "V8",
        functions: &["v8::internal::VirtualMemory::", "v8::base::OS::Allocate"],
        files: &[],
        kind: ResourceKind::Mmap,
        see_inside: "node --heapsnapshot-signal=SIGUSR2 writes its objects to a file",
    },
    Runtime {
        name: "the JVM",
        functions: &["os::commit_memory", "os::reserve_memory", "os::pd_commit_memory"],
        files: &["libjvm.so"],
        kind: ResourceKind::Mmap,
        see_inside: "jcmd PID GC.class_histogram lists its objects, and VM.native_memory the rest",
    },
    Runtime {
        name: "GLib's slices",
        functions: &["g_slice_alloc"],
        files: &[],
        kind: ResourceKind::Heap,
        see_inside: "G_SLICE=always-malloc in its environment makes each slice a block",
    },
    Runtime {
        name: "Ruby",
        functions: &["heap_page_allocate", "heap_page_body_allocate"],
        files: &[],
        kind: ResourceKind::Heap,
        see_inside: "ObjectSpace.dump_all writes its objects to a file",
    },
];

/// The arena that a call site acquires, if it does.
pub fn arena(kind: ResourceKind, frames: &[Frame]) -> Option<Arena> {
    let near = || frames.iter().take(DEPTH);
    let named = |frame: &Frame, names: &[&str]| {
        frame
            .symbol
            .as_deref()
            .is_some_and(|symbol| names.iter().any(|name| symbol.starts_with(name)))
    };
    let found = RUNTIMES.iter().find(|runtime| {
        let maps = || Some(file_name(frames.first()?.module.as_deref()?));
        runtime.kind == kind
            && (near().any(|frame| named(frame, runtime.functions))
                || maps()
                    .is_some_and(|file| runtime.files.iter().any(|name| file.starts_with(name))))
    })?;
    Some(Arena { of: found.name.to_owned(), see_inside: found.see_inside.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn of(kind: ResourceKind, stack: &[&str]) -> Option<String> {
        let template = fixtures::sample().sites[0].frames[0].clone();
        let frame = |text: &&str| {
            let (symbol, file) = text.split_once('@').unwrap_or((text, "server"));
            Frame {
                symbol: (symbol != "?").then(|| symbol.into()),
                module: Some(format!("/usr/bin/{file}").into()),
                ..template.clone()
            }
        };
        let frames: Vec<Frame> = stack.iter().map(frame).collect();
        arena(kind, &frames).map(|arena| arena.of)
    }

    #[test]
    fn arenas_are_those_of_their_runtime() {
        use ResourceKind::{Heap, Mmap};
        for (kind, stack, runtime) in [
            (Mmap, &["_PyObject_ArenaMmap@libpython3.11.so.1.0", "new_arena@x"][..], "CPython"),
            (Mmap, &["?@python3.11", "?@python3.11"], "CPython"),
            (Mmap, &["?@php8.2", "?@php8.2", "_erealloc2@php8.2"], "PHP"),
            (Mmap, &["v8::base::OS::Allocate(void*)@node"], "V8"),
            (Mmap, &["?@libjvm.so"], "the JVM"),
            (Heap, &["?@libglib-2.0.so.0", "g_slice_alloc@libglib-2.0.so.0"], "GLib's slices"),
        ] {
            assert_eq!(of(kind, stack).as_deref(), Some(runtime), "{stack:?}");
        }
        for (kind, stack) in [
            // A list's own array is a block like any other.
            (Heap, &["list_resize@libpython3.11.so.1.0"][..]),
            (Mmap, &["load_file", "main"]),
            (Mmap, &["map@plugin.so", "PyObject_Call@libpython3.11.so.1.0"]),
            (Heap, &["a", "b", "c", "d", "e", "f", "g", "h", "g_slice_alloc"]),
        ] {
            assert_eq!(of(kind, stack), None, "{stack:?}");
        }
    }
}
