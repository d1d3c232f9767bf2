//! `ci`: everything that has to hold before a change goes in. What CI runs is what a person runs.

use anyhow::Result;

use crate::{
    bpf,
    test::{self, Wish},
};

/// The kernel programs are what their sources build, and every test passes.
pub(crate) fn run() -> Result<()> {
    bpf::check()?;
    test::run(&Wish::parse(&[])?)
}
