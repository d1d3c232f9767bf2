//! Screens of findings: with leaks, with suspects only, with none, and where nothing is judged.

use std::sync::Arc;

use super::{first_view, golden, painted, press, type_filter};
use crate::{
    report::{
        Answer, Finding, FindingRate, Report, Resource, VerdictClass,
        fixtures::{self, estimated::estimated, light},
    },
    tui::{
        keys::Key,
        lists::{Id, List},
        state::{Page, Pane, ViewState},
        theme::Theme,
        update::{Effect, receive, update},
    },
};

/// A narrow screen, the usual one, and a large one.
const SIZES: [(u16, u16); 3] = [(62, 20), (80, 24), (140, 40)];

fn leaking() -> Report {
    fixtures::sample()
}

fn suspects_only() -> Report {
    let mut report = leaking();
    report.findings.remove(0);
    report.limits.clear();
    report.answer = Answer {
        class: Some(VerdictClass::Suspect),
        sentence: "1 suspect: geo.so+0x10f3a keeps 1 in 53 of its blocks".to_owned(),
        smallest_leak_per_s: Some(0.05),
    };
    report
}

fn quiet() -> Report {
    let mut report = leaking();
    report.findings.clear();
    report.suppressed.clear();
    report.limits.clear();
    report.answer = Answer {
        class: None,
        sentence: "No leak in 12 min 41 s: 4 call sites, all steady".to_owned(),
        smallest_leak_per_s: Some(0.05),
    };
    report
}

/// Only what grows with the load.
fn growing() -> Report {
    let mut report = quiet();
    report.findings = leaking().findings.split_off(2);
    report.answer.class = Some(VerdictClass::Growing);
    report.answer.sentence =
        "No leak in 12 min 41 s: 1 call site grows with the open connections".to_owned();
    report
}

fn shown(state: &ViewState) -> String {
    painted(state, Theme::Plain).backend().to_string()
}

#[test]
fn a_leak_is_the_first_thing_on_the_screen() {
    for (columns, rows) in SIZES {
        golden(&format!("findings_{columns}"), &first_view(columns, rows, leaking()));
    }
    golden("findings_200", &first_view(200, 50, leaking()));
    golden("findings_smallest", &first_view(60, 12, leaking()));
}

#[test]
fn suspects_no_leak_and_growth_are_told_apart() {
    for (columns, rows) in SIZES {
        golden(&format!("suspects_only_{columns}"), &first_view(columns, rows, suspects_only()));
        golden(&format!("no_finding_{columns}"), &first_view(columns, rows, quiet()));
    }
    golden("growing_only", &first_view(80, 24, growing()));
    let mut early = quiet();
    early.answer = Answer::default();
    early.sites.clear();
    golden("findings_early", &first_view(80, 24, early));
}

#[test]
fn modes_that_judge_nothing_say_so_and_begin_with_call_sites() {
    let mut sampled = estimated();
    sampled.findings.clear();
    sampled.suppressed.clear();
    sampled.answer = Answer::default();
    for (name, report) in [("light", light()), ("estimated", sampled)] {
        for (columns, rows) in SIZES {
            let mut state = first_view(columns, rows, report.clone());
            assert_eq!(state.list, List::Sites);
            press(&mut state, &[Key::Findings]);
            golden(&format!("findings_{name}_{columns}"), &state);
        }
    }
    // Whoever has begun with findings stays there.
    let mut state = first_view(80, 24, leaking());
    receive(&mut state, Arc::new(light()));
    assert_eq!(state.list, List::Findings);
}

#[test]
fn estimates_in_findings_are_marked() {
    let mut state = first_view(140, 40, estimated());
    assert!(shown(&state).contains("~61.3 MiB"), "{}", shown(&state));
    press(&mut state, &[Key::Open]);
    assert!(shown(&state).contains("~61.3 MiB"), "{}", shown(&state));
}

#[test]
fn enter_shows_all_of_a_finding_and_goes_back() {
    for (columns, rows) in SIZES {
        let mut state = first_view(columns, rows, leaking());
        press(&mut state, &[Key::Open]);
        golden(&format!("finding_details_{columns}"), &state);
        press(&mut state, &[Key::End]);
        golden(&format!("finding_details_{columns}_end"), &state);
        press(&mut state, &[Key::Open]);
        assert_eq!((state.list, state.at.pane), (List::Findings, Pane::Split));
        press(&mut state, &[Key::Open, Key::Back]);
        assert_eq!((state.list, state.at.pane), (List::Findings, Pane::Split));
    }
}

#[test]
fn a_finding_leads_to_its_call_sites_and_back() {
    let mut state = first_view(80, 24, leaking());
    press(&mut state, &[Key::Each]);
    assert_eq!((state.list, state.at.filter.as_str()), (List::Sites, "site:1,9"));
    assert_eq!(state.at.order.len(), 1, "the other is not in the report");
    press(&mut state, &[Key::Open, Key::Back, Key::Back]);
    assert_eq!((state.list, state.id()), (List::Findings, Some(Id::Finding("f3a91c07".into()))));
    press(&mut state, &[Key::Sites]);
    assert_eq!((state.at.filter.as_str(), state.at.order.len()), ("", 4));
}

#[test]
fn what_grows_is_listed_on_request_and_when_searched_for() {
    let mut state = first_view(140, 40, leaking());
    assert_eq!(state.at.order, [0, 1]);
    press(&mut state, &[Key::Growing]);
    assert_eq!(state.at.order, [0, 1, 2]);
    golden("findings_all", &state);
    press(&mut state, &[Key::Growing]);
    assert_eq!(state.at.order, [0, 1]);
    type_filter(&mut state, "arena_grow");
    assert_eq!(state.at.order, [2], "a filter looks everywhere");
    for (filter, found) in [
        ("10.0.7.31", &[0][..]),
        ("suspect", &[1]),
        ("kind:mmap", &[2]),
        ("program", &[0]),
        ("gateway.cpp", &[0, 2]),
        ("make_session", &[0]),
        ("site:9", &[0]),
        ("nothing like this", &[]),
    ] {
        press(&mut state, &[Key::Back]);
        type_filter(&mut state, filter);
        press(&mut state, &[Key::Accept]);
        assert_eq!(state.at.order, found, "{filter}");
    }
    assert!(shown(&state).contains("No finding matches “nothing like this”"));
}

#[test]
fn marks_orders_and_pause_apply_to_findings() {
    let mut later = leaking();
    later.window.duration_s += 60.0;
    later.findings[0].outstanding.count += 600;
    later.findings[0].outstanding.bytes += 2 << 20;
    // A new finding of a call site that was there before.
    let like = later.findings[1].clone();
    later.findings.push(Finding { id: "new".to_owned(), sites: vec![2], ..like });
    let mut state = first_view(140, 40, leaking());
    press(&mut state, &[Key::Mark, Key::Pause]);
    assert!(!receive(&mut state, Arc::new(later)));
    press(&mut state, &[Key::Pause]);
    golden("findings_marked", &state);
    press(&mut state, &[Key::SortRight, Key::Reverse]);
    assert_eq!(state.at.order, [1, 3, 0], "the least sure first");
    press(&mut state, &[Key::Reverse, Key::SortLeft, Key::Down, Key::Unmark]);
    assert_eq!(state.id(), Some(Id::Finding("0b77e2d1".to_owned())));
}

#[test]
fn the_cursor_stays_on_its_finding() {
    let mut state = first_view(80, 24, leaking());
    press(&mut state, &[Key::Down]);
    let here = state.id();
    let mut later = leaking();
    later.findings.swap(0, 1);
    receive(&mut state, Arc::new(later));
    assert_eq!((state.id(), state.at.cursor), (here, 0));
}

#[test]
fn a_suppression_is_asked_for_twice() {
    let mut state = first_view(80, 24, leaking());
    assert_eq!(update(&mut state, Key::Suppress), Effect::Redraw);
    golden("suppress_asks", &state);
    press(&mut state, &[Key::Down]);
    assert_eq!(state.suppression, None, "any other key is a no");
    press(&mut state, &[Key::Up, Key::Suppress]);
    assert_eq!(update(&mut state, Key::Suppress), Effect::Suppress);
    assert_eq!(state.suppression.as_deref(), Some("leak:^make_session(uWS::HttpRequest*)$"));
    // A function without a name has the one that reports give it.
    press(&mut state, &[Key::Down, Key::Suppress]);
    assert_eq!(state.suppression.as_deref(), Some("leak:^geo.so+0x10f3a$"));
    // Without a stack there is nothing to write; a call site is no finding.
    let mut report = leaking();
    report.findings[1].frames = [].into();
    receive(&mut state, Arc::new(report));
    assert_eq!(update(&mut state, Key::Suppress), Effect::Redraw);
    assert!(state.suppression.is_none() && state.remark.as_ref().unwrap().failed);
    press(&mut state, &[Key::Sites]);
    assert_eq!(update(&mut state, Key::Suppress), Effect::Redraw);
    assert_eq!(state.suppression, None);
    assert!(state.remark.as_ref().unwrap().text.starts_with("x does nothing here: "));
}

#[test]
fn limits_have_a_line_while_they_are_near_and_a_page() {
    for (columns, rows) in SIZES {
        let mut state = first_view(columns, rows, leaking());
        press(&mut state, &[Key::Limits]);
        golden(&format!("limits_{columns}"), &state);
        press(&mut state, &[Key::Limits]);
        assert_eq!(state.page, None);
    }
    let mut far = leaking();
    for limit in &mut far.limits {
        if let Some(time) = &mut limit.time_to_limit_s {
            *time = crate::report::TimeToLimit { low: 7_000.0, mid: 9_000.0, high: None };
        }
    }
    let mut state = first_view(80, 24, far);
    assert!(!shown(&state).contains("limit near"), "{}", shown(&state));
    press(&mut state, &[Key::Limits]);
    assert!(shown(&state).contains("reached in 117 min at the earliest"), "{}", shown(&state));
    press(&mut state, &[Key::Help]);
    assert_eq!(state.page, Some(Page::Help), "one page replaces the other");
    let mut nothing = leaking();
    nothing.memory = None;
    nothing.limits.clear();
    let mut state = first_view(80, 24, nothing);
    press(&mut state, &[Key::Limits]);
    assert!(
        shown(&state).contains("It cannot be read.") && shown(&state).contains("None is known")
    );
}

#[test]
fn help_explains_findings() {
    let mut state = first_view(120, 140, leaking());
    press(&mut state, &[Key::Help]);
    golden("findings_help", &state);
}

#[test]
fn several_processes_and_many_findings_fit() {
    let mut report = leaking();
    report.findings[0].processes = 4;
    let like = report.findings[1].clone();
    for number in 0..40 {
        let rate = FindingRate { count_per_s: 0.5, bytes_per_s: 0.0, low: 0.4, high: 0.6 };
        report.findings.insert(
            2,
            Finding {
                id: number.to_string(),
                outstanding: crate::report::Amount { count: 294, bytes: 0 },
                kind: Resource::from("fd"),
                rate: Some(rate),
                ..like.clone()
            },
        );
    }
    let mut state = first_view(80, 24, report.clone());
    golden("findings_many", &state);
    press(&mut state, &[Key::End]);
    assert_eq!(state.at.cursor, 41);
    golden("findings_many_end", &state);
    golden("findings_many_wide", &first_view(140, 40, report));
}

#[test]
fn control_characters_of_the_target_are_removed() {
    let mut report = leaking();
    report.answer.sentence.push_str("\u{1b}[2J");
    let finding = &mut report.findings[0];
    finding.title.push_str("\u{1b}[2J");
    finding.reasons.push("\u{1b}[2J".to_owned());
    finding.look_at = Some("\r\n".to_owned());
    finding.clients[0].address.push('\u{1b}');
    finding.parts[0].kind = Resource::from("\u{1b}[2J");
    report.limits[0].what.push('\u{1b}');
    for (columns, rows) in [(62, 20), (200, 50)] {
        for keys in [&[][..], &[Key::Open], &[Key::Limits], &[Key::Suppress]] {
            let mut state = first_view(columns, rows, report.clone());
            press(&mut state, keys);
            for cell in &painted(&state, Theme::Plain).backend().buffer().content {
                assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
            }
        }
    }
}
