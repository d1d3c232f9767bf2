//! Connections and their sockets.

pub(crate) mod connection;
pub(crate) mod serving;
pub(crate) mod socket;
