//! What the arguments of a function tell of an object.

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use tracer_common::object::{Function, NONE, Object, TEXT};

use crate::call::{Arguments, read_word};

/// An object's name, from where the target has it; as it is when there is none.
#[inline(always)]
pub(crate) fn name(object: &mut Object, text: u64) {
    if text == 0 {
        return;
    }
    // SAFETY: the field's length; the helper checks the target's address.
    unsafe {
        bpf_probe_read_user_str(
            (&raw mut object.text).cast(),
            TEXT as u32,
            text as *const core::ffi::c_void,
        );
    }
}

/// An argument; 0 when the function has none that says it.
#[inline(always)]
pub(crate) fn of(arguments: &Arguments, number: u8) -> u64 {
    if number == NONE { 0 } else { arguments.get(number) }
}

/// The descriptor that the arguments tell; -1 when they tell none.
#[inline(always)]
pub(crate) fn descriptor(arguments: &Arguments, function: &Function) -> i32 {
    if function.fd == NONE { -1 } else { arguments.get(function.fd) as i32 }
}

/// The handle that the arguments tell.
#[inline(always)]
pub(crate) fn handle(arguments: &Arguments, function: &Function) -> Option<u64> {
    let mut handle = arguments.get(function.handle);
    if function.through != 0 {
        handle = read_word(handle.wrapping_add(u64::from(function.offset)))?;
    }
    (handle != 0).then_some(handle)
}
