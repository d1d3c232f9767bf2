//! Open object files, and the names found in them.
//!
//! Takes a path that is valid now, returns object ids and the levels (inlined functions and the real one) at a place
//! in a file. Holds every file open and reads it through `/proc/self/fd`, so names can be found when the target, its
//! mount namespace or the file's own name is gone.

use std::{
    cell::Cell, collections::HashMap, fmt, fs::File, io, os::unix::fs::MetadataExt, path::Path,
    rc::Rc, sync::Arc,
};

use blazesym::symbolize::Symbolizer;

use super::{
    debug_file::{DebugIds, Origin, in_memory},
    levels::Level,
    sources::Sources,
};
use crate::report::Names;

/// Places in files whose names are cached. One takes 0.3 to 1 KiB with its inlined levels, so at most about 64 MiB; a
/// large server's stacks have some 10,000 different places.
const PLACES: usize = 1 << 16;

/// Number of an object, valid for one [`Objects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectId(usize);

/// Every object seen so far.
pub(super) struct Objects {
    symbolizer: Symbolizer,
    all: Vec<Result<Object, String>>,
    by_inode: HashMap<(u64, u64), ObjectId>,
    images: Vec<(Vec<u8>, ObjectId)>,
    names: HashMap<(ObjectId, u64), CachedWalk>,
    /// Increments on each lookup: an entry used later has a higher number.
    clock: Cell<u64>,
    places: usize,
}

struct Object {
    file: Rc<File>,
    origin: Option<Origin>,
    /// Read at the first lookup.
    sources: Option<Result<Sources, String>>,
}

struct CachedWalk {
    levels: Arc<[Level]>,
    asked: Cell<u64>,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            // The files are held open: there is nothing to reload. Debug files are found, and verified, before
            // blazesym is called.
            symbolizer: Symbolizer::builder().enable_auto_reload(false).build(),
            all: Vec::new(),
            by_inode: HashMap::new(),
            images: Vec::new(),
            names: HashMap::new(),
            clock: Cell::new(0),
            places: PLACES,
        }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("known", &self.names.len()).finish_non_exhaustive()
    }
}

impl Objects {
    /// The id of the object at this path; the same for the same file. A file that cannot be opened also has an id,
    /// and the reason in place of names. `origin` is where the target has it.
    pub(super) fn open(&mut self, path: &Path, origin: Option<Origin>) -> ObjectId {
        let opened = File::open(path).and_then(|file| {
            let about = file.metadata()?;
            if !about.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            Ok((file, (about.dev(), about.ino())))
        });
        match opened {
            Ok((file, inode)) => {
                if let Some(known) = self.by_inode.get(&inode) {
                    return *known;
                }
                let id = self.add(Ok(Object { file: Rc::new(file), origin, sources: None }));
                self.by_inode.insert(inode, id);
                id
            }
            Err(error) => self.add(Err(unreadable(&error))),
        }
    }

    /// The id of an object without a file: the same for the same bytes.
    pub(super) fn image(&mut self, bytes: Vec<u8>) -> ObjectId {
        if let Some((_, known)) = self.images.iter().find(|(image, _)| *image == bytes) {
            return *known;
        }
        let object = in_memory(&bytes).map(|file| Object {
            file: Rc::new(file),
            origin: None,
            sources: None,
        });
        let id = self.add(object.map_err(|error| unreadable(&error)));
        self.images.push((bytes, id));
        id
    }

    fn add(&mut self, object: Result<Object, String>) -> ObjectId {
        self.all.push(object);
        ObjectId(self.all.len() - 1)
    }

    /// Whether the object could be opened.
    pub(super) fn is_open(&self, id: ObjectId) -> bool {
        self.all.get(id.0).is_some_and(Result::is_ok)
    }

    /// Its file, held open.
    pub(super) fn file(&self, id: ObjectId) -> Option<Rc<File>> {
        Some(Rc::clone(&self.all.get(id.0)?.as_ref().ok()?.file))
    }

    /// Whether its file has the ELF magic.
    pub(super) fn is_elf(&self, id: ObjectId) -> bool {
        use std::os::unix::fs::FileExt as _;
        let mut magic = [0; 4];
        let Some(Ok(object)) = self.all.get(id.0) else { return false };
        object.file.read_exact_at(&mut magic, 0).is_ok() && magic == *b"\x7fELF"
    }

    /// The quality of an object's names, and its identification; known after the first lookup.
    pub(super) fn name_quality(&self, id: ObjectId) -> Option<(Names, &DebugIds)> {
        let sources = self.all.get(id.0)?.as_ref().ok()?.sources.as_ref()?.as_ref().ok()?;
        Some((sources.names, &sources.ids))
    }

    /// Where the target has the object.
    pub(super) fn origin(&self, id: ObjectId) -> Option<&Origin> {
        self.all.get(id.0)?.as_ref().ok()?.origin.as_ref()
    }

    /// The cached levels of the call at this offset of the file.
    pub(super) fn levels(&self, id: ObjectId, call_offset: u64) -> Option<&[Level]> {
        let known = self.names.get(&(id, call_offset))?;
        known.asked.set(self.tick());
        Some(&known.levels)
    }

    /// Looks up the call at this offset of the file; returns whether that took any work.
    pub(super) fn look_up(&mut self, id: ObjectId, call_offset: u64) -> bool {
        if let Some(known) = self.names.get(&(id, call_offset)) {
            known.asked.set(self.tick());
            return false;
        }
        let levels = match self.all.get_mut(id.0) {
            None => vec![Level::unnamed("unknown object")],
            Some(Err(why)) => vec![Level::unnamed(why.clone())],
            Some(Ok(Object { file, origin, sources })) => {
                let sources = sources.get_or_insert_with(|| Sources::of(file, origin.as_ref()));
                match sources {
                    Ok(sources) => sources.find(&self.symbolizer, call_offset),
                    Err(why) => vec![Level::unnamed(unreadable(why))],
                }
            }
        };
        if self.names.len() >= self.places {
            self.forget_the_older_half();
        }
        let asked = Cell::new(self.tick());
        self.names.insert((id, call_offset), CachedWalk { levels: levels.into(), asked });
        true
    }

    fn tick(&self) -> u64 {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        now
    }

    /// Removes half at once, so that sorting is rare.
    fn forget_the_older_half(&mut self) {
        let mut asked: Vec<u64> = self.names.values().map(|known| known.asked.get()).collect();
        let middle = asked.len() / 2;
        let limit = *asked.select_nth_unstable(middle).1;
        self.names.retain(|_, known| known.asked.get() >= limit);
    }
}

fn unreadable(why: impl fmt::Display) -> String {
    format!("object file is not readable: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_places_are_evicted_above_the_limit() {
        let mut objects = Objects { places: 100, ..Objects::default() };
        let id = objects.open(Path::new("/nosuch"), None);
        for place in 0..10_000 {
            assert!(objects.look_up(id, 1_000 + place));
            // This one is looked up all the time.
            objects.look_up(id, 7);
            assert!(objects.names.len() <= 100);
        }
        assert!(objects.levels(id, 7).is_some());
        assert!(objects.levels(id, 1_000).is_none());
        assert!(objects.levels(id, 1_000 + 9_999).is_some());
        // At least the newer half is always cached: more than any stack is deep.
        assert!((0..49).all(|place| objects.levels(id, 1_000 + 9_999 - place).is_some()));
        // An evicted place is found again.
        assert!(objects.look_up(id, 1_000) && objects.levels(id, 1_000).is_some());
    }
}
