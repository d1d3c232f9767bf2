//! Library objects by type.

use serde::{Deserialize, Serialize};

use super::{Address, Amount, words::names};

/// Objects of all targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LibraryObjects {
    /// By type: those of most bytes first, then of most objects.
    #[serde(rename = "kinds")]
    pub types: Vec<ObjectType>,
    /// Single objects: the oldest of each call site, a bounded number.
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
    /// A description for people.
    pub sentence: String,
    /// Outstanding objects, of any age.
    pub live: u64,
    /// Outstanding objects whose release was requested: others hold references, or the release is deferred. `null`
    /// without a known function that requests release.
    pub release_asked: Option<u64>,
    /// Created since the start.
    pub created: u64,
    /// Destroyed since the start.
    pub destroyed: u64,
    /// Created per second over the recent past; `null` with too little history.
    pub created_per_s: Option<f64>,
    /// Bytes of the objects' own blocks.
    pub bytes: u64,
    /// Bytes of their parts: objects, of any type, and blocks that were acquired inside their constructors.
    pub owned_bytes: u64,
    /// Age of the oldest, seconds; `null` when there is none, or when not known.
    pub oldest_s: Option<f64>,
    /// Bytes queued in the objects that were read; `null` where none was. The same applies to `pending`.
    pub queued_bytes: Option<u64>,
    /// Objects that wait for an event.
    pub pending: Option<u64>,
    /// Number of objects read for these sums; `null` where none was: the layout is not known.
    #[serde(default)]
    pub summed: Option<u64>,
    /// Number of the call site with most outstanding objects.
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
    /// Number of the call site that created it.
    pub site: u32,
    /// Age, seconds.
    pub age_s: f64,
    /// Whether its release was requested.
    pub state: ObjectState,
    /// Seconds since its release was requested; `null` when it was not.
    pub release_asked_s: Option<f64>,
    /// Bytes of its block.
    pub bytes: u64,
    /// Bytes of the objects that it owns.
    pub owned_bytes: u64,
    /// Its most telling name: its own, its callback's, or its type; `null` without any.
    pub label: Option<String>,
    /// Its file descriptor; `null` when it has none, or when not known.
    pub fd: Option<u32>,
    /// Remote address of that descriptor, else of the connection that it was created for; `null` when not known.
    pub peer: Option<String>,
    /// Number of the connection that it was created for; `null` for none.
    pub connection: Option<u64>,
    /// Handle of the object that owns it; `null` for none.
    pub owner: Option<Address>,
    /// References to it; `null` where the layout is not known. The same applies to the next two.
    pub references: Option<u64>,
    /// Bytes that are queued in it.
    pub queued_bytes: Option<u64>,
    /// Whether it waits for an event.
    pub pending: Option<bool>,
    /// What its library has acquired for it by itself, in threads of its own too, as the target's memory shows; `null`
    /// where its pack does not say how to find it, and while nobody has looked.
    #[serde(default)]
    pub internals: Option<Amount>,
    /// Messages in its queues, at the same time; `null` where it has none, or where their layout is not known.
    #[serde(default)]
    pub messages: Option<Messages>,
}

/// Messages in the queues of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Those that wait to be received by the program.
    pub waiting: u64,
    /// Those that were taken out to be received so far, over the connections that are there.
    pub received: u64,
    /// Those that the program has sent and the library has not begun to send.
    pub unsent: u64,
}

names! {
    /// State of an existing object.
    pub enum ObjectState {
        /// In use.
        Live = "live",
        /// Its release was requested, and it still exists.
        ReleaseAsked = "release_asked",
    }
}

impl LibraryObject {
    /// Whether its release was requested, and it still exists.
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
