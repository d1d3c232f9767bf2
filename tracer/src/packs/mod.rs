//! Packs: which functions of which library make objects, and what becomes of them. Data, read from `packs/*.toml`.
//!
//! Takes text, hands on [`Pack`]s, and for the names that an object file defines the functions to be probed in it.
//! Knows no process, no program of the kernel's, and no file but packs.

mod check;
mod condition;
mod load;
mod parse;
mod resolve;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Deserialize;

use tracer_common::{attach::Shape, object};

pub use condition::{Condition, ObjectFile};
pub use load::{Loaded, Sources};
pub use parse::Fault;

/// One library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Its name: `libevent`.
    pub name: Arc<str>,
    /// The same for a person, with the versions it is of.
    pub title: String,
    /// An object file is this library's, or has a copy or a part of it inside, when it defines all functions of one of
    /// these lists.
    pub marks: Vec<Vec<String>>,
    /// And when this holds.
    pub only_if: Condition,
    /// Its kinds of objects.
    pub kinds: Vec<Arc<ObjectType>>,
    /// Its functions.
    pub rules: Vec<Rule>,
    /// The file's name, for messages.
    pub file: Arc<str>,
    /// Where that is from.
    pub origin: Origin,
}

/// Where a pack comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Every leaktrace has it.
    #[default]
    CompiledIn,
    /// The user's folder, which has packs of all that the user ever looks at.
    Folder,
    /// The command line.
    Named,
}

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectType {
    /// Its name in reports, on the screen and in filters: `evbuffer`.
    pub name: Arc<str>,
    /// The pack that has it.
    pub library: Arc<str>,
    /// One line for a person.
    pub sentence: String,
    /// What its number is that stands in a descriptor's place.
    pub fd_is: FdIs,
    /// What the word says that is kept of each (`object::Object::word`).
    pub word: Word,
    /// Whether a function is known that is to release one.
    pub is_asked: bool,
    /// Where in an object its fields are, by the size of its block.
    pub layouts: Vec<Layout>,
    /// Sizes of heap blocks that the library acquires for itself and that are such objects, whatever function it is that
    /// acquires them.
    pub blocks: Vec<u64>,
}

/// What an object's `fd` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdIs {
    /// A file descriptor.
    #[default]
    Descriptor,
    /// A signal's number.
    Signal,
}

/// What a word says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Word {
    /// There is none.
    #[default]
    None,
    /// It is the address of a function: a callback, under whose name the object is best known.
    Function,
    /// It is a number, with names for some.
    Number(Vec<(u64, String)>),
}

/// Fields of an object whose block has this size: of the versions that are known by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the object's block.
    pub size: u64,
    /// What is where.
    pub fields: Vec<Field>,
    /// Where this holds. Of several for one size the first that holds counts.
    pub only_if: Condition,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it says.
    pub role: FieldRole,
    /// Its offset in the object.
    pub offset: u32,
    /// Its size: 1, 2, 4 or 8 bytes.
    pub bytes: u8,
    /// Bits that count; for [`FieldRole::Pending`] any of them says yes.
    pub mask: u64,
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRole {
    /// The descriptor that the object works on.
    Fd,
    /// Bytes that are queued in it.
    Queued,
    /// References that are held to it.
    References,
    /// Whether it waits for something to happen.
    Pending,
    /// Handle of the object that owns it.
    Owner,
    /// Address of its callback.
    Callback,
}

impl FieldRole {
    /// Whether it is summed up over all objects of a kind.
    pub const fn is_summed(self) -> bool {
        matches!(self, Self::Queued | Self::Pending)
    }
}

/// One function, and what it does to which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name; of several the first that an object defines (those after it call it, or are its older names).
    pub names: Vec<String>,
    /// What it does.
    pub shape: Shape,
    /// The same in detail, as the programs are told.
    pub function: object::Function,
    /// Whether an exception may leave it.
    pub throws: bool,
    /// Where this holds. Of several for one function the first that holds counts.
    pub only_if: Condition,
    /// The kind of object.
    pub kind: Arc<ObjectType>,
    /// The kind instead, where `function.test` says so.
    pub second: Option<Arc<ObjectType>>,
    /// The line that names it.
    pub line: usize,
}

/// A function that an object file defines, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// As the programs are told.
    pub function: object::Function,
    /// The kind of object.
    pub kind: Arc<ObjectType>,
    /// The kind instead, where `function.test` says so.
    pub second: Option<Arc<ObjectType>>,
}

impl ObjectType {
    /// The fields of an object whose block has this many bytes. What was placed has none, and one layout.
    pub fn layout(&self, size: u64) -> Option<&Layout> {
        let mut certain = self.layouts.iter().filter(|layout| layout.only_if.is_none());
        certain.find(|layout| layout.size == size || size == 0)
    }

    /// The same kind as it is in this object file: with the layouts that hold there, and on no condition.
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

    /// Where in an object a field is, where all objects of the kind have one layout.
    pub fn only(&self, role: FieldRole) -> Option<&Field> {
        let [layout] = self.layouts.as_slice() else { return None };
        layout.fields.iter().find(|field| field.role == role)
    }
}

impl Pack {
    /// What a file says; `name` is the file's, for messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, Fault> {
        let pack = parse::file(text).and_then(|file| resolve::pack(&file));
        let mut pack = pack.map_err(|wrong| wrong.in_file(name, text))?;
        for rule in &mut pack.rules {
            rule.line = parse::line(text, rule.line);
        }
        Ok(Self { file: name.into(), ..pack })
    }

    /// Sizes of blocks of objects whose fields are summed up; 0 for those that are no block.
    pub fn summed_sizes(&self) -> impl Iterator<Item = u64> {
        let is_placed = |kind: &Arc<ObjectType>| {
            self.rules
                .iter()
                .any(|rule| rule.kind == *kind && rule.shape == Shape::ConstructInPlace)
        };
        let summed = |layout: &Layout| layout.fields.iter().any(|field| field.role.is_summed());
        self.kinds.iter().flat_map(move |kind| {
            let placed = is_placed(kind);
            let summed = kind.layouts.iter().filter(move |layout| summed(layout));
            summed.map(move |layout| if placed { 0 } else { layout.size })
        })
    }

    /// What a user's pack names in vain, a line each. `found` are the functions of this pack that are there.
    pub fn unmatched(&self, found: &dyn Fn(&str) -> bool) -> Vec<String> {
        let there = |rule: &&Rule| rule.names.iter().any(|name| found(name));
        let quoted = |names: &[String]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
        };
        match self.origin {
            Origin::CompiledIn => Vec::new(),
            _ if self.rules.iter().any(|rule| there(&rule)) => self
                .rules
                .iter()
                // What is of other versions only is not here, and need not be.
                .filter(|rule| !there(rule) && rule.only_if.is_none())
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

    /// The functions to be probed in an object file: name, shape, whether an exception may leave it, and what it does. None
    /// when the file has no copy of this library.
    pub fn functions(&self, file: &ObjectFile<'_>) -> Vec<(String, Shape, bool, Arc<Use>)> {
        let is_there = self.marks.iter().any(|names| names.iter().all(|name| (file.defines)(name)));
        if !is_there || !self.only_if.holds(file) {
            return Vec::new();
        }
        let kinds: HashMap<&str, Arc<ObjectType>> =
            self.kinds.iter().map(|kind| (&*kind.name, Arc::new(kind.inside(file)))).collect();
        let inside = |kind: &Arc<ObjectType>| kinds.get(&*kind.name).map(Arc::clone);
        let mut named = HashSet::new();
        let found = self.rules.iter().filter(|rule| rule.only_if.holds(file)).filter_map(|rule| {
            let name = rule.names.iter().find(|name| (file.defines)(name))?;
            // What ends objects of several kinds is one function; and of one function's versions the first counts.
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
    /// Whether it places objects that are there while their memory says so.
    pub fn is_by_memory(&self) -> bool {
        self.function.makes() && self.function.own == object::BY_MEMORY
    }

    /// The kind of object that a call site is about: `detail` says how the test of its function ended.
    pub fn kind(&self, detail: u8) -> &Arc<ObjectType> {
        self.second.as_ref().filter(|_| detail != 0).unwrap_or(&self.kind)
    }
}

#[cfg(test)]
mod tests;
