//! Chooses the BPF program for each attach point of an object.
//!
//! Takes probes, passes on points by program: those at the ends of calls before those at their beginnings, so that no
//! call is recorded whose end would be missed.

use tracer_common::attach::{ProbeNumber, Shape};

use crate::{
    kernel::{Point, Program},
    probes::{Outcome, Place, Probe},
    target::mappings::FileId,
};

/// Points of one object, with the number of the probe that each belongs to.
#[derive(Default)]
pub(super) struct Points {
    ends: Vec<(Program, Vec<(ProbeNumber, Point)>)>,
    entries: Vec<(Program, Vec<(ProbeNumber, Point)>)>,
}

impl Points {
    /// Adds the points of one probe. `new` says whether a return instruction is not probed yet: functions may share
    /// them. With `bare`, the programs are empty.
    pub(super) fn add(
        &mut self,
        probe: &Probe,
        place: &Place,
        bare: bool,
        mut new: impl FnMut(Option<FileId>, u64) -> bool,
    ) {
        let (entry, back, ret) = programs(probe.function.shape, bare);
        let cookie = probe.cookie(place);
        match &probe.outcome {
            Outcome::None | Outcome::FirstBlock => {}
            Outcome::ReturnProbe => {
                push(&mut self.ends, back, probe, Point { offset: place.offset, cookie });
            }
            Outcome::Instructions(ends, _) => {
                let file = probe.object.as_ref().map(|(file, _)| *file);
                for end in ends.iter().filter(|end| new(file, end.offset)) {
                    let cookie =
                        if end.first_argument { cookie.returning_first_argument() } else { cookie };
                    push(&mut self.ends, ret, probe, Point { offset: end.offset, cookie });
                }
            }
        }
        push(&mut self.entries, entry, probe, Point { offset: place.offset, cookie });
    }

    /// The groups to attach, in order.
    pub(super) fn in_order(self) -> impl Iterator<Item = (Program, Vec<(ProbeNumber, Point)>)> {
        self.ends.into_iter().chain(self.entries)
    }
}

/// The programs at the entry, at a return probe, and at a return instruction.
const fn programs(shape: Shape, bare: bool) -> (Program, Program, Program) {
    if bare {
        return (Program::BareEntry, Program::BareReturn, Program::BareEntry);
    }
    let entry = match shape {
        Shape::Size | Shape::CountSize | Shape::OutPointer => Program::AcquireEntry,
        Shape::Map | Shape::Break => Program::MapEntry,
        Shape::Resize | Shape::CountResize | Shape::Remap => Program::ResizeEntry,
        Shape::Release | Shape::Unmap => Program::ReleaseEntry,
        Shape::Note => Program::ObjectNote,
        Shape::StartThread => Program::ThreadStartEntry,
        Shape::JoinThread => Program::ThreadJoinEntry,
        Shape::DetachThread => Program::ThreadDetachEntry,
        Shape::Construct | Shape::ConstructInPlace => {
            return (Program::ObjectEntry, Program::ObjectReturn, Program::ObjectReturnEntry);
        }
    };
    (entry, Program::CallReturn, Program::ReturnEntry)
}

fn push(
    groups: &mut Vec<(Program, Vec<(ProbeNumber, Point)>)>,
    program: Program,
    probe: &Probe,
    point: Point,
) {
    match groups.iter_mut().find(|(of, _)| *of == program) {
        Some((_, points)) => points.push((probe.number, point)),
        None => groups.push((program, vec![(probe.number, point)])),
    }
}
