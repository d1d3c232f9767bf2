//! Rows to cells: the last station.
//!
//! Takes the state by shared reference, hands on painted cells; changes nothing else.

pub mod paint;
pub mod screen;
