//! Screens under `--light`, and the switch to full tracing.

use super::{golden, press, view};
use crate::{
    report::fixtures::light,
    tui::{
        keys::Key,
        sample,
        state::{Remark, Size, ViewState},
        update::{Effect, update},
    },
};

#[test]
fn light_shows_what_the_kernel_counts() {
    golden("light", &view(120, 30, light()));
    golden("light_narrow", &view(60, 20, light()));
}

#[test]
fn light_switches_to_full_on_request_and_shows_the_outcome() {
    let mut state = view(80, 24, light());
    press(&mut state, &[Key::Help]);
    golden("light_help", &state);
    press(&mut state, &[Key::Help]);
    assert_eq!(update(&mut state, Key::Full), Effect::Full);
    state.switching = true;
    golden("light_going_over", &state);
    assert_eq!(update(&mut state, Key::Full), Effect::Redraw, "once is enough");
    press(&mut state, &[Key::Down, Key::Filter, Key::Typed('x'), Key::Back]);
    assert!(state.switching, "the view stays alive meanwhile");
    state.switching = false;
    let why =
        "stays light: could not find an allocator in process `4121`: no object of it has `malloc`";
    state.remark = Some(Remark::failed(why));
    golden("light_stays", &state);
    assert_eq!(update(&mut state, Key::Full), Effect::Full, "it may be tried again");
}

#[test]
fn full_tracing_cannot_be_switched_to() {
    let mut state = view(80, 24, sample::report());
    assert_eq!(update(&mut state, Key::Full), Effect::Redraw);
    let mut state = ViewState::new(Size { columns: 80, rows: 24 });
    assert_eq!(update(&mut state, Key::Full), Effect::Redraw);
}
