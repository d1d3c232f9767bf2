//! `ci`: everything that must hold before a change is merged. CI runs the same command as a person.

use anyhow::Result;

use crate::{
    bpf,
    test::{self, Selection},
};

/// The committed kernel programs equal a build of their sources, and every test passes.
pub(crate) fn run() -> Result<()> {
    bpf::check()?;
    test::run(&Selection::parse(&[])?)
}
