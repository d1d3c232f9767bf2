//! Objects of libraries, as packs describe them.

mod arguments;
mod constructors;
pub(crate) mod objects;
