//! Reads an object's details from the arguments of a function.

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use tracer_common::object::{Function, NONE, Object, TEXT};

use crate::{arch::Arguments, call::read_word};

/// Copies an object's name from the target's memory; leaves the field unchanged without an address.
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

/// An argument; 0 when the function lacks it.
#[inline(always)]
pub(crate) fn of(arguments: &Arguments, number: u8) -> u64 {
    if number == NONE { 0 } else { arguments.get(number) }
}

/// The object's descriptor; -1 when no argument has it.
#[inline(always)]
pub(crate) fn descriptor(arguments: &Arguments, function: &Function) -> i32 {
    if function.fd == NONE { -1 } else { arguments.get(function.fd) as i32 }
}

/// The object's handle; `None` when it is null or unreadable.
#[inline(always)]
pub(crate) fn handle(arguments: &Arguments, function: &Function) -> Option<u64> {
    let mut handle = arguments.get(function.handle);
    if function.through != 0 {
        handle = read_word(handle.wrapping_add(u64::from(function.offset)))?;
    }
    (handle != 0).then_some(handle)
}
