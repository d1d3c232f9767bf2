//! All text of the screen, before it has colors.
//!
//! Takes the report and the view's state, returns [`Row`](super::text::Row)s. Does not depend on the terminal; `theme`
//! decides the look of a role, `draw` the position of a row.

pub mod body;
mod counts;
pub mod detail;
pub mod footer;
pub mod header;
pub mod help;
mod left_behind;
mod light;
mod object;
pub mod stack;
pub mod table;
