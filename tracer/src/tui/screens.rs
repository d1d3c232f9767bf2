//! Golden tests: whole screens as text, in `snapshots/`, and the keys that lead there.
//!
//! Fixed reports in, screens out. A person has reviewed each file under `snapshots/`.

mod estimated;
mod findings;
mod leaving;
mod light;
mod lists;
mod objects;
mod steady;

use std::sync::Arc;

use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::{
    draw::screen,
    keys::Key,
    model::ColumnId,
    sample,
    state::{Pane, Remark, Size, ViewState},
    theme::Theme,
    update::{Effect, receive, update},
};
use crate::report::{
    Amount, Exit, Report, Word,
    fixtures::{self, objects, served},
};

/// The first view of a report.
fn first_view(columns: u16, rows: u16, report: Report) -> ViewState {
    let mut state = ViewState::new(Size { columns, rows });
    receive(&mut state, Arc::new(report));
    state
}

/// The call sites of a report.
fn view(columns: u16, rows: u16, report: Report) -> ViewState {
    let mut state = first_view(columns, rows, report);
    press(&mut state, &[Key::Sites]);
    state
}

fn press(state: &mut ViewState, keys: &[Key]) {
    for key in keys {
        update(state, *key);
    }
}

fn type_filter(state: &mut ViewState, text: &str) {
    press(state, &[Key::Filter]);
    text.chars().for_each(|letter| press(state, &[Key::Typed(letter)]));
}

fn painted(state: &ViewState, theme: Theme) -> Terminal<TestBackend> {
    let size = state.size;
    let mut terminal = Terminal::new(TestBackend::new(size.columns, size.rows)).unwrap();
    terminal.draw(|frame| screen::draw(state, theme, frame.buffer_mut())).unwrap();
    terminal
}

#[track_caller]
fn golden(name: &str, state: &ViewState) {
    insta::assert_snapshot!(name, painted(state, Theme::Colored).backend());
}

/// The sample some refreshes later: the second call site has overtaken the first.
fn later() -> Report {
    let mut report = sample::judged();
    report.window.duration_s += 30.0;
    report.sites.swap(0, 1);
    report.sites[0].outstanding_bytes += 3 << 20;
    report.sites[0].outstanding_count += 48;
    report.sites[4].outstanding_bytes -= 1024;
    report.sites[4].outstanding_count -= 1;
    report
}

fn lossy() -> Report {
    let mut report = sample::report();
    for (reason, count) in [("acquire_dropped", 12_000), ("release_busy", 402), ("from_a_newer", 7)]
    {
        report.accounting.lost.insert(Word::named(reason), count);
    }
    report
}

#[test]
fn a_wide_screen_shows_table_and_details() {
    golden("wide", &view(120, 40, sample::judged()));
}

#[test]
fn a_small_screen_shows_the_table() {
    golden("small", &view(80, 24, sample::report()));
}

#[test]
fn a_small_screen_can_be_split() {
    let mut state = view(80, 24, sample::judged());
    press(&mut state, &[Key::Split]);
    golden("small_split", &state);
}

#[test]
fn the_smallest_screen_still_has_a_table() {
    golden("smallest", &view(60, 12, sample::judged()));
}

#[test]
fn a_screen_too_small_says_so() {
    golden("too_small", &view(40, 12, lossy()));
}

#[test]
fn before_the_first_report_it_is_attaching() {
    golden("attaching", &ViewState::new(Size { columns: 80, rows: 12 }));
}

#[test]
fn help_explains_keys_columns_and_words() {
    let mut state = view(120, 40, lossy());
    press(&mut state, &[Key::Help]);
    golden("help", &state);
    press(&mut state, &[Key::End]);
    golden("help_end", &state);
    assert_eq!(update(&mut state, Key::Close), Effect::Redraw, "q closes the help first");
    assert!(state.page.is_none());
    press(&mut state, &[Key::Help]);
    assert_eq!(update(&mut state, Key::Quit), Effect::Quit, "Ctrl-C never asks");
}

#[test]
fn losses_are_prominent_and_named() {
    golden("losses_wide", &view(120, 40, lossy()));
    golden("losses_small", &view(80, 24, lossy()));
}

#[test]
fn unwind_tables_being_built_are_shown() {
    let mut report = sample::report();
    report.accounting.unwind.loading = 2;
    golden("tables_to_come", &view(120, 40, report));
}

#[test]
fn a_paused_view_is_frozen_until_resumed() {
    let mut state = view(80, 24, sample::report());
    press(&mut state, &[Key::Pause]);
    assert!(!receive(&mut state, Arc::new(later())), "nothing to draw");
    golden("paused", &state);
    press(&mut state, &[Key::Pause]);
    assert_eq!(state.shown.as_deref(), Some(&later()));
}

#[test]
fn a_baseline_shows_the_change_since() {
    for (name, columns, rows) in [("baseline_wide", 120, 40), ("baseline_small", 80, 24)] {
        let mut state = view(columns, rows, sample::judged());
        press(&mut state, &[Key::Mark]);
        receive(&mut state, Arc::new(later()));
        golden(name, &state);
        press(&mut state, &[Key::Unmark]);
        assert_eq!(state.baseline, None);
    }
}

#[test]
fn a_filter_applies_while_it_is_typed() {
    let mut state = view(80, 24, sample::report());
    type_filter(&mut state, "GATEWAY.cpp");
    golden("filter_typing", &state);
    press(&mut state, &[Key::Accept]);
    golden("filter_kept", &state);
    press(&mut state, &[Key::Back]);
    assert_eq!(state.at.order.len(), 6, "Esc shows all again");
}

#[test]
fn a_filter_without_a_match_says_so_and_can_be_dropped() {
    let mut state = view(80, 24, sample::report());
    type_filter(&mut state, "nothing like this");
    golden("filter_empty", &state);
    press(&mut state, &[Key::Back]);
    assert_eq!((state.at.filter.as_str(), state.at.order.len()), ("", 6));
}

#[test]
fn no_call_site_is_reported_as_good() {
    let mut report = sample::report();
    report.sites.clear();
    golden("no_site", &view(80, 24, report));
}

#[test]
fn the_end_of_the_target_is_shown() {
    let mut report = sample::report();
    report.targets[0].exited = Some(Exit { status: None, signal: Some(11) });
    golden("exited", &view(80, 24, report));
}

#[test]
fn several_targets_are_distinguished() {
    let mut report = sample::judged();
    let mut other = report.targets[0].clone();
    other.pid = 4200;
    other.exited = Some(Exit { status: Some(0), signal: None });
    report.targets.push(other);
    report.sites[2].pid = Some(4200);
    report.sites[2].inherited = Amount { count: 2, bytes: 2 << 10 };
    golden("several_targets", &view(120, 20, report.clone()));
    // The child's call site shows what it inherited from its parent.
    let mut state = view(80, 40, report.clone());
    press(&mut state, &[Key::Down, Key::Down, Key::Open]);
    golden("inherited_small", &state);
    let mut state = view(120, 40, report);
    press(&mut state, &[Key::Down, Key::Down, Key::Open]);
    golden("inherited_wide", &state);
}

#[test]
fn details_show_the_whole_stack() {
    let mut state = view(80, 40, sample::judged());
    press(&mut state, &[Key::Open]);
    golden("details_small", &state);
    let mut state = view(120, 40, sample::judged());
    press(&mut state, &[Key::Open]);
    golden("details_wide", &state);
    press(&mut state, &[Key::Back]);
    assert_eq!(state.at.pane, Pane::Split);
}

#[test]
fn a_truncated_stack_shows_the_reason() {
    let mut state = view(80, 24, sample::report());
    press(&mut state, &[Key::End, Key::Up, Key::Open]);
    golden("details_truncated", &state);
}

#[test]
fn a_saved_report_is_acknowledged() {
    let mut state = view(80, 24, sample::report());
    assert_eq!(update(&mut state, Key::Save), Effect::Save);
    state.remark = Some(Remark::failed("not saved: no space left on device"));
    golden("save_failed", &state);
    press(&mut state, &[Key::Down]);
    assert_eq!(state.remark, None);
}

#[test]
fn without_colors_no_cell_has_one() {
    for keys in [&[][..], &[Key::Mark], &[Key::Help]] {
        let mut state = view(120, 40, lossy());
        press(&mut state, keys);
        let terminal = painted(&state, Theme::Plain);
        for cell in &terminal.backend().buffer().content {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }
}

#[test]
fn text_is_the_same_with_and_without_colors() {
    let state = view(120, 40, lossy());
    let text = |theme| painted(&state, theme).backend().to_string();
    assert_eq!(text(Theme::Plain), text(Theme::Colored));
}

#[test]
fn the_cursor_stays_on_its_call_site_when_the_order_changes() {
    let mut state = view(80, 24, sample::judged());
    press(&mut state, &[Key::Down]);
    let id = state.site().unwrap().id;
    assert_eq!((id, state.at.cursor), (2, 1));
    receive(&mut state, Arc::new(later()));
    assert_eq!((state.site().unwrap().id, state.at.cursor), (2, 0));
    press(&mut state, &[Key::Reverse]);
    assert_eq!((state.site().unwrap().id, state.at.cursor), (2, 5));
    type_filter(&mut state, "bus");
    assert_eq!((state.site().unwrap().id, state.at.cursor), (2, 0));
}

#[test]
fn an_unmoved_cursor_stays_on_the_first_row() {
    let mut state = view(80, 24, sample::judged());
    receive(&mut state, Arc::new(later()));
    assert_eq!(state.site().unwrap().id, 2);
    press(&mut state, &[Key::End, Key::Home]);
    receive(&mut state, Arc::new(sample::judged()));
    assert_eq!(state.site().unwrap().id, 1);
}

#[test]
fn the_cursor_stays_near_a_call_site_that_disappeared() {
    let mut state = view(80, 24, sample::report());
    press(&mut state, &[Key::End]);
    let mut report = sample::report();
    report.sites.pop();
    receive(&mut state, Arc::new(report));
    assert_eq!(state.site().unwrap().id, 5);
}

#[test]
fn sort_keys_cycle_through_columns() {
    let mut state = view(80, 24, sample::report());
    let start = state.at.sort.by;
    let mut seen = vec![];
    while seen.is_empty() || state.at.sort.by != start {
        seen.push(state.at.sort.by);
        press(&mut state, &[Key::SortRight]);
    }
    assert!(!seen.contains(&ColumnId::BytesChange), "no baseline, no such column");
    assert!(seen.contains(&ColumnId::Trend));
    press(&mut state, &[Key::SortLeft]);
    assert_eq!(Some(&state.at.sort.by), seen.last());
}

#[test]
fn paging_through_fifty_thousand_call_sites() {
    let mut report = sample::report();
    report.sites = (0..50_000).map(sample::site).collect();
    let mut state = view(80, 24, report);
    press(&mut state, &[Key::End]);
    assert_eq!((state.at.cursor, state.at.top), (49_999, 49_999 - 16));
    press(&mut state, &[Key::PageUp, Key::PageUp]);
    assert_eq!(state.at.cursor, 49_999 - 32);
    press(&mut state, &[Key::Home]);
    assert_eq!((state.at.cursor, state.at.top), (0, 0));
}

#[test]
fn every_key_is_harmless_at_every_size_and_at_any_time() {
    use super::keys::BINDINGS;
    for (columns, rows) in [(0, 0), (1, 1), (60, 12), (61, 13), (99, 30), (110, 14), (250, 70)] {
        for report in [
            None,
            Some(lossy()),
            Some(later()),
            Some(served()),
            Some(objects()),
            Some(fixtures::sample()),
        ] {
            let mut state = ViewState::new(Size { columns, rows });
            if let Some(report) = report {
                receive(&mut state, Arc::new(report));
            }
            for first in BINDINGS {
                for second in BINDINGS {
                    press(&mut state, &[first.key, second.key]);
                }
                let mut buffer =
                    ratatui::buffer::Buffer::empty(ratatui::layout::Rect::new(0, 0, columns, rows));
                screen::draw(&state, Theme::Colored, &mut buffer);
            }
        }
    }
}
