//! Decides what to probe: functions as data, the objects that define them, and the cheapest place in each function.
//!
//! Takes a target's mappings, passes on attach points. Must not attach anything, and uses no addresses in a process:
//! places are offsets in files.

pub mod allocator;
pub mod catalog;
mod extents;
mod identify;
mod locate;
mod object;
mod order;
mod returns;
mod role;
pub mod threads;
pub mod user_defined;

use std::{borrow::Cow, path::PathBuf};

use serde::{Deserialize, Serialize};
use tracer_common::attach::{Cookie, ProbeNumber, Shape};

pub use catalog::Function;
pub use locate::locate;
pub use object::Object;
pub use returns::End;
pub use role::Role;

pub use crate::arch::Place;
use crate::{tape::redact, target::mappings::FileId};

/// One function of one object, and whether it is probed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Its number in attach cookies, hits and stacks. Only probes with a place have one.
    pub number: ProbeNumber,
    /// The function.
    pub function: Function,
    /// Names of other functions with the same code.
    pub aliases: Vec<Cow<'static, str>>,
    /// The object that defines it, as the target sees it.
    #[serde(with = "crate::tape::wire::optional_file")]
    pub object: Option<(FileId, PathBuf)>,
    /// Where the probe is, or why there is none.
    pub place: Result<Place, Absent>,
    /// How its probes learn its outcome, if it has a place.
    pub outcome: Outcome,
}

/// How probes learn the outcome of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The function releases: it has no outcome.
    None,
    /// By a return probe, which replaces the return address.
    ReturnProbe,
    /// The function creates an object, which is the first block allocated during the call.
    FirstBlock,
    /// At the instructions that end its calls. The probes do not change the stack.
    Instructions(Vec<End>, Why),
}

/// Why a function has no return probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// A C++ exception may leave it, but cannot pass a return probe: the kernel has replaced the return address with
    /// one that no unwinder knows, and the C++ runtime ends the process.
    Throws,
    /// On this kernel a return probe may end a process that has a seccomp filter.
    Seccomp,
    /// `--no-return-probes`.
    Requested,
}

/// Why a function is not probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absent {
    /// The object does not define it.
    Missing,
    /// It only forwards to a function that is probed.
    Forwards,
    /// It exists, but must not or cannot be probed.
    Refused(String),
    /// The user did not request its kind.
    NotRequested,
}

impl Why {
    /// The reason in words.
    pub const fn no_return_probe(self) -> &'static str {
        match self {
            Self::Throws => "it may throw an exception, which a return probe would not let pass",
            Self::Seccomp => {
                "on this kernel a return probe may end a process with a seccomp filter"
            }
            Self::Requested => "no return probes were requested",
        }
    }
}

impl Probe {
    /// Without the folder of its object.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let object = self.object.as_ref().map(|(file, path)| (*file, redact::os_path(path)));
        Self { object, ..self.clone() }
    }

    /// Whether its library's own calls are left out: a C library maps files and moves the break for its own work. A
    /// program that contains its C library has both in one file; there only calls within `malloc` can be distinguished.
    fn leaves_out_own_calls(&self) -> bool {
        matches!(self.function.shape, Shape::Map | Shape::Break)
            && self.object.as_ref().is_some_and(|(_, path)| identify::is_c_library(path))
    }

    /// The cookie that its BPF programs receive.
    pub fn cookie(&self, place: &Place) -> Cookie {
        let cookie = Cookie::new(
            self.number,
            self.function.record_kind() as u8,
            self.function.shape,
            self.function.arguments,
            place.words,
        );
        let cookie = match self.outcome {
            Outcome::Instructions(..) => cookie.without_return_probe(self.function.throws),
            Outcome::FirstBlock => cookie.by_first_block(),
            _ => cookie,
        };
        let cookie = if self.leaves_out_own_calls() { cookie.without_own_calls() } else { cookie };
        if self.function.is_first_allocation() { cookie.maybe_first_block() } else { cookie }
    }
}
