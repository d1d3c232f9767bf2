//! Connections and their sockets.

pub(crate) mod connection;
pub(crate) mod socket;
