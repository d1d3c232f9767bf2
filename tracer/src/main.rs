//! The thin binary: parse, run, print the chain of causes, exit.

fn main() {}
