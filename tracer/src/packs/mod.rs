//! Packs describe a library's object types: constructors, destructors, fields. They are data, read from `packs/*.toml`.
//!
//! Takes text, passes on [`Pack`]s and, for the functions that an object file defines, those to probe in it.
//! Must not touch processes, BPF programs, or files other than packs.

mod check;
mod condition;
mod load;
mod parse;
mod resolve;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use tracer_common::{attach::Shape, object};

use crate::tape::wire::{plain, shape};

pub use condition::{Condition, ObjectFile};
pub use load::{Loaded, Sources};
pub use parse::Fault;

/// The description of one library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Its name: `libevent`.
    pub name: Arc<str>,
    /// The library's name for people, with the versions that the pack describes.
    pub title: String,
    /// Lists of functions. An object file that defines every function of one list is the library, or contains a copy or
    /// a part of it.
    pub marks: Vec<Vec<String>>,
    /// The versions that the pack describes; must hold as well.
    pub only_if: Condition,
    /// Its object types.
    pub kinds: Vec<Arc<ObjectType>>,
    /// Its functions to probe.
    pub rules: Vec<Rule>,
    /// Name of the pack's file, for messages.
    pub file: Arc<str>,
    /// Where the file comes from.
    pub origin: Origin,
}

/// Where a pack comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Built into the executable.
    #[default]
    CompiledIn,
    /// The user's folder of packs, which may describe libraries that this target does not load.
    Folder,
    /// The command line.
    Named,
}

/// An object type of a library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectType {
    /// Its name in reports, on the screen and in filters: `evbuffer`.
    pub name: Arc<str>,
    /// Name of its pack.
    pub library: Arc<str>,
    /// A description in one line, for people.
    pub sentence: String,
    /// What its `fd` number is.
    pub fd_is: FdIs,
    /// What the recorded word of an object (`object::Object::word`) is.
    pub word: Word,
    /// Whether the pack names a function that requests the release of one.
    pub is_asked: bool,
    /// Offsets of its fields, by the size of its block.
    pub layouts: Vec<Layout>,
    /// Sizes of heap blocks that the library allocates internally. Such a block is an object of this type, whichever
    /// function of the library allocates it.
    pub blocks: Vec<u64>,
    /// What the library acquires by itself belongs to the object of this type from which the fewest pointers lead to it,
    /// up to this many; `None` if such objects own nothing in this way. Not on a tape, which has what was found.
    #[serde(skip)]
    pub owns_within: Option<u8>,
    /// How the library links blocks of this type into queues. Not on a tape either.
    #[serde(skip)]
    pub queue: Option<Queue>,
}

/// How a library keeps messages in a queue of pieces, each a block with space for several. A structure counts as a queue
/// only if what is at these offsets agrees with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Messages in a piece.
    pub slots: u32,
    /// Bytes of each.
    pub slot_bytes: u32,
    /// Offset in a piece of the pointer to the next one.
    pub next: u32,
    /// Offset in the queue's own block of a pointer to the first piece and the number of its first message, and of the same
    /// for the place after the last message.
    pub begin: u32,
    /// Offset in a message of the byte that says where its content is.
    pub storage: u32,
    /// The value of that byte if the content is in the message itself.
    pub inline: u8,
    /// Otherwise, the offset of the pointer to it.
    pub content: u32,
    /// How a queue's two ends are described; each has a block.
    pub ends: Ends,
}

/// Offsets in the block of one end of a connection, which has a queue in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// The pointer to the queue that it reads from; the one that it writes to follows.
    pub queues: u32,
    /// How many messages it has read.
    pub read: u32,
    /// How many it has written.
    pub written: u32,
    /// The pointer to the other end.
    pub peer: u32,
    /// The pointer to what reads from it, into the object that it belongs to; 0 while that object has not taken it yet.
    pub reader: u32,
}

/// What an object's `fd` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FdIs {
    /// A file descriptor.
    #[default]
    Descriptor,
    /// A signal's number.
    Signal,
}

/// What the recorded word of an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// No word is recorded.
    #[default]
    None,
    /// The address of a callback, whose name is the best label of the object.
    Function,
    /// A number, with names for some of its values.
    Number(Vec<(u64, String)>),
}

/// Fields of an object whose block has this size, which identifies the library's versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Bytes of the object's block.
    pub size: u64,
    /// Its fields.
    pub fields: Vec<Field>,
    /// The versions to which this applies. Of several layouts for one size, the first that applies is used.
    pub only_if: Condition,
}

/// One field of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// What it contains.
    pub role: FieldRole,
    /// Its offset in the object.
    pub offset: u32,
    /// Its size: 1, 2, 4 or 8 bytes.
    pub bytes: u8,
    /// Bits that count; [`FieldRole::Pending`] is true if any of them is set.
    pub mask: u64,
}

/// What a field contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldRole {
    /// The file descriptor that the object uses.
    Fd,
    /// Number of bytes queued in it.
    Queued,
    /// Its reference count.
    References,
    /// Whether it waits for an event.
    Pending,
    /// Handle of its owner.
    Owner,
    /// Address of its callback.
    Callback,
}

impl FieldRole {
    /// Whether reports add it up over all objects of a type.
    pub const fn is_summed(self) -> bool {
        matches!(self, Self::Queued | Self::Pending)
    }
}

/// One function, and what it does to which object type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, or several: the first one that an object file defines is probed. The others call it, or are its older
    /// names.
    pub names: Vec<String>,
    /// How its probes work.
    #[serde(with = "shape")]
    pub shape: Shape,
    /// What it does to objects, as the BPF programs read it.
    #[serde(with = "plain")]
    pub function: object::Function,
    /// Whether a C++ exception may leave it.
    pub throws: bool,
    /// The versions to which this applies. Of several rules for one function, the first that applies is used.
    pub only_if: Condition,
    /// The object type.
    pub kind: Arc<ObjectType>,
    /// The object type if the test in `function.test` is true.
    pub second: Option<Arc<ObjectType>>,
    /// The line of the file that names it.
    pub line: usize,
}

/// What a function that an object file defines does to objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The function, as the BPF programs read it.
    #[serde(with = "plain")]
    pub function: object::Function,
    /// The object type.
    pub kind: Arc<ObjectType>,
    /// The object type if the test in `function.test` is true.
    pub second: Option<Arc<ObjectType>>,
}

impl ObjectType {
    /// The layout of an object whose block has this many bytes: 0 for a caller-allocated object, which has one layout.
    pub fn layout(&self, size: u64) -> Option<&Layout> {
        let mut certain = self.layouts.iter().filter(|layout| layout.only_if.is_none());
        certain.find(|layout| layout.size == size || size == 0)
    }

    /// This type as it is in one object file: only the layouts that apply there, without their conditions.
    fn inside(&self, file: &ObjectFile<'_>) -> Self {
        let holding = self.layouts.iter().filter(|layout| layout.only_if.holds(file));
        let mut layouts: Vec<Layout> = Vec::new();
        for layout in holding {
            if !layouts.iter().any(|earlier| earlier.size == layout.size) {
                layouts.push(Layout { only_if: Condition::default(), ..layout.clone() });
            }
        }
        Self { layouts, ..self.clone() }
    }

    /// A field, if all objects of the type have the same layout.
    pub fn only(&self, role: FieldRole) -> Option<&Field> {
        let [layout] = self.layouts.as_slice() else { return None };
        layout.fields.iter().find(|field| field.role == role)
    }
}

impl Pack {
    /// Parses a file; `name` is its name, for messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, Fault> {
        let pack = parse::file(text).and_then(|file| resolve::pack(&file));
        let mut pack = pack.map_err(|wrong| wrong.in_file(name, text))?;
        for rule in &mut pack.rules {
            rule.line = parse::line(text, rule.line);
        }
        Ok(Self { file: name.into(), ..pack })
    }

    /// The functions and marks of a user's pack that match nothing, one line each. `found` says whether a function was
    /// found.
    pub fn unmatched(&self, found: &dyn Fn(&str) -> bool) -> Vec<String> {
        let is_found = |rule: &&Rule| rule.names.iter().any(|name| found(name));
        let quoted = |names: &[String]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
        };
        match self.origin {
            Origin::CompiledIn => Vec::new(),
            _ if self.rules.iter().any(|rule| is_found(&rule)) => self
                .rules
                .iter()
                // A rule for some versions only may be missing here.
                .filter(|rule| !is_found(rule) && rule.only_if.is_none())
                .map(|rule| {
                    let (file, line, names) = (&self.file, rule.line, quoted(&rule.names));
                    format!("{file}:{line}: the library has no {names} here")
                })
                .collect(),
            Origin::Folder => Vec::new(),
            Origin::Named => {
                let fits = if self.only_if.is_none() { "" } else { ", or none fits its `only_if`" };
                vec![format!(
                    "{}: no file of the targets has all functions of its marks{fits}",
                    self.file
                )]
            }
        }
    }

    /// The functions to probe in an object file: name, shape, whether a C++ exception may leave it, and what it does.
    /// Empty if the file does not contain this library.
    pub fn functions(&self, file: &ObjectFile<'_>) -> Vec<(String, Shape, bool, Arc<Use>)> {
        let marked = self.marks.iter().any(|names| names.iter().all(|name| (file.defines)(name)));
        if !marked || !self.only_if.holds(file) {
            return Vec::new();
        }
        let kinds: HashMap<&str, Arc<ObjectType>> =
            self.kinds.iter().map(|kind| (&*kind.name, Arc::new(kind.inside(file)))).collect();
        let inside = |kind: &Arc<ObjectType>| kinds.get(&*kind.name).map(Arc::clone);
        let mut named = HashSet::new();
        let found = self.rules.iter().filter(|rule| rule.only_if.holds(file)).filter_map(|rule| {
            let name = rule.names.iter().find(|name| (file.defines)(name))?;
            // One function may destroy objects of several types, and the first of several rules for a function is used.
            if !named.insert(name) {
                return None;
            }
            let used = Use {
                function: rule.function,
                kind: inside(&rule.kind)?,
                second: rule.second.as_ref().and_then(inside),
            };
            Some((name.clone(), rule.shape, rule.throws, Arc::new(used)))
        });
        found.collect()
    }
}

impl Use {
    /// Whether it initializes caller-allocated objects that are alive as long as one of their fields says so.
    pub fn is_by_memory(&self) -> bool {
        self.function.makes() && self.function.own == object::BY_MEMORY
    }

    /// The type of the objects of a call site; `detail` is the result of its function's test.
    pub fn kind(&self, detail: u8) -> &Arc<ObjectType> {
        self.second.as_ref().filter(|_| detail != 0).unwrap_or(&self.kind)
    }
}

#[cfg(test)]
mod tests;
