//! What is probed: functions as data, which objects have them, and where in an object each is best probed.
//!
//! Takes what a target has mapped, hands on attach points. Attaches nothing itself and knows no
//! address in a process: places are offsets in files.

pub mod allocator;
pub mod catalog;
mod extents;
mod identify;
mod locate;
mod object;
mod order;
mod place;
mod returns;
mod role;
pub mod user_defined;

use std::{borrow::Cow, path::PathBuf};

use tracer_common::attach::{Cookie, ProbeNumber};

pub use catalog::Function;
pub use locate::locate;
pub use object::Object;
pub use place::Place;
pub use returns::End;
pub use role::Role;

use crate::target::mappings::FileId;

/// One function of one object, and what became of it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its number: in attach cookies, in hits, in stacks. Of those with a place only.
    pub number: ProbeNumber,
    /// The function.
    pub function: Function,
    /// Names of other functions that are the same code.
    pub aliases: Vec<Cow<'static, str>>,
    /// The object that holds it, as the target sees it.
    pub object: Option<(FileId, PathBuf)>,
    /// Where it is probed, or why it is not.
    pub place: Result<Place, Absent>,
    /// How its outcome is learned, if it has a place.
    pub outcome: Outcome,
}

/// How the outcome of a function is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It releases: there is none.
    None,
    /// By a return probe, which replaces the return address.
    ReturnProbe,
    /// It makes an object, which is the first block acquired meanwhile.
    FirstBlock,
    /// At the instructions by which its calls end. The stack stays as it is.
    Instructions(Vec<End>, Why),
}

/// Why a function has no return probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// An exception may leave it, which cannot pass a return probe: the kernel has put an address of its
    /// own in place of the caller's, which no unwinder knows, and the C++ runtime ends the process.
    Throws,
    /// On this kernel a return probe may end a process that has a seccomp filter.
    Seccomp,
    /// `--no-return-probes`.
    Asked,
}

/// Why a function is not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The object does not have it.
    Missing,
    /// It passes everything on to a function that is probed.
    Forwards,
    /// It is there, but must not or cannot be probed.
    Refused(String),
    /// Its kind was not asked for.
    NotAsked,
}

impl Why {
    /// The same in words.
    pub const fn no_return_probe(self) -> &'static str {
        match self {
            Self::Throws => "it may throw an exception, which a return probe would not let pass",
            Self::Seccomp => {
                "on this kernel a return probe may end a process with a seccomp filter"
            }
            Self::Asked => "no return probes were asked for",
        }
    }
}

impl Probe {
    /// The cookie its programs are given.
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
        if self.function.is_untold() { cookie.maybe_first_block() } else { cookie }
    }
}
