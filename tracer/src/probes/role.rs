//! What a function does to resources: acquire, resize or release. Pure.

use tracer_common::{attach::Shape, object::END};

use super::Function;

/// What a function does to resources, in the order in which probes are numbered and attached: releases first, so that
/// leaktrace records no acquisition whose release it cannot see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It releases, or updates an object.
    Releases,
    /// It releases and acquires.
    Resizes,
    /// It acquires.
    Acquires,
}

impl Role {
    /// Every role, in that order.
    pub const ALL: [Self; 3] = [Self::Releases, Self::Resizes, Self::Acquires];

    /// The role of a function.
    pub fn of(function: &Function) -> Self {
        match (function.shape.releases(), function.shape.needs_return()) {
            (true, true) => Self::Resizes,
            (true, false) => Self::Releases,
            (false, _) if function.is_note() => Self::Releases,
            (false, _) => Self::Acquires,
        }
    }
}

impl Function {
    /// Whether resources that it releases would seem to live on if it is not probed.
    pub fn is_needed(&self) -> bool {
        match &self.object {
            Some(of) => of.function.does == END,
            // The break is its own release: without the probe, its acquisitions are not seen either.
            None => Role::of(self) != Role::Acquires && self.shape != Shape::Break,
        }
    }
}
