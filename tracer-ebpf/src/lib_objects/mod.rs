//! Objects of libraries, as packs describe them.

mod arguments;
pub(crate) mod constructors;
pub(crate) mod objects;
