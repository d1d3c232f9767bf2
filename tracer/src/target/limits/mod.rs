//! Memory of the targets, and what bounds them: their own limits, those of their control groups, and the system's.
//!
//! Takes process ids, passes on plain figures from `/proc` and the control groups' files. Only limits that exist are
//! passed on. Forecasts nothing.

mod cgroup;
mod process;
mod stacks;
mod system;

use serde::{Deserialize, Serialize};

use super::usage::Usage;
use crate::tape::{Redact, Redactor};

pub use process::ProcessReader;
pub use system::SharedReader;

/// What limits an amount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LimitedBy {
    /// `RLIMIT_NOFILE`: open descriptors of a process.
    OpenFiles,
    /// `vm.max_map_count`: mappings of a process.
    Mappings,
    /// `RLIMIT_AS`: address space of a process, bytes.
    AddressSpace,
    /// `RLIMIT_DATA`: private writable memory of a process, bytes.
    Data,
    /// `RLIMIT_NPROC`: threads of the user with this id.
    UserThreads(u32),
    /// Threads of the control group with this path.
    CgroupThreads(String),
    /// Memory of the control group with this path, bytes.
    CgroupMemory(String),
    /// `kernel.threads-max`: threads of the system.
    SystemThreads,
    /// `kernel.pid_max`: thread ids of the system.
    ThreadIds,
    /// The system's memory, bytes.
    SystemMemory,
    /// `fs.file-max`: open files of the system.
    SystemFiles,
}

impl Redact for LimitedBy {
    /// Control groups are named after users, services and containers, and an id may be a person's.
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        match self {
            Self::CgroupThreads(path) => Self::CgroupThreads(redactor.cgroup(path)),
            Self::CgroupMemory(path) => Self::CgroupMemory(redactor.cgroup(path)),
            Self::UserThreads(user) => Self::UserThreads(redactor.user(*user)),
            other => other.clone(),
        }
    }
}

/// A limit and what is used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounded {
    /// What sets the limit.
    pub by: LimitedBy,
    /// How much is used: bytes for memory, else a number. `None` when whoever asks knows it.
    pub used: Option<u64>,
    /// The limit, in the same unit.
    pub limit: u64,
}

impl Redact for Bounded {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        Self { by: self.by.redacted(redactor), ..self.clone() }
    }
}

/// The figures of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReading {
    /// Its memory; the `brk` heap is not read.
    pub memory: Usage,
    /// Resident memory of its threads' stacks, bytes; `None` when one of them is not known.
    pub stacks: Option<u64>,
    /// Its own limits.
    pub limits: Vec<Bounded>,
}

impl Redact for ProcessReading {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        Self { limits: self.limits.redacted(redactor), ..self.clone() }
    }
}
