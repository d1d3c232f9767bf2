//! Stacks: from the registers of a hit to the number of its call site.

pub(crate) mod cache;
pub(crate) mod hidden_returns;
pub(crate) mod site;
pub(crate) mod unwind;
