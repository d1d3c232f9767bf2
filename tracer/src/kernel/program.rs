//! The programs that can be attached to user-space functions, their names in the object file, and attach points.

use tracer_common::attach::Cookie;

/// A program that can be attached to functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Entry of an acquiring function.
    AcquireEntry,
    /// Entry of a function that maps memory, or moves the end of the data segment.
    MapEntry,
    /// Entry of a resizing function.
    ResizeEntry,
    /// Entry of a releasing function.
    ReleaseEntry,
    /// Return of an acquiring, resizing or joining function.
    CallReturn,
    /// A return instruction of an acquiring, resizing or joining function.
    ReturnEntry,
    /// Entry of a function that constructs an object, or initializes a caller-allocated one.
    ObjectEntry,
    /// Return of an object's constructor.
    ObjectReturn,
    /// A return instruction of an object's constructor.
    ObjectReturnEntry,
    /// Entry of a function that updates what is known of an object.
    ObjectNote,
    /// Entry of a function that starts a thread.
    ThreadStartEntry,
    /// Entry of a function that joins a thread.
    ThreadJoinEntry,
    /// Entry of a function that detaches a thread.
    ThreadDetachEntry,
    /// Entry; does nothing, to measure the cost of a probe.
    BareEntry,
    /// Return; does nothing, to measure the cost of a probe.
    BareReturn,
}

impl Program {
    pub(super) const ALL: [Self; 15] = [
        Self::AcquireEntry,
        Self::MapEntry,
        Self::ResizeEntry,
        Self::ReleaseEntry,
        Self::CallReturn,
        Self::ReturnEntry,
        Self::ObjectEntry,
        Self::ObjectReturn,
        Self::ObjectReturnEntry,
        Self::ObjectNote,
        Self::ThreadStartEntry,
        Self::ThreadJoinEntry,
        Self::ThreadDetachEntry,
        Self::BareEntry,
        Self::BareReturn,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AcquireEntry => "acquire_entry",
            Self::MapEntry => "map_entry",
            Self::ResizeEntry => "resize_entry",
            Self::ReleaseEntry => "release_entry",
            Self::CallReturn => "call_return",
            Self::ReturnEntry => "return_entry",
            Self::ObjectEntry => "object_entry",
            Self::ObjectReturn => "object_return",
            Self::ObjectReturnEntry => "object_return_entry",
            Self::ObjectNote => "object_note",
            Self::ThreadStartEntry => "thread_start_entry",
            Self::ThreadJoinEntry => "thread_join_entry",
            Self::ThreadDetachEntry => "thread_detach_entry",
            Self::BareEntry => "bare_entry",
            Self::BareReturn => "bare_return",
        }
    }
}

impl Program {
    /// Whether the kernel runs it at function returns (uretprobe).
    pub(super) const fn is_at_return(self) -> bool {
        matches!(self, Self::CallReturn | Self::ObjectReturn | Self::BareReturn)
    }
}

/// An attach point and the cookie that the program receives on each hit.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The cookie.
    pub cookie: Cookie,
}
