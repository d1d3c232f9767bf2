//! The collector's steps, live or from a tape.
//!
//! Takes what is due, passes on a step; on a tape, a step is one answer. Nothing else decides what the collector does.

use std::{io, sync::mpsc};

use serde::{Deserialize, Serialize};

use super::{Probed, Request};
use crate::{
    lib_objects::ledger::Internals,
    reconcile::heap::HeapReading,
    snapshot::windows::OverheadReading,
    source::RecordSource,
    tape::{Question, redact::plain},
    target::{Pid, mappings::FileId},
};

/// What the collector does next.
pub(super) enum Step {
    /// Drain, and read records.
    Cycle,
    /// Make a snapshot.
    Snapshot,
    /// Handle a request.
    Request(Request),
    /// Make the last snapshot.
    Stop,
    /// Take in a look at the targets' heaps, and at what libraries have acquired there by themselves. On a tape, the latter
    /// is the answer to a question of its own, since older tapes lack it.
    Heap(HeapReading, Option<Internals>),
}

/// The same on a tape: a request without the channel for its answer.
#[derive(Clone, Serialize, Deserialize)]
enum Taped {
    Cycle,
    Snapshot,
    Stop,
    Flush,
    Forget(Pid),
    Allocators(Pid, Vec<FileId>, Probed),
    Pause,
    Resume,
    Read,
    OverheadReading(OverheadReading),
    Heap(HeapReading),
}

plain!(Taped);

impl Taped {
    fn of(step: &Step) -> Self {
        match step {
            Step::Cycle => Self::Cycle,
            Step::Snapshot => Self::Snapshot,
            Step::Heap(reading, _) => Self::Heap(reading.clone()),
            Step::Stop | Step::Request(Request::Stop) => Self::Stop,
            Step::Request(Request::Flush(_)) => Self::Flush,
            Step::Request(Request::Forget(pid, _)) => Self::Forget(*pid),
            Step::Request(Request::Allocators { pid, files, probed, .. }) => {
                Self::Allocators(*pid, files.clone(), probed.clone())
            }
            Step::Request(Request::Pause(_)) => Self::Pause,
            Step::Request(Request::Resume(_)) => Self::Resume,
            Step::Request(Request::Read(_)) => Self::Read,
            Step::Request(Request::OverheadReading(reading)) => Self::OverheadReading(*reading),
        }
    }

    /// The step again. Nobody waits for the answer to its request.
    fn replayed(self) -> Step {
        let (done, _) = mpsc::sync_channel(1);
        let (reading, _) = mpsc::sync_channel(1);
        Step::Request(match self {
            Self::Cycle => return Step::Cycle,
            Self::Snapshot => return Step::Snapshot,
            Self::Stop => return Step::Stop,
            Self::Heap(reading) => return Step::Heap(reading, None),
            Self::Flush => Request::Flush(done),
            Self::Forget(pid) => Request::Forget(pid, done),
            Self::Allocators(pid, files, probed) => {
                Request::Allocators { pid, files, probed, done }
            }
            Self::Pause => Request::Pause(reading),
            Self::Resume => Request::Resume(reading),
            Self::Read => Request::Read(reading),
            Self::OverheadReading(reading) => Request::OverheadReading(reading),
        })
    }
}

/// The step that is due, which a tape records; without one, the step that the tape has recorded.
pub(super) fn on_tape(due: Option<Step>, source: &mut RecordSource) -> io::Result<Step> {
    let Some(step) = due else {
        // The closure is never called: without a pacer, there is a tape.
        let taped = source.answers().try_ask(Question::Step, || Ok(Taped::Stop))?;
        return Ok(taped.replayed());
    };
    if source.answers().is_recorded() {
        source.answers().try_ask(Question::Step, || Ok(Taped::of(&step)))?;
    }
    Ok(step)
}
