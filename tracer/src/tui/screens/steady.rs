//! What must not surprise while reports come: items that are gone, columns that stay, keys without effect, the footer.

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    super::{
        columns::{FINDINGS, OBJECTS, TableContext},
        keys::{BINDINGS, Key, When},
        lists::List,
        model::{ColumnId, SortBy, SortOrder},
        rows::footer,
        state::{Pane, Remark, Size, ViewState},
        text::Row,
        update::{Effect, receive, resize, unknown, update},
    },
    first_view, fixtures, golden, objects, press, sample, served, type_filter, view,
};
use crate::report::Report;

/// A later report.
fn after(mut report: Report, change: impl FnOnce(&mut Report)) -> Arc<Report> {
    report.window.duration_s += 2.0;
    change(&mut report);
    Arc::new(report)
}

/// The text of the bottom line.
fn text_of(state: &ViewState) -> String {
    footer::rows(state).iter().map(Row::text).collect()
}

/// The text of the screen.
fn body(state: &ViewState) -> String {
    let shown = super::painted(state, super::Theme::Plain).backend().to_string();
    shown.lines().collect::<Vec<_>>().join("\n")
}

#[test]
fn details_of_what_is_gone_say_since_when_and_stay() {
    // List, how it is reached, the words, and what removes its items.
    type Remove = fn(&mut Report);
    let cases: [(&[Key], &str, Remove); 4] = [
        (&[Key::Findings], "This finding has been gone since 00:", |report| {
            report.findings.clear();
        }),
        (&[Key::Sites], "This call site has been gone since 00:", |report| {
            report.sites.clear();
        }),
        (&[Key::Fds], "This descriptor has been gone since 00:", |report| {
            report.fds.as_mut().unwrap().table.clear();
        }),
        (&[Key::Connections], "This connection has been gone since 00:", |report| {
            let all = report.connections.as_mut().unwrap();
            all.table.clear();
            all.recently_closed.clear();
        }),
    ];
    for (keys, words, remove) in cases {
        let report = || if keys == [Key::Findings] { fixtures::sample() } else { served() };
        let mut state = first_view(100, 40, report());
        press(&mut state, keys);
        // The first row whose call site is known.
        while state.finding().is_none() && state.site().is_none() {
            press(&mut state, &[Key::Down]);
        }
        let title = |state: &ViewState| state.site().map(|site| site.id);
        let site = title(&state);
        press(&mut state, &[Key::Open]);
        assert_eq!(state.at.pane, Pane::Detail);
        receive(&mut state, after(report(), remove));
        let shown = body(&state);
        assert!(shown.contains(words), "{shown}");
        assert_eq!(state.gone.as_ref().and_then(|gone| title(&gone.last)), site);
        // It stays, and says the same time, with each further report.
        let since = state.gone.as_ref().map(|gone| gone.since_s);
        receive(
            &mut state,
            after(report(), |report| {
                report.window.duration_s += 9.0;
                remove(report);
            }),
        );
        assert_eq!(state.gone.as_ref().map(|gone| gone.since_s), since);
        // If it comes back, the details go on.
        receive(&mut state, Arc::new(report()));
        assert!(state.gone.is_none() && !body(&state).contains(words));
        receive(&mut state, after(report(), remove));
        press(&mut state, &[Key::Back]);
        assert!(state.gone.is_none() && state.at.pane != Pane::Detail);
    }
}

#[test]
fn a_finding_that_is_gone_is_shown_as_it_was() {
    let mut state = first_view(80, 24, fixtures::sample());
    press(&mut state, &[Key::Open]);
    receive(
        &mut state,
        after(fixtures::sample(), |report| {
            report.findings.remove(0);
        }),
    );
    golden("gone_finding_80", &state);
    resize(&mut state, Size { columns: 140, rows: 40 });
    golden("gone_finding_140", &state);
    // Keys act on what is shown, not on what is under the hidden cursor.
    press(&mut state, &[Key::Suppress, Key::Suppress]);
    assert_eq!(state.suppression, None);
    press(&mut state, &[Key::End, Key::PageUp, Key::Home, Key::Split]);
    assert!(state.gone.is_none() && state.finding().is_some());
}

#[test]
fn what_is_read_does_not_fold_away() {
    // Early, what grows is listed; then it is not, but its details are open.
    let mut early = fixtures::sample();
    early.findings.retain(|finding| finding.class == crate::report::VerdictClass::Growing);
    let mut state = first_view(100, 40, early);
    press(&mut state, &[Key::Findings]);
    state.growing_wanted = Some(true);
    state.arrange();
    press(&mut state, &[Key::Open]);
    let id = state.finding().unwrap().id.clone();
    state.growing_wanted = Some(false);
    receive(&mut state, after(fixtures::sample(), |_| ()));
    assert_eq!(state.finding().unwrap().id, id);
    press(&mut state, &[Key::Back]);
    assert!(state.finding().is_none_or(|finding| finding.id != id));
}

#[test]
fn a_key_without_effect_says_so_for_a_moment() {
    let remark = |state: &ViewState| state.remark.as_ref().map(|remark| remark.text.clone());
    let mut state = view(80, 24, sample::report());
    for (key, text) in [
        (Key::Suppress, "x does nothing here: it suppresses findings (1); ? lists the keys"),
        (Key::Full, "f does nothing here: all is traced already; ? lists the keys"),
        (Key::Unmark, "u does nothing here: nothing is marked (m marks); ? lists the keys"),
        (Key::Back, "Esc does nothing here: nothing is open; q quits"),
    ] {
        assert_eq!(update(&mut state, key), Effect::Redraw);
        assert_eq!(remark(&state).as_deref(), Some(text));
    }
    golden("no_effect", &state);
    for _ in 0..3 {
        assert!(state.remark.is_some());
        receive(&mut state, Arc::new(sample::report()));
    }
    assert_eq!(state.remark, None, "after a few reports the hints are back");
    press(&mut state, &[Key::Help, Key::Reverse]);
    assert_eq!(
        remark(&state).as_deref(),
        Some("r does nothing on this page; Esc closes it; ? lists the keys")
    );
    assert_eq!(state.at.sort, List::Sites.first_sort(), "nothing changes behind the page");
    // The others have one.
    let mut state = view(80, 24, sample::report());
    for key in [Key::Down, Key::Reverse, Key::Mark, Key::Unmark, Key::Pause, Key::Pause, Key::Open]
    {
        press(&mut state, &[key]);
        assert_eq!(remark(&state), None, "{key:?}");
    }
    // No meaning at all.
    let stroke = KeyEvent::new(KeyCode::Char('z'), KeyModifiers::NONE);
    assert_eq!(unknown(&mut state, &stroke), Effect::Redraw);
    assert_eq!(remark(&state).as_deref(), Some("z does nothing; ? lists the keys"));
}

#[test]
fn columns_once_shown_stay() {
    let mut state = first_view(200, 40, fixtures::sample());
    press(&mut state, &[Key::Findings]);
    let shown = |state: &ViewState| -> Vec<ColumnId> {
        let context: TableContext<'_> = state.context().unwrap();
        let findings = FINDINGS.iter().filter(|one| one.is_available(&context)).map(|one| one.by);
        let objects = OBJECTS.iter().filter(|one| one.is_available(&context)).map(|one| one.by);
        findings.chain(objects).collect()
    };
    let before = shown(&state);
    assert!(before.contains(&ColumnId::Fault) && before.contains(&ColumnId::FromClients));
    receive(
        &mut state,
        after(fixtures::sample(), |report| {
            for finding in &mut report.findings {
                finding.fault = None;
                finding.clients.clear();
                finding.processes = 1;
            }
        }),
    );
    assert_eq!(shown(&state), before);
    // Types with long names make their column wide, and it stays so.
    let mut state = first_view(120, 40, objects());
    let width = state.summary.longest_type_name;
    assert!(width > 0 && !state.summary.known.is_empty());
    receive(
        &mut state,
        after(objects(), |report| {
            let objects = report.objects.as_mut().unwrap();
            objects.types.clear();
            objects.table.clear();
        }),
    );
    assert_eq!(state.summary.longest_type_name, width);
    assert!(!state.summary.known.is_empty());
}

#[test]
fn letters_sort_any_list_and_again_in_reverse() {
    let mut state = view(120, 40, sample::report());
    for (what, by) in [
        (SortBy::Bytes, ColumnId::Bytes),
        (SortBy::Count, ColumnId::Count),
        (SortBy::Rate, ColumnId::Growth),
        (SortBy::Age, ColumnId::Oldest),
        (SortBy::Name, ColumnId::Site),
        (SortBy::Worst, ColumnId::Verdict),
    ] {
        for reversed in [false, true, false] {
            press(&mut state, &[Key::SortBy(what)]);
            assert_eq!(state.at.sort, SortOrder { by, reversed });
        }
        let shown = body(&state);
        let words = ["▼", "▲", "worst first", "worst last"];
        assert!(words.iter().any(|word| shown.contains(word)), "{shown}");
    }
    let mut state = first_view(120, 40, served());
    press(&mut state, &[Key::Fds, Key::SortBy(SortBy::Bytes)]);
    let text = "B does nothing here: the list has no such column; ? lists the keys";
    assert_eq!(state.remark.as_ref().map(|remark| remark.text.as_str()), Some(text));
    press(&mut state, &[Key::SortBy(SortBy::Age)]);
    assert_eq!(state.at.sort.by, ColumnId::Age);
}

#[test]
fn the_footer_fits_and_its_words_are_whole() {
    let lists = [
        Key::Findings,
        Key::Sites,
        Key::Fds,
        Key::Connections,
        Key::Clients,
        Key::Leaving,
        Key::Objects,
        Key::Each,
        Key::Limits,
        Key::Help,
    ];
    for columns in [62, 80, 100] {
        for report in [sample::judged(), served(), objects(), fixtures::sample()] {
            for key in lists {
                for more in [&[][..], &[Key::Mark], &[Key::Open]] {
                    let mut state = first_view(columns, 24, report.clone());
                    press(&mut state, &[key]);
                    press(&mut state, more);
                    state.remark = None;
                    let text = text_of(&state);
                    assert!(!text.contains('…'), "{columns} {key:?}: {text}");
                    assert!(text.chars().count() == usize::from(columns), "{text}");
                    assert!(text.contains("? "), "help is always offered: {text}");
                }
            }
        }
    }
    // A filter that is typed, and the two hints beside it.
    let mut state = view(62, 24, sample::report());
    type_filter(&mut state, "a filter that is rather longer than the line has space for it");
    assert!(text_of(&state).ends_with("Esc cancel "));
    let hinted = BINDINGS.iter().filter(|row| row.hint.is_some());
    assert!(hinted.clone().count() > 8 && hinted.clone().all(|row| row.when == When::Browsing));
}

#[test]
fn a_result_is_never_cut() {
    let path = "/srv/gateway/releases/2026-11-30/diagnostics/leaktrace/leaktrace-4121-761s.json";
    let mut state = view(80, 24, sample::report());
    state.remark = Some(Remark::done(format!("saved {path}")));
    golden("saved_long", &state);
    let joined: String =
        footer::rows(&state).iter().map(|row| row.text().trim().to_owned()).collect();
    assert!(joined.contains(path), "{joined}");
    // Not even one of a length that nobody can read is allowed to cover the screen.
    state.remark = Some(Remark::failed("x".repeat(5_000)));
    assert_eq!(footer::rows(&state).len(), 4);
}

#[test]
fn details_of_a_connection_that_ended_say_when_and_by_whom() {
    let mut state = first_view(100, 40, served());
    press(&mut state, &[Key::Connections]);
    press(&mut state, &[Key::Home]);
    let closed = served().connections.unwrap().recently_closed;
    let one = closed.iter().find(|one| one.site.is_some() && one.closed_s.is_some()).unwrap();
    state.at.selected = Some(super::super::lists::Id::Connection(one.id));
    state.arrange();
    press(&mut state, &[Key::Open]);
    let words = format!("This connection ended at {}", crate::format::clock(one.closed_s.unwrap()));
    assert!(body(&state).contains(&words), "{}", body(&state));
}
