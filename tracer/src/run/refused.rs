//! Why the kernel refuses a probe, in words.

use crate::kernel::KernelError;

/// `ENOTSUPP`, an internal error number of the kernel without a text in libc. The kernel returns it for instructions
/// that it can neither emulate nor single-step.
const NOT_SUPPORTED: i32 = 524;

/// The kernel's reason, if there is one.
pub(super) fn reason(failed: &KernelError) -> String {
    let source = std::error::Error::source(failed);
    let number = source.and_then(|source| source.downcast_ref::<std::io::Error>()?.raw_os_error());
    if number == Some(NOT_SUPPORTED) {
        return "the kernel cannot probe the instruction there (ENOTSUPP)".to_owned();
    }
    source.map_or_else(|| failed.to_string(), ToString::to_string)
}
