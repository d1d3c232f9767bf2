//! Reports as people read them.

use leaktrace::report::{
    Report, sample,
    text::{Options, write},
};

fn text(report: &Report, top: Option<usize>, width: Option<usize>) -> String {
    let mut out = Vec::new();
    write(report, &Options { top, width }, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_server_that_leaks() {
    insta::assert_snapshot!(text(&sample::sample(), None, None));
}

#[test]
fn losses_and_two_targets() {
    insta::assert_snapshot!(text(&sample::lossy(), Some(1), Some(80)));
}

#[test]
fn a_server_that_grows_without_probes() {
    insta::assert_snapshot!(text(&sample::light(), None, None));
}

#[test]
fn nothing_happened() {
    insta::assert_snapshot!(text(&sample::empty(), Some(20), None));
}
