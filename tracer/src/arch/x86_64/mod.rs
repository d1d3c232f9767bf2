//! x86-64, with the System V calling convention.
//!
//! `instructions.rs` decodes, `place.rs` chooses the probed instruction, `unwind.rs` reads call frame information, and
//! `frames.rs` does without.

mod frames;
mod instructions;
mod nothing;
mod place;
mod unwind;

use gimli::{UnwindSection, UnwindTableRow};

use super::{Aligned, Architecture, Destination, Instruction, Meaning, Place, Slice, Unsupported};

/// This architecture.
#[derive(Debug)]
pub(crate) enum X86_64 {}

impl Architecture for X86_64 {
    const NAME: &'static str = "x86-64";
    const OBJECTS: object::Architecture = object::Architecture::X86_64;
    const BPF_OBJECT: &'static Aligned<[u8]> =
        &Aligned(*include_bytes!("../../../bpf/leaktrace-x86_64.bpf.o"));

    // User addresses have 47 bits, or 56 with five levels of page tables; above them are tags, if the processor ignores them.
    const POINTER_MASK: u64 = (1 << 56) - 1;
    const REGISTER_ARGUMENTS: u8 = 6;
    const CALL_BYTES: usize = instructions::CALL_BYTES;
    const RESOLVED_SLOT: object::elf::RelocationType = object::elf::R_X86_64_IRELATIVE;
    /// `mov $15, %eax; syscall` in its two encodings.
    const SIGNAL_RETURNS: &'static [&'static [u8]] =
        &[b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05", b"\xb8\x0f\0\0\0\x0f\x05"];

    const SYSCALL_PREFIX: &'static str = "__x64_sys_";
    /// Nothing follows them: `TOP_OF_KERNEL_STACK_PADDING` is 0 on kernels that need this.
    const SAVED_REGISTERS_BYTES: i32 = 168;
    /// `IRQ_STACK_SIZE` is `THREAD_SIZE` by definition (order 2, one more with KASAN:
    /// `arch/x86/include/asm/page_64_types.h`).
    const KERNEL_STACK: &'static str = "irq_stack";

    const THREAD_STATE: &'static str = "task_struct.thread";
    const THREAD_POINTER: &'static str = "thread_struct.fsbase";

    const NOTHING: [extern "C" fn(); 3] = nothing::ALL;

    fn supported() -> Result<(), Unsupported> {
        Ok(())
    }

    fn place(code: &[u8], offset: u64, arguments: &[u8]) -> Result<Place, Unsupported> {
        Ok(place::choose(code, offset, arguments))
    }

    fn deeper_place(code: &[u8], offset: u64, arguments: &[u8]) -> Option<Place> {
        place::choose_deeper(code, offset, arguments)
    }

    fn flag_read(code: &[u8]) -> Option<(u8, u8)> {
        instructions::flag_read(code)
    }

    fn is_probe_unsafe(code: &[u8]) -> bool {
        place::is_replaced_by_call(code)
    }

    fn decode(code: &[u8], address: u64) -> impl Iterator<Item = Instruction> {
        instructions::decode(code, address)
    }

    fn call_before(bytes: &[u8], end: u64) -> Option<Destination> {
        instructions::call_before(bytes, end)
    }

    fn stub_slot(code: &[u8], address: u64) -> Option<u64> {
        instructions::stub_slot(code, address)
    }

    fn stubs(section: &[u8], address: u64) -> Vec<(u64, u64)> {
        instructions::stubs(section, address)
    }

    fn rules_of_code(code: &[u8], start: u64) -> Vec<(u64, Option<Meaning>)> {
        frames::rules(code, start)
    }

    fn addresses_in(code: &[u8], address: u64) -> Vec<u64> {
        instructions::addresses(code, address)
    }

    fn unwind_rule<'data, S: UnwindSection<Slice<'data>>>(
        row: &UnwindTableRow<usize>,
        section: &S,
        encoding: gimli::Encoding,
    ) -> Meaning {
        unwind::meaning(row, section, encoding)
    }
}
