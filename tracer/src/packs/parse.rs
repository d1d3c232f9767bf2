//! Parses a pack: the tables and keys of a file.
//!
//! Takes text, passes on [`File`], which `resolve` interprets. Checks single values only, not how they fit together.

use std::{collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

use super::Condition;
use crate::arch::{Architecture as _, Host};

/// Arguments that a probe can read.
const ARGUMENTS: u8 = Host::REGISTER_ARGUMENTS;

/// What is wrong with a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Location and error, on one line: `packs/x.toml:12: …`.
    pub text: String,
    /// How to fix it, on one line.
    pub help: String,
}

/// A [`Fault`] before the file's name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Byte offset in the text, if known.
    pub(super) at: Option<usize>,
    /// What is wrong.
    pub(super) what: String,
    /// How to fix it.
    pub(super) help: String,
}

impl Wrong {
    /// An error at the beginning of a span.
    pub(super) fn at(span: Range<usize>, what: String, help: &str) -> Self {
        Self { at: Some(span.start), what, help: help.to_owned() }
    }

    /// Adds the file's name, and the line in its text.
    pub(super) fn in_file(self, name: &str, text: &str) -> Fault {
        let line = self.at.map(|at| line(text, at));
        let place = line.map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"));
        Fault { text: format!("{place}: {}", self.what), help: self.help }
    }
}

/// Number of the line that contains the byte at this offset.
pub(super) fn line(text: &str, at: usize) -> usize {
    text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1
}

/// The contents of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// As in [`super::Pack`].
    pub(super) name: Spanned<String>,
    /// As in [`super::Pack`].
    pub(super) title: String,
    /// As in [`super::Pack`].
    pub(super) marks: Spanned<Marks>,
    /// As in [`super::Pack`].
    pub(super) only_if: Option<Spanned<Condition>>,
    /// The tables `[[kind]]`.
    #[serde(default)]
    pub(super) kind: Vec<Spanned<KindTable>>,
}

/// Names of functions that identify the library: all of one list, or all of one of several lists.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected names of functions, or lists of them")]
pub(super) enum Marks {
    /// One list.
    All(Vec<String>),
    /// Several.
    AnyOf(Vec<Vec<String>>),
}

/// A table `[[kind]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KindTable {
    /// As in [`super::ObjectType`].
    pub(super) name: Spanned<String>,
    /// As in [`super::ObjectType`].
    pub(super) sentence: String,
    /// What the functions' `fd` is, if not a file descriptor.
    #[serde(default)]
    pub(super) fd_is: super::FdIs,
    /// The field that shows whether caller-allocated objects are alive, if no function destroys them.
    pub(super) alive_while: Option<Spanned<AliveWhile>>,
    /// Names of type numbers.
    pub(super) types: Option<BTreeMap<Spanned<String>, String>>,
    /// Constructors; the object is the heap block that they allocate.
    #[serde(default)]
    pub(super) created_by: Vec<Spanned<Call>>,
    /// As in [`super::ObjectType`].
    #[serde(default)]
    pub(super) blocks: Vec<u64>,
    /// As in [`super::ObjectType`].
    pub(super) owns_within: Option<u8>,
    /// As in [`super::ObjectType`].
    pub(super) queue: Option<super::Queue>,
    /// Functions that initialize a caller-allocated object.
    #[serde(default)]
    pub(super) initialized_by: Vec<Spanned<Call>>,
    /// Functions that request the release of an object.
    #[serde(default)]
    pub(super) released_by: Vec<Spanned<Call>>,
    /// Functions that destroy a caller-allocated object.
    #[serde(default)]
    pub(super) destroyed_by: Vec<Spanned<Call>>,
    /// Functions that add information about an object.
    #[serde(default)]
    pub(super) updated_by: Vec<Spanned<Call>>,
    /// Field offsets by block size.
    #[serde(default)]
    pub(super) layouts: Vec<Spanned<LayoutTable>>,
}

/// A function: its name alone, or a table.
#[derive(Debug, Default)]
pub(super) struct Call(pub(super) CallTable);

/// A function and the meaning of its arguments.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallTable {
    /// Its name, or several, of which the first that is defined is used.
    pub(super) function: Names,
    /// The argument that is the handle.
    pub(super) handle: Option<Argument>,
    /// The argument that points to where the handle is, or where the function stores it.
    pub(super) handle_at: Option<Argument>,
    /// How many handles the function stores there, one after the other.
    pub(super) handles: Option<u8>,
    /// Bytes from there.
    #[serde(default)]
    pub(super) offset: u16,
    /// The return value on success, if that is not the handle.
    pub(super) success: Option<Success>,
    /// As in [`tracer_common::object::Function`].
    pub(super) fd: Option<Argument>,
    /// The argument that is the address of a function.
    pub(super) callback: Option<Argument>,
    /// The argument that is a type number.
    #[serde(rename = "type")]
    pub(super) number: Option<Argument>,
    /// As in [`tracer_common::object::Function`].
    pub(super) owner: Option<Argument>,
    /// As in [`tracer_common::object::Function`].
    pub(super) text: Option<Argument>,
    /// Another object type, chosen by bits of an argument.
    pub(super) second: Option<Spanned<Second>>,
    /// As in [`super::Rule`].
    #[serde(default)]
    pub(super) throws: bool,
    /// As in [`super::Rule`].
    pub(super) only_if: Option<Spanned<Condition>>,
    /// Whether the object is the first heap block that the function allocates.
    #[serde(default)]
    pub(super) first_block: bool,
    /// Whether the object is the first heap block that the function allocates, if it allocates one, and no returned or
    /// stored value leads to it.
    #[serde(default)]
    pub(super) first_allocation: bool,
}

/// When a constructor call creates an object of another type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Second {
    /// That type.
    pub(super) kind: String,
    /// The argument.
    pub(super) argument: Argument,
    /// Bits of the argument; any of them set selects that type.
    pub(super) mask: u32,
}

/// The return value on success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Success {
    /// 0.
    Zero,
    /// 0 or above.
    NotNegative,
}

/// The field that shows whether an object is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AliveWhile {
    /// The field `pending`.
    Pending,
}

/// Field offsets of one version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayoutTable {
    /// As in [`super::Layout`].
    pub(super) size: u64,
    /// As in [`super::Layout`].
    pub(super) only_if: Option<Spanned<Condition>>,
    /// As in [`super::FieldRole`].
    pub(super) fd: Option<FieldTable>,
    /// As in [`super::FieldRole`].
    pub(super) queued: Option<FieldTable>,
    /// As in [`super::FieldRole`].
    pub(super) references: Option<FieldTable>,
    /// As in [`super::FieldRole`].
    pub(super) pending: Option<FieldTable>,
    /// As in [`super::FieldRole`].
    pub(super) owner: Option<FieldTable>,
    /// As in [`super::FieldRole`].
    pub(super) callback: Option<FieldTable>,
}

/// As in [`super::Field`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldTable {
    /// As in [`super::Field`].
    pub(super) offset: u32,
    /// As in [`super::Field`].
    pub(super) bytes: u8,
    /// As in [`super::Field`]; `None` for all bits.
    pub(super) mask: Option<u64>,
}

/// The number of an argument, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Argument(pub(super) u8);

impl TryFrom<i64> for Argument {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let number = u8::try_from(number).ok().filter(|number| *number < ARGUMENTS);
        number.map(Self).ok_or_else(|| format!("arguments are numbered 0 to {}", ARGUMENTS - 1))
    }
}

/// One function name, or several.
#[derive(Debug, Default)]
pub(super) struct Names(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a function's name, or a list of names")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Call;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a function's name, or a table with `function`")
            }

            fn visit_str<E>(self, name: &str) -> Result<Call, E> {
                let function = Names(vec![name.to_owned()]);
                Ok(Call(CallTable { function, ..CallTable::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Call, A::Error> {
                CallTable::deserialize(MapAccessDeserializer::new(map)).map(Call)
            }
        }
        from.deserialize_any(NameOrTable)
    }
}

/// Parses a file.
pub(super) fn file(text: &str) -> Result<File, Wrong> {
    toml::from_str(text).map_err(|error| Wrong {
        at: error.span().map(|span| span.start),
        what: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
        help: "see docs/packs.md for all keys and an example".to_owned(),
    })
}
