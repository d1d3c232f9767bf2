//! Findings: what leaks, or may, one for each cause.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Address, Amount, Frame, Messages, Resource, VerdictClass, Word, words::names};

/// The answer to the question whether the targets leak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The class of the worst finding; `null` without findings.
    pub class: Option<VerdictClass>,
    /// The answer, a sentence.
    pub sentence: String,
    /// Leaks of more resources per second than this would have been seen; `null` while too little was seen, or where
    /// nothing can be judged.
    pub smallest_leak_per_s: Option<f64>,
}

/// A cause: one or several call sites that leak, or may, together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The same for the same cause in every run of the program.
    pub id: String,
    /// [`VerdictClass::Leak`], [`VerdictClass::Suspect`] or [`VerdictClass::Growing`].
    pub class: VerdictClass,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// Since when, seconds after tracing began; `null` when that is not known.
    pub since: Option<f64>,
    /// What leaks, in a few words that include the function.
    pub title: String,
    /// The reasons, a sentence each.
    pub reasons: Vec<String>,
    /// Kind of the resource that owns the others, or of most bytes.
    pub kind: Resource,
    /// Whose mistake it is; `null` when that is not known.
    pub fault: Option<Word<Fault>>,
    /// What to look at first in the source, a sentence; `null` when that is not known.
    #[serde(default)]
    pub look_at: Option<String>,
    /// Outstanding resources, all parts together.
    pub outstanding: Amount,
    /// How fast it grows; `null` when that is not known.
    pub rate: Option<FindingRate>,
    /// What closed connections leave behind; `null` when it is not tied to connections.
    pub per: Option<PerConnection>,
    /// The kinds of resources: the owner first, then those of most bytes.
    pub parts: Vec<FindingPart>,
    /// Where a library has acquired resources by itself: the objects that they belong to, those with most bytes first, a
    /// bounded number.
    #[serde(default)]
    pub owners: Vec<FindingOwner>,
    /// Numbers of the call sites: the one of the headline first.
    pub sites: Vec<u32>,
    /// Index into `frames` of the function to look at.
    pub headline: usize,
    /// The stack of the first call site, innermost frame first.
    pub frames: Arc<[Frame]>,
    /// What was acquired when, and how much of it is still there, oldest first, at the call site whose verdict counts; a
    /// bounded number.
    #[serde(default)]
    pub cohorts: Vec<FindingCohort>,
    /// The clients that it comes from, those of most resources first, a bounded number.
    pub clients: Vec<FindingClient>,
    /// Number of processes.
    pub processes: u64,
}

names! {
    /// Whose mistake a leak is.
    pub enum Fault {
        /// The program never called the release.
        Program = "program",
        /// The program called the release, and the resource remains.
        Library = "library",
    }
}

impl Fault {
    /// Its sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Program => "the program never calls the release",
            Self::Library => "the program calls the release, and the resource remains",
        }
    }
}

/// How fast a leak grows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingRate {
    /// Resources per second.
    pub count_per_s: f64,
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Lower bound of `count_per_s`, 95 percent.
    pub low: f64,
    /// Upper bound of `count_per_s`, 95 percent.
    pub high: f64,
}

/// What closed connections leave behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerConnection {
    /// Always `closed connection`.
    pub what: String,
    /// The share of closed connections that leave something behind, 0 to 1.
    pub share: f64,
    /// Bytes that each of those leaves behind.
    pub bytes: f64,
}

/// The outstanding resources of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingPart {
    /// Their kind.
    pub kind: Resource,
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An object to which resources belong that its library has acquired by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingOwner {
    /// The name of its type.
    pub kind: String,
    /// Its type among those of the library: `PULL`; `null` where the library has none.
    #[serde(rename = "type")]
    pub object_type: Option<String>,
    /// Its name: an endpoint; `null` without one.
    pub name: Option<String>,
    /// Target it belongs to.
    pub pid: u32,
    /// Its handle.
    pub address: Address,
    /// All that the library has acquired for it by itself.
    pub internals: Amount,
    /// Messages in its queues; `null` where it has none, or where their layout is not known.
    pub messages: Option<Messages>,
}

impl FindingOwner {
    /// What it is: `the PULL zmq_socket at tcp://127.0.0.1:5555`.
    pub fn label(&self) -> String {
        let object_type = self.object_type.as_ref().map(|word| format!("{word} "));
        let name = self.name.as_ref().map(|name| format!(" at {name}"));
        let (object_type, name) = (object_type.unwrap_or_default(), name.unwrap_or_default());
        format!("the {object_type}{}{name}", self.kind)
    }
}

/// Resources that were acquired in one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingCohort {
    /// The first acquisition, seconds after tracing began.
    pub from_s: f64,
    /// The last one.
    pub to_s: f64,
    /// Resources acquired then.
    pub acquired: u64,
    /// Those of them that are outstanding.
    pub outstanding: u64,
}

/// What one client's connections account for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingClient {
    /// Its address, without the port.
    pub address: String,
    /// Outstanding resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a suppression hides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// The pattern, as its file has it.
    pub pattern: String,
    /// Number of findings.
    pub findings: u64,
    /// Their outstanding resources.
    pub outstanding: Amount,
    /// Titles of the worst of them, a bounded number.
    #[serde(default)]
    pub titles: Vec<String>,
}

impl Finding {
    /// The function to look at, if the stack has any.
    pub fn asked(&self) -> Option<&Frame> {
        self.frames.get(self.headline).or_else(|| self.frames.first())
    }
}
