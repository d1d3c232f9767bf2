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
