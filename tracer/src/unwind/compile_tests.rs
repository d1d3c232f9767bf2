//! Tests of `compile`: this machine's libraries.
