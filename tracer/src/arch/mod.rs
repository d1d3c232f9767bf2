//! The processor that leaktrace runs on: its instructions, calling convention, unwind registers, and what the kernel
//! does differently on it.
//!
//! [`Architecture`] is the interface, [`Host`] the implementation for this machine. Each architecture has a file or
//! folder here; `unsupported.rs` serves all others. Nothing else in this crate names a register or decodes an
//! instruction. Pure: takes bytes and numbers, passes on plain data; reads no file, and knows no process.

#[cfg(any(test, not(target_arch = "x86_64"), leaktrace_unsupported_arch))]
mod unsupported;
#[cfg(all(target_arch = "x86_64", not(leaktrace_unsupported_arch)))]
mod x86_64;

use gimli::{EndianSlice, LittleEndian, UnwindSection, UnwindTableRow};
use serde::{Deserialize, Serialize};
use tracer_common::unwind::Rule;

#[cfg(any(not(target_arch = "x86_64"), leaktrace_unsupported_arch))]
pub(crate) use unsupported::Unknown as Host;
#[cfg(all(target_arch = "x86_64", not(leaktrace_unsupported_arch)))]
pub(crate) use x86_64::X86_64 as Host;

/// Bytes of a section with call frame information.
pub type Slice<'data> = EndianSlice<'data, LittleEndian>;

/// The names of the supported architectures.
pub const SUPPORTED: [&str; 1] = ["x86-64"];

/// Why nothing can be traced on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("leaktrace does not support the processor architecture `{architecture}`")]
pub struct Unsupported {
    /// The name of this machine's architecture.
    pub architecture: &'static str,
}

/// What the rest of leaktrace needs to know of a processor.
pub trait Architecture {
    /// Its name, for people.
    const NAME: &'static str;
    /// The architecture of object files for it; `Unknown` if leaktrace supports none.
    const OBJECTS: object::Architecture;
    /// The BPF programs.
    const BPF_OBJECT: &'static Aligned<[u8]>;

    /// The bits of a pointer that are an address: programs may keep tags in the others.
    const POINTER_MASK: u64;
    /// How many arguments a function receives in registers.
    const REGISTER_ARGUMENTS: u8;
    /// Most bytes of a call instruction.
    const CALL_BYTES: usize;
    /// Type of the relocation of a slot whose value a function of the object computes at load time.
    const RESOLVED_SLOT: object::elf::RelocationType;
    /// Beginnings of the function to which a signal handler returns: they identify it in C libraries without unwind
    /// tables.
    const SIGNAL_RETURNS: &'static [&'static [u8]];

    /// What the names of the kernel's functions for system calls begin with.
    const SYSCALL_PREFIX: &'static str;
    /// Bytes of `struct pt_regs`, with which the kernel saves a thread's registers at the very end of its kernel stack.
    const SAVED_REGISTERS_BYTES: i32;
    /// The structure of the kernel that is as large as a thread's kernel stack, which has no type of its own.
    const KERNEL_STACK: &'static str;

    /// Where a task has what this processor needs of a thread, as a member of the kernel's type …
    const THREAD_STATE: &'static str;
    /// … and in that, the pointer to thread-local data, which is the thread's `pthread_t`.
    const THREAD_POINTER: &'static str;

    /// Functions that do nothing, to measure what probes cost: the kernel emulates the first instruction of two of
    /// them, and single-steps that of the third.
    const NOTHING: [extern "C" fn(); 3];

    /// Whether leaktrace supports this architecture.
    fn supported() -> Result<(), Unsupported>;

    /// The place for a probe that needs these arguments in the function whose code is `code`, starting at `offset` in
    /// its file.
    fn place(code: &[u8], offset: u64, arguments: &[u8]) -> Result<Place, Unsupported>;

    /// Like [`Architecture::place`], for a probe that may be placed where the return address is deeper in the stack, as
    /// long as the registers that unwinding needs still have the caller's values. `None` if no such place is cheap.
    fn deeper_place(code: &[u8], offset: u64, arguments: &[u8]) -> Option<Place>;

    /// The bits that a function tests which takes a pointer as its first argument and reads one flag of what it points to:
    /// its byte, counted from the pointer, and the bits in it. `None` if the code is not that simple.
    fn flag_read(code: &[u8]) -> Option<(u8, u8)>;

    /// Whether a probe on this code makes the kernel write to the stack, where the code may have data.
    fn is_probe_unsafe(code: &[u8]) -> bool;

    /// Decodes code that starts at `address`, to the end of the code.
    fn decode(code: &[u8], address: u64) -> impl Iterator<Item = Instruction>;

    /// The target of the call that ends with `bytes` ([`Architecture::CALL_BYTES`] of them) at the address `end`, if
    /// there is one and its target is fixed.
    fn call_before(bytes: &[u8], end: u64) -> Option<Destination>;

    /// The slot that a stub of the procedure linkage table at `address` jumps through; `None` if `code` is none.
    fn stub_slot(code: &[u8], address: u64) -> Option<u64>;

    /// The stubs in a section of them at `address`: of each its address and its slot.
    fn stubs(section: &[u8], address: u64) -> Vec<(u64, u64)>;

    /// How the caller is found from each instruction of a function without call frame information, whose code is `code`
    /// at `start`: rules in ascending order, `None` where none is known; empty if the code cannot be followed.
    fn rules_of_code(code: &[u8], start: u64) -> Vec<(u64, Option<Meaning>)>;

    /// Addresses at fixed distances that the code at `address` calls or takes.
    fn addresses_in(code: &[u8], address: u64) -> Vec<u64>;

    /// How a row of call frame information finds the caller.
    fn unwind_rule<'data, S: UnwindSection<Slice<'data>>>(
        row: &UnwindTableRow<usize>,
        section: &S,
        encoding: gimli::Encoding,
    ) -> Meaning;
}

/// The place of a probe in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Offset in the object's file.
    pub offset: u64,
    /// Bytes after the function's first instruction.
    pub behind_entry: u64,
    /// Whether the kernel emulates the instruction there.
    pub emulated: bool,
    /// 8-byte words between the stack pointer and the return address there.
    pub words: u8,
}

/// One instruction, as far as control flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its address.
    pub address: u64,
    /// The address after it.
    pub end: u64,
    /// How control flow continues after it.
    pub flow: Flow,
    /// Whether it may fill the space between functions.
    pub is_padding: bool,
    /// Whether a function can end with it: what follows it is not reached from here, as far as it can tell.
    pub may_be_last: bool,
}

impl Instruction {
    /// The target of a jump or call, if it is fixed.
    pub fn destination(&self) -> Option<Destination> {
        match self.flow {
            Flow::Call(to) => to,
            Flow::Jump { to, .. } => Some(to),
            _ => None,
        }
    }
}

/// How control flow continues after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// At the next instruction.
    Next,
    /// At the next instruction, after a call of this target; `None` if it is known at run time only.
    Call(Option<Destination>),
    /// At a fixed target, or at the next instruction if the jump is conditional and not taken.
    Jump {
        /// The target.
        to: Destination,
        /// Whether it may not be taken.
        conditional: bool,
    },
    /// In the caller.
    Return,
    /// Not at all.
    Stop,
    /// It cannot be followed, for this reason (the predicate of a sentence about the function).
    Unknown(&'static str),
}

/// The fixed target of a jump or call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(u64),
    /// The address that is stored at this one.
    Slot(u64),
}

/// The meaning of a row of call frame information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The outermost frame: the function has no caller.
    Bottom,
    /// The expression that linkers write for the procedure linkage table.
    Plt,
    /// A rule.
    Rule(Rule),
    /// Not representable as a rule.
    Unknown,
}

/// Gives the bytes of an object file the alignment that parsing it needs.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct Aligned<T: ?Sized>(pub T);
