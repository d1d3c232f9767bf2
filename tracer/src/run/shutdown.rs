//! Exits without waiting for the kernel to detach the probes.
//!
//! Detaching takes the kernel about 0.1 s (on older kernels for each probe, one after the other), and blocks the
//! process that closes the last descriptor. A child that inherits all descriptors and ends right after leaktrace waits
//! in the background: the prompt returns at once, and the child lives only as long as the closing takes. Recording is
//! already off, so a hit costs the target only the bare trap.

use crate::kernel::Programs;

/// Ends tracing. Returns at once; the probes are detached in the background.
pub(super) fn leave(programs: Option<Programs>) {
    let Some(programs) = programs else { return };
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has space for two descriptors.
    if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        drop(programs);
        return;
    }
    let [read, write] = pipe;
    // SAFETY: the child of a process with threads may only make async-signal-safe calls; it makes
    // close, setsid, read and _exit, and touches no memory but its stack.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: as above. Closes the standard streams, so that no reader of a pipe waits for the child. The read
            // returns when the parent has ended and has closed the other end.
            unsafe {
                libc::setsid();
                for stream in 0..3 {
                    libc::close(stream);
                }
                libc::close(write);
                let mut byte = 0_u8;
                libc::read(read, (&raw mut byte).cast(), 1);
                libc::_exit(0);
            }
        }
        // If the child has copies of the descriptors, this returns at once; without a child it blocks.
        _ => drop(programs),
    }
}
