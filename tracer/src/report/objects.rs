//! Objects of libraries by their type names.

use serde::{Deserialize, Serialize};

use super::{Address, words::names};

/// Objects of all targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LibraryObjects {
    /// By type: those of most bytes first, then those of most objects.
    #[serde(rename = "kinds")]
    pub types: Vec<ObjectType>,
    /// Single ones: of each call site the oldest, a bounded number.
    pub table: Vec<LibraryObject>,
}

/// All objects of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectType {
    /// Its name: `evbuffer`.
    #[serde(rename = "kind")]
    pub name: String,
    /// The library: `libevent`.
    pub library: String,
    /// What it is, for a person.
    pub sentence: String,
    /// Outstanding ones, whatever their age.
    pub live: u64,
    /// Those of them whose release was asked for: others hold references, or it is deferred. `null` where no function is
    /// known that asks for it.
    pub release_asked: Option<u64>,
    /// Made since the start.
    pub created: u64,
    /// Gone since the start.
    pub destroyed: u64,
    /// Made per second over the recent past; `null` when too young to tell.
    pub created_per_s: Option<f64>,
    /// Bytes of their blocks.
    pub bytes: u64,
    /// Bytes of what they own: objects, those of other types included, and blocks that were acquired while they were made.
    pub owned_bytes: u64,
    /// Age of the oldest, seconds; `null` when there is none, or it is not known.
    pub oldest_s: Option<f64>,
    /// Bytes that are queued in those that were read; `null` where none was. The same of the next.
    pub queued_bytes: Option<u64>,
    /// Those that wait for something to happen.
    pub pending: Option<u64>,
    /// How many were read for these sums; `null` where none was: their layout is not known.
    #[serde(default)]
    pub summed: Option<u64>,
    /// Number of the call site that has most of them outstanding.
    pub site: Option<u32>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LibraryObject {
    /// Target it belongs to.
    pub pid: u32,
    /// The name of its type.
    #[serde(rename = "kind")]
    pub type_name: String,
    /// Its handle.
    pub address: Address,
    /// Number of the call site that made it.
    pub site: u32,
    /// Age, seconds.
    pub age_s: f64,
    /// Whether somebody asked for its release.
    pub state: ObjectState,
    /// Seconds since its release was asked for; `null` when it was not.
    pub release_asked_s: Option<f64>,
    /// Bytes of its block.
    pub bytes: u64,
    /// Bytes of the objects that it owns.
    pub owned_bytes: u64,
    /// What it is best known by: its name, its callback, its type; `null` without any.
    pub label: Option<String>,
    /// Descriptor that it works on; `null` when it has none, or it is not known.
    pub fd: Option<u32>,
    /// Who is at the other end of that descriptor, or else of the connection that it was made for; `null` when that is not
    /// known.
    pub peer: Option<String>,
    /// Number of the connection that it was made for; `null` for none.
    pub connection: Option<u64>,
    /// Handle of the object that owns it; `null` for none.
    pub owner: Option<Address>,
    /// References to it; `null` where the layout is not known. The same of the next two.
    pub references: Option<u64>,
    /// Bytes that are queued in it.
    pub queued_bytes: Option<u64>,
    /// Whether it waits for something to happen.
    pub pending: Option<bool>,
}

names! {
    /// How far an object that is there has come.
    pub enum ObjectState {
        /// In use.
        Live = "live",
        /// Somebody asked for its release, and it is still there.
        ReleaseAsked = "release_asked",
    }
}

impl LibraryObject {
    /// Whether somebody asked for its release, and it is still there.
    pub fn is_asked(&self) -> bool {
        self.release_asked_s.is_some()
    }

    /// Its block's bytes, and those of the objects that it owns.
    pub const fn all_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.owned_bytes)
    }
}

impl ObjectType {
    /// Whether all of them were read for sums.
    pub fn is_all_summed(&self) -> bool {
        self.summed.is_some_and(|summed| summed >= self.live)
    }

    /// The bytes of their blocks, and of the objects that they own.
    pub const fn all_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.owned_bytes)
    }
}
