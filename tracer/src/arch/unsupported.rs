//! Every architecture without a file of its own: leaktrace runs and explains, but traces nothing.
//!
//! `preflight` asks [`Architecture::supported`] before anything else, so the rest is never reached; it refuses, too.

use gimli::{UnwindSection, UnwindTableRow};

use super::{
    Aligned, Architecture, Destination, Flow, Instruction, Meaning, Place, Slice, Unsupported,
};

/// Any other architecture.
#[derive(Debug)]
pub(crate) enum Unknown {}

impl Architecture for Unknown {
    const NAME: &'static str = std::env::consts::ARCH;
    const OBJECTS: object::Architecture = object::Architecture::Unknown;
    const BPF_OBJECT: &'static Aligned<[u8]> = &Aligned([]);

    /// As elsewhere, so that options are checked in the same way.
    const POINTER_MASK: u64 = u64::MAX;
    const REGISTER_ARGUMENTS: u8 = 6;
    const CALL_BYTES: usize = 0;
    const RESOLVED_SLOT: object::elf::RelocationType = object::elf::RelocationType(u32::MAX);
    const SIGNAL_RETURNS: &'static [&'static [u8]] = &[];

    const SYSCALL_PREFIX: &'static str = "";
    const SAVED_REGISTERS_BYTES: i32 = 0;
    const KERNEL_STACK: &'static str = "";

    const THREAD_STATE: &'static str = "";
    const THREAD_POINTER: &'static str = "";

    const NOTHING: [extern "C" fn(); 3] = [nothing; 3];

    fn supported() -> Result<(), Unsupported> {
        Err(Unsupported { architecture: Self::NAME })
    }

    fn place(_: &[u8], _: u64, _: &[u8]) -> Result<Place, Unsupported> {
        Err(Unsupported { architecture: Self::NAME })
    }

    fn deeper_place(_: &[u8], _: u64, _: &[u8]) -> Option<Place> {
        None
    }

    fn flag_read(_: &[u8]) -> Option<(u8, u8)> {
        None
    }

    fn is_probe_unsafe(_: &[u8]) -> bool {
        true
    }

    fn decode(code: &[u8], address: u64) -> impl Iterator<Item = Instruction> {
        let flow = Flow::Unknown("its code is for a processor that leaktrace does not support");
        let end = address.saturating_add(code.len() as u64);
        std::iter::once(Instruction { address, end, flow, is_padding: false, may_be_last: false })
    }

    fn call_before(_: &[u8], _: u64) -> Option<Destination> {
        None
    }

    fn stub_slot(_: &[u8], _: u64) -> Option<u64> {
        None
    }

    fn stubs(_: &[u8], _: u64) -> Vec<(u64, u64)> {
        Vec::new()
    }

    fn rules_of_code(_: &[u8], _: u64) -> Vec<(u64, Option<Meaning>)> {
        Vec::new()
    }

    fn addresses_in(_: &[u8], _: u64) -> Vec<u64> {
        Vec::new()
    }

    fn unwind_rule<'data, S: UnwindSection<Slice<'data>>>(
        _: &UnwindTableRow<usize>,
        _: &S,
        _: gimli::Encoding,
    ) -> Meaning {
        Meaning::Unknown
    }
}

extern "C" fn nothing() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_refused_with_the_name_of_the_architecture() {
        let refused = Unsupported { architecture: std::env::consts::ARCH };
        assert_eq!(Unknown::supported(), Err(refused));
        assert_eq!(Unknown::place(&[0x55], 0, &[]), Err(refused));
        assert!(refused.to_string().ends_with(&format!("`{}`", std::env::consts::ARCH)));
        let [only] = Unknown::decode(&[0x55, 0xc3], 0x1000).collect::<Vec<_>>()[..] else {
            panic!("one instruction for all of it");
        };
        assert!(matches!(only.flow, Flow::Unknown(why) if why.contains("does not support")));
        assert!(!only.may_be_last && only.end == 0x1002);
    }
}
