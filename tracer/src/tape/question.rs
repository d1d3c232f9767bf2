//! What the line asks the outside: each answer on a tape follows its question, so that a tape that does not fit is
//! noticed at once.

use serde::{Deserialize, Serialize};

/// A question. Numbers are process ids, unless stated otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// With what does the collector begin?
    Targets,
    /// With what does the reporter begin?
    Session,
    /// What does the collector do next?
    Step,
    /// What time is it?
    Now,
    /// Is it time to scan again?
    IsDue(Timer),
    /// What has survived in the kernel's table?
    Drained,
    /// What is in the ring buffer?
    Records,
    /// What has died young?
    Died,
    /// What was lost?
    Losses,
    /// How often was each probe hit?
    Hits,
    /// Which releases were lost last?
    LostReleases,
    /// Which library objects are there?
    Objects,
    /// Which releases of objects were requested?
    ReleaseRequests,
    /// Was the object at this handle still the same when its entry was deleted?
    RemovedObject(u64),
    /// Have unwind tables arrived?
    TablesArrived,
    /// Have the programs taken the code ranges?
    CodeRanges(u32),
    /// Progress of the unwind tables?
    Tables,
    /// Has the process ended?
    Ended(u32),
    /// Can the process be watched?
    Watched(u32),
    /// Has its code changed?
    Mappings(u32),
    /// Who is it?
    Identity(u32),
    /// Its open descriptors?
    Descriptors(u32),
    /// The type of a descriptor: process and descriptor.
    FdType(u32, u32),
    /// Its network namespace?
    Namespace(u32),
    /// Its sockets?
    Sockets(u32),
    /// Which of its pages have anonymous memory of their own?
    Touched(u32),
    /// Which of its pages still have?
    Resident(u32),
    /// What is in its memory?
    Numbers(u32),
    /// Which snapshot does the reporter report?
    Turn,
    /// The names that this step of naming has changed?
    Names(Naming),
    /// The frames of a call site, by its number, without lookups?
    Unnamed(u32),
    /// The name of the function at this address?
    Function(u64),
    /// The objects of the call sites?
    Modules,
    /// Its resident memory?
    ResidentBytes(u32),
    /// The kernel's figures of its memory and descriptors?
    Usage(u32),
    /// Does the kernel show its page frames?
    FramesShown,
    /// What has leaktrace used itself?
    OwnUsage,
    /// How is the log of connections?
    Log,
    /// Its memory and its limits?
    Limits(u32),
    /// The limits that several processes share?
    SharedLimits,
    /// Which code was mapped?
    CodeLoads,
    /// Which code starts threads?
    ThreadStarts,
    /// How much memory do these of its stacks take?
    ThreadStacks(u32),
    /// Which of its children has it not waited for?
    Zombies(u32),
    /// What have libraries acquired by themselves, and for which of their objects?
    Internals,
}

/// A scan that must not take more than a share of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timer {
    /// Of the targets' memory maps.
    Mappings,
    /// Of their descriptors.
    Descriptors,
    /// Of their resident pages.
    Pages,
    /// Of their limits.
    Limits,
}

/// A step of naming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Naming {
    /// Memory maps were read.
    Learned,
    /// Perf maps have grown.
    Refreshed,
    /// Call sites were looked up.
    Looked,
}
