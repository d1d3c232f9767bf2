//! What the hits of a probe do to resources. Pure.

use tracer_common::object::END;

use super::Function;

/// What a function does to resources, in the order in which probes are numbered and attached: nothing is acquired
/// before its release can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It releases, or says something of an object.
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
    /// Whether resources seem to live on that it has ended, when it is not probed.
    pub fn is_needed(&self) -> bool {
        match &self.object {
            Some(of) => of.function.does == END,
            None => Role::of(self) != Role::Acquires,
        }
    }
}
