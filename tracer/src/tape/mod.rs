//! Tapes: what a run has learned from outside, in a file, and the run again from there.
//!
//! Takes questions and how to answer them live, passes on answers: live ones, live ones that are written to a tape too,
//! or those of a tape. Each thread of the line has its own stream of answers. Knows neither the kernel nor `/proc`, and
//! not what answers mean. See `docs/decisions/0013-tapes.md`.

mod format;
mod question;
mod reader;
pub mod redact;
pub mod wire;
mod writer;

use std::io;

use serde::{Serialize, de::DeserializeOwned};

pub use question::{Naming, Question, Timer};
pub use reader::{Player, Tape};
pub use redact::{Redact, Redactor};
pub use writer::{Recorder, TapeWriter};

/// Why a tape has no further answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ends here.
    #[error("the tape ends early")]
    Ended,
    /// Its bytes are not those that were written.
    #[error("the tape is damaged")]
    Malformed,
    /// This program asks another question than the one that recorded.
    #[error(
        "the tape does not fit this version of leaktrace: it answers {found:?}, not {wanted:?}"
    )]
    Mismatch {
        /// The question on the tape.
        found: Question,
        /// The question asked.
        wanted: Question,
    },
}

/// Answers for one thread of the line.
#[derive(Debug, Default)]
pub struct Answers(Source);

/// Where answers come from.
#[derive(Debug, Default)]
enum Source {
    /// From the running system.
    #[default]
    Live,
    /// From there, and onto a tape.
    Recorded(Recorder),
    /// From a tape.
    Tape(Box<Player>),
    /// From a tape that has no more.
    Over(Fault),
}

impl Answers {
    /// Live ones, which also go onto a tape if there is one.
    pub fn live(recorder: Option<Recorder>) -> Self {
        Self(recorder.map_or(Source::Live, Source::Recorded))
    }

    /// Those of a tape.
    pub fn replayed(player: Player) -> Self {
        Self(Source::Tape(Box::new(player)))
    }

    /// The answer. After the tape's end, it is a default: whoever asks checks [`Self::fault`] now and then.
    pub fn ask<T>(&mut self, question: Question, live: impl FnOnce() -> T) -> T
    where
        T: Serialize + DeserializeOwned + Redact + Default,
    {
        // Live answers of this kind are no failures, and a tape's failure is kept.
        self.try_ask(question, || Ok(live())).unwrap_or_default()
    }

    /// The answer, or a failure, which ends the run: live, or at the tape's end.
    pub fn try_ask<T>(
        &mut self,
        question: Question,
        live: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T>
    where
        T: Serialize + DeserializeOwned + Redact,
    {
        match &mut self.0 {
            Source::Live => live(),
            Source::Recorded(recorder) => {
                let answer = live()?;
                recorder.write(question, &answer);
                Ok(answer)
            }
            Source::Tape(player) => player.read(question).map_err(|fault| {
                self.0 = Source::Over(fault);
                io::Error::other(fault)
            }),
            Source::Over(fault) => Err(io::Error::other(*fault)),
        }
    }

    /// The answer to a question that older tapes do not have: on those, it is the default.
    pub fn ask_since<T>(&mut self, question: Question, live: impl FnOnce() -> T) -> T
    where
        T: Serialize + DeserializeOwned + Redact + Default,
    {
        if let Source::Tape(player) = &mut self.0 {
            match player.peek() {
                Ok(next) if next == question => {}
                Ok(_) => return T::default(),
                Err(fault) => {
                    self.0 = Source::Over(fault);
                    return T::default();
                }
            }
        }
        self.ask(question, live)
    }

    /// Whether answers go onto a tape.
    pub const fn is_recorded(&self) -> bool {
        matches!(self.0, Source::Recorded(_))
    }

    /// Whether answers come from a tape.
    pub const fn is_replayed(&self) -> bool {
        matches!(self.0, Source::Tape(_) | Source::Over(_))
    }

    /// Hands on what was recorded so far: a process that is killed from now on leaves it on its tape.
    pub fn flush(&mut self) {
        if let Source::Recorded(recorder) = &mut self.0 {
            recorder.flush();
        }
    }

    /// Why a tape has no further answers, if it has none.
    pub const fn fault(&self) -> Option<Fault> {
        match self.0 {
            Source::Over(fault) => Some(fault),
            _ => None,
        }
    }
}

/// A tape in memory, for tests.
#[cfg(test)]
pub(crate) fn in_memory(write: impl FnOnce(&TapeWriter)) -> Tape {
    let disk = writer::tests::Disk::new(usize::MAX);
    let tape = writer::tests::start(&disk);
    write(&tape);
    tape.finish(true);
    let bytes = disk.bytes.lock().map(|bytes| bytes.clone()).unwrap_or_default();
    Tape::from_bytes(bytes).unwrap_or_else(|| unreachable!("the writer has written it"))
}
