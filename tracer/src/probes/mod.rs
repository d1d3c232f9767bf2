//! What is probed: functions as data, which objects have them, and where in an object each is best probed.
//!
//! Takes what a target has mapped, hands on attach points. Attaches nothing itself and knows no
//! address in a process: places are offsets in files.

pub mod allocator;
pub mod catalog;
mod identify;
mod locate;
mod object;
mod order;
mod place;
pub mod wish;

use std::{borrow::Cow, path::PathBuf};

use tracer_common::attach::Cookie;

pub use catalog::Function;
pub use locate::{locate, names};
pub use object::Object;
pub use place::Place;

use crate::target::mappings::FileId;

/// One function of one object, and what became of it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its number: in attach cookies, in hits, in stacks. Of those with a place only.
    pub number: u8,
    /// The function.
    pub function: Function,
    /// Names of other functions that are the same code.
    pub aliases: Vec<Cow<'static, str>>,
    /// The object that holds it, as the target sees it.
    pub object: Option<(FileId, PathBuf)>,
    /// Where it is probed, or why it is not.
    pub place: Result<Place, Absent>,
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
}

impl Probe {
    /// The cookie its programs are given.
    pub fn cookie(&self, place: &Place) -> Cookie {
        Cookie::new(
            self.number,
            self.function.kind as u8,
            self.function.shape,
            self.function.arguments,
            place.words,
        )
    }
}
