//! Rows to cells: the last stage.
//!
//! Takes the state by shared reference, returns painted cells; changes nothing else.

pub mod paint;
pub mod screen;
