//! The C library's functions that start, join and detach threads.
//!
//! Takes an object that defines `pthread_create`, passes on its functions for the catalog, and the extent of
//! `pthread_create`: what is allocated in there belongs to the thread. A detached thread is known by the flag in its
//! attributes that `pthread_attr_getdetachstate` reads, wherever that is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tracer_common::{attach::Shape, kind::ResourceKind};

use super::{Function, Object, object::Functions};
use crate::{
    arch::{Architecture as _, Host},
    target::mappings::FileId,
};

/// The function by which every thread of the C library is started, also `std::thread` and those of `thrd_create`.
pub(super) const START: &str = "pthread_create";
/// Functions that join a thread if they succeed. All but one are cancellation points: in a canceled thread, glibc unwinds
/// the stack as for an exception.
const JOINS: [&str; 5] = [
    "pthread_join",
    "pthread_tryjoin_np",
    "pthread_timedjoin_np",
    "pthread_clockjoin_np",
    "thrd_join",
];
/// Functions that detach a thread.
const DETACHES: [&str; 2] = ["pthread_detach", "thrd_detach"];
/// The function that reads from a thread's attributes whether it will be detached.
const READ_DETACHED: &str = "pthread_attr_getdetachstate";

/// The code of [`START`] in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStart {
    /// The file.
    pub file: FileId,
    /// Offset of its first byte.
    pub offset: u64,
    /// Its length, bytes.
    pub length: u64,
}

/// The functions of an object that are about threads, and its code that starts them.
pub fn functions(object: &Object<'_>) -> (Vec<Function>, Option<ThreadStart>) {
    let Some(all) = Functions::parse(object.bytes) else { return Default::default() };
    let Ok(start) = all.body(START) else { return Default::default() };
    // Without it, threads with attributes count as detached: they must not look like threads that nobody has joined.
    let flag = all.body(READ_DETACHED).ok().and_then(|body| Host::flag_read(body.code));
    let (offset, mask) = flag.unwrap_or_default();
    let function = |name, shape, arguments, throws| Function {
        name: Cow::Borrowed(name),
        kind: ResourceKind::Thread,
        shape,
        arguments,
        throws,
        object: None,
    };
    let mut functions = vec![function(START, Shape::StartThread, [1, offset, mask], false)];
    functions.extend(JOINS.map(|name| function(name, Shape::JoinThread, [0; 3], true)));
    functions.extend(DETACHES.map(|name| function(name, Shape::DetachThread, [0; 3], false)));
    let length = start.code.len() as u64;
    let start = ThreadStart { file: object.file, offset: start.offset, length };
    (functions, Some(start))
}

#[cfg(target_arch = "x86_64")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_libc_has_the_functions_and_the_flag_of_detached_threads() {
        let maps = crate::target::mappings::read(crate::target::Pid::own()).unwrap();
        let has_threads = |object: &crate::target::mappings::MappedObject<'_>| {
            let path = object.path.to_string_lossy();
            path.contains("libc.so") || path.contains("libpthread")
        };
        let found = maps.objects().into_iter().filter(has_threads).find_map(|object| {
            let bytes = std::fs::read(object.path).unwrap();
            let (file, path) = (object.file, object.path.to_owned());
            let (functions, start) = functions(&Object { file, path, bytes: &bytes });
            start.map(|start| (functions, start))
        });
        let (functions, start) = found.expect("a C library");
        // glibc's `ATTR_FLAG_DETACHSTATE`, in the third word.
        assert_eq!((functions[0].name.as_ref(), functions[0].arguments), (START, [1, 8, 1]));
        assert_eq!(functions.len(), 1 + JOINS.len() + DETACHES.len());
        assert!(start.length > 100, "{start:?}");
    }
}
