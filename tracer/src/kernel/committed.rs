//! The committed BPF object, compiled in.

use crate::arch::{Aligned, Architecture as _, Host};

/// Its bytes.
pub(super) static OBJECT: &Aligned<[u8]> = Host::BPF_OBJECT;
