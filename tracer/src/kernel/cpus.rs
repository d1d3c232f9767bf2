//! The number of CPUs, and what depends on it alone.

use tracer_common::limits;

use super::failed::KernelError;

/// The number of possible CPUs of the host.
pub(super) fn cpus() -> Result<u32, KernelError> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, source)| KernelError::Object { path: path.into(), source })?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX))
}

/// The numbers of the CPUs that are on.
pub(super) fn online() -> std::io::Result<Vec<u32>> {
    aya::util::online_cpus().map_err(|(_, error)| error)
}

/// Copies of the counters of resources that died young: a power of two.
pub(super) fn died_stripes(cpus: u32) -> u32 {
    cpus.clamp(1, limits::DIED_STRIPES).next_power_of_two()
}

const _: () = assert!(limits::DIED_STRIPES.is_power_of_two());
