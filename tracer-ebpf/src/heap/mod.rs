//! Memory of the target: blocks and mappings, from the call of an allocator's function to the table of young resources.

mod bare;
mod call_site;
pub(crate) mod entry;
mod mapping;
mod resize;
mod returns;
