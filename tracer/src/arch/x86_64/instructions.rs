//! Decodes instructions, as far as control flow goes: jumps, calls, returns, and stubs of the procedure linkage table.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction as Decoded, Mnemonic, OpKind, Register,
};

use crate::arch::{Destination, Flow, Instruction};

/// Most bytes of a call with a fixed target: `call *slot(%rip)`.
pub(super) const CALL_BYTES: usize = 6;

/// Stubs of the procedure linkage table are aligned to this.
const STUB_ALIGNMENT: u64 = 8;

/// See [`crate::arch::Architecture::decode`].
pub(super) fn decode(code: &[u8], address: u64) -> impl Iterator<Item = Instruction> {
    all(code, address).map(|decoded| instruction(&decoded))
}

/// See [`crate::arch::Architecture::call_before`].
pub(super) fn call_before(bytes: &[u8], end: u64) -> Option<Destination> {
    let call = match bytes {
        [0xff, 0x15, ..] => bytes,
        [_, 0xe8, ..] => bytes.get(1..)?,
        _ => return None,
    };
    destination(&all(call, end - call.len() as u64).next()?)
}

/// See [`crate::arch::Architecture::stub_slot`].
pub(super) fn stub_slot(code: &[u8], address: u64) -> Option<u64> {
    let jump = all(code, address).find(|decoded| decoded.code() != Code::Endbr64)?;
    if jump.flow_control() == FlowControl::IndirectBranch { slot(&jump) } else { None }
}

/// See [`crate::arch::Architecture::stubs`]. A stub is a jump through a GOT entry, perhaps after an `endbr64`.
pub(super) fn stubs(section: &[u8], address: u64) -> Vec<(u64, u64)> {
    all(section, address)
        .filter(|decoded| decoded.code() == Code::Jmp_rm64)
        .filter_map(|jump| Some((jump.ip() & !(STUB_ALIGNMENT - 1), slot(&jump)?)))
        .collect()
}

/// See [`crate::arch::Architecture::flag_read`]. The function stores the flag through its second argument.
pub(super) fn flag_read(code: &[u8]) -> Option<(u8, u8)> {
    let mut decoded = all(code, 0).filter(|decoded| decoded.code() != Code::Endbr64);
    let (load, next) = (decoded.next()?, decoded.next()?);
    let is_load = load.code() == Code::Mov_r32_rm32
        && load.op1_kind() == OpKind::Memory
        && load.memory_base() == Register::RDI
        && load.memory_index() == Register::None;
    let offset = u8::try_from(load.memory_displacement64()).ok().filter(|_| is_load)?;
    let value = load.op0_register();
    let is_store = |store: &Decoded| {
        store.code() == Code::Mov_rm32_r32
            && store.memory_base() == Register::RSI
            && store.memory_displacement64() == 0
            && store.op1_register() == value
    };
    if is_store(&next) {
        return Some((offset, u8::MAX));
    }
    if next.code() != Code::And_rm32_imm8 || next.op0_register() != value {
        return None;
    }
    let mask = u8::try_from(next.immediate(1)).ok()?;
    decoded.next().filter(is_store).map(|_| (offset, mask))
}

/// See [`crate::arch::Architecture::addresses_in`].
pub(super) fn addresses(code: &[u8], address: u64) -> Vec<u64> {
    let taken = |one: &Decoded| {
        let is_lea = one.mnemonic() == Mnemonic::Lea && one.memory_base() == Register::RIP;
        is_lea.then(|| one.ip_rel_memory_address())
    };
    let called = |one: &Decoded| {
        let is_call = one.flow_control() == FlowControl::Call;
        is_call.then(|| one.near_branch_target())
    };
    all(code, address).filter_map(|one| called(&one).or_else(|| taken(&one))).collect()
}

fn all(code: &[u8], address: u64) -> impl Iterator<Item = Decoded> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

fn instruction(decoded: &Decoded) -> Instruction {
    let flow_control = decoded.flow_control();
    Instruction {
        address: decoded.ip(),
        end: decoded.next_ip(),
        flow: flow(decoded),
        is_padding: matches!(decoded.mnemonic(), Mnemonic::Nop | Mnemonic::Int3),
        // A call may never return.
        may_be_last: !matches!(flow_control, FlowControl::Next | FlowControl::ConditionalBranch),
    }
}

fn flow(decoded: &Decoded) -> Flow {
    if decoded.is_invalid() {
        return Flow::Unknown("its code cannot be decoded");
    }
    let flow_control = decoded.flow_control();
    match flow_control {
        FlowControl::Return if is_near_return(decoded) => Flow::Return,
        FlowControl::Return => Flow::Unknown("it leaves by a far return"),
        FlowControl::Call | FlowControl::IndirectCall => Flow::Call(destination(decoded)),
        FlowControl::IndirectBranch => match slot(decoded) {
            Some(slot) => Flow::Jump { to: Destination::Slot(slot), conditional: false },
            None => Flow::Unknown("it has an indirect jump"),
        },
        FlowControl::ConditionalBranch
        | FlowControl::UnconditionalBranch
        | FlowControl::XbeginXabortXend => match decoded.near_branch_target() {
            // `xend` and `xabort`, and jumps to other segments.
            0 if flow_control == FlowControl::XbeginXabortXend => Flow::Next,
            0 => Flow::Unknown("it leaves by a far jump"),
            to => Flow::Jump {
                to: Destination::Address(to),
                conditional: flow_control != FlowControl::UnconditionalBranch,
            },
        },
        FlowControl::Exception => Flow::Stop,
        FlowControl::Next | FlowControl::Interrupt if decoded.mnemonic() == Mnemonic::Hlt => {
            Flow::Stop
        }
        FlowControl::Next | FlowControl::Interrupt => Flow::Next,
    }
}

fn is_near_return(decoded: &Decoded) -> bool {
    matches!(decoded.code(), Code::Retnq | Code::Retnq_imm16)
}

fn destination(decoded: &Decoded) -> Option<Destination> {
    match decoded.near_branch_target() {
        0 => slot(decoded).map(Destination::Slot),
        to => Some(Destination::Address(to)),
    }
}

/// The slot that an indirect jump or call reads its target from, if it is at a fixed address.
fn slot(decoded: &Decoded) -> Option<u64> {
    let indirect =
        matches!(decoded.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall);
    let relative =
        indirect && decoded.op0_kind() == OpKind::Memory && decoded.memory_base() == Register::RIP;
    relative.then(|| decoded.ip_rel_memory_address())
}

#[cfg(test)]
mod tests {
    use super::flag_read;

    #[test]
    fn the_flag_that_a_function_reads_is_found_with_and_without_a_mask() {
        // glibc's pthread_attr_getdetachstate: mov eax, [rdi+8]; and eax, 1; mov [rsi], eax; xor eax, eax; ret
        let glibc = [0x8b, 0x47, 0x08, 0x83, 0xe0, 0x01, 0x89, 0x06, 0x31, 0xc0, 0xc3];
        assert_eq!(flag_read(&glibc), Some((8, 1)));
        let with_endbr = [&[0xf3, 0x0f, 0x1e, 0xfa], &glibc[..]].concat();
        assert_eq!(flag_read(&with_endbr), Some((8, 1)));
        // musl's: mov eax, [rdi+0x18]; mov [rsi], eax; …
        let musl = [0x8b, 0x47, 0x18, 0x89, 0x06, 0x31, 0xc0, 0xc3];
        assert_eq!(flag_read(&musl), Some((0x18, u8::MAX)));
    }

    #[test]
    fn other_code_reads_no_flag() {
        // From another argument; far from the pointer; another register is stored; nothing is stored; nothing at all.
        for code in [
            &[0x8b, 0x46, 0x08, 0x89, 0x06][..],
            &[0x8b, 0x87, 0x00, 0x01, 0, 0, 0x89, 0x06],
            &[0x8b, 0x47, 0x08, 0x89, 0x0e],
            &[0x8b, 0x47, 0x08, 0x83, 0xe0, 0x01, 0xc3],
            &[],
        ] {
            assert_eq!(flag_read(code), None, "{code:x?}");
        }
    }
}
