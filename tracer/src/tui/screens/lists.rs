//! Screens of file descriptors and connections.

use std::sync::Arc;

use tracer_common::loss::Loss;

use super::{golden, painted, press, type_filter, view};
use crate::{
    report::{
        Connection, Connections, Fd, Report, Word,
        fixtures::{light, served},
    },
    tui::{
        keys::Key,
        lists::{Id, List},
        model::ColumnId,
        sample,
        state::Pane,
        theme::Theme,
        update::{self, Effect, receive, update},
    },
};

/// The sizes at which columns appear and disappear.
pub(super) const SIZES: [(u16, u16); 4] = [(62, 20), (80, 24), (120, 40), (200, 50)];

fn golden_at_all_sizes(name: &str, keys: &[Key], report: &Report) {
    for (columns, rows) in SIZES {
        let mut state = view(columns, rows, report.clone());
        press(&mut state, keys);
        golden(&format!("{name}_{columns}"), &state);
    }
}

/// Many items in every list, each with different figures.
fn many(number: u32) -> Report {
    let mut report = served();
    let fds = report.fds.as_mut().unwrap();
    let socket = fds.table[6].clone();
    fds.table = (0..number)
        .map(|fd| Fd { fd, age_s: Some(f64::from(fd % 977)), ..socket.clone() })
        .collect();
    let connections = report.connections.as_mut().unwrap();
    let open = connections.table[1].clone();
    connections.table = (0..number)
        .map(|id| Connection { id: id.into(), age_s: Some(f64::from(id % 977)), ..open.clone() })
        .collect();
    report
}

#[test]
fn call_sites_of_descriptors_have_a_count_and_no_bytes() {
    golden_at_all_sizes("served_sites", &[], &served());
    let mut state = view(120, 40, served());
    press(&mut state, &[Key::End]);
    golden("served_sites_eventfd", &state);
    let mut state = view(62, 20, served());
    press(&mut state, &[Key::End, Key::Open]);
    golden("served_sites_eventfd_details", &state);
}

#[test]
fn descriptors_are_listed_below_their_totals() {
    golden_at_all_sizes("fds", &[Key::Fds], &served());
}

#[test]
fn columns_without_known_values_are_omitted() {
    let mut report = served();
    let fds = report.fds.as_mut().unwrap();
    fds.turnover_by_type.values_mut().for_each(|one| one.growth_per_s = None);
    for fd in &mut fds.table {
        (fd.state, fd.state_s, fd.peer, fd.local) = (None, None, None, None);
    }
    let mut state = view(120, 40, report);
    press(&mut state, &[Key::Fds]);
    golden("fds_without_states", &state);
}

#[test]
fn connections_are_listed_open_and_closed() {
    golden_at_all_sizes("connections", &[Key::Connections], &served());
}

#[test]
fn clients_are_listed_worst_first() {
    golden_at_all_sizes("clients", &[Key::Connections, Key::Clients], &served());
}

#[test]
fn several_targets_are_distinguished_in_every_list() {
    let mut report = served();
    let mut other = report.targets[0].clone();
    other.pid = 4200;
    report.targets.push(other);
    report.fds.as_mut().unwrap().table[1].pid = 4200;
    report.fds.as_mut().unwrap().limit = None;
    let mut state = view(80, 24, report);
    press(&mut state, &[Key::Fds]);
    golden("fds_of_two", &state);
    press(&mut state, &[Key::Connections]);
    golden("connections_of_two", &state);
}

#[test]
fn losses_are_prominent_in_every_list() {
    let mut report = served();
    report.accounting.lost.insert(Loss::AcquireDropped.into(), 12_000);
    for (columns, rows) in SIZES {
        let mut state = view(columns, rows, report.clone());
        for key in [Key::Fds, Key::Connections, Key::Clients, Key::Leaving] {
            press(&mut state, &[key]);
            let shown = painted(&state, Theme::Plain).backend().to_string();
            assert!(shown.contains(" LOST 12,000 "), "{shown}");
        }
    }
}

#[test]
fn control_characters_of_the_target_are_removed() {
    for keys in [&[Key::Fds][..], &[Key::Connections], &[Key::Connections, Key::Clients]] {
        let mut report = served();
        report.fds.as_mut().unwrap().table[6].peer = Some("\u{1b}[2Jpeer".to_owned());
        report.fds.as_mut().unwrap().table[7].state = Some(Word::named("\u{1b}[2J"));
        report.fds.as_mut().unwrap().table[8].acquired_by = Some(Word::named("\u{1b}[2J"));
        report.connections.as_mut().unwrap().clients[0].address = "\u{1b}[2Jclient".to_owned();
        report.connections.as_mut().unwrap().recently_closed[0].closed_by =
            Some(Word::named("\r\n"));
        let mut state = view(200, 50, report);
        press(&mut state, keys);
        for cell in &painted(&state, Theme::Plain).backend().buffer().content {
            assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
        }
    }
}

#[test]
fn untraced_is_not_shown_as_zero() {
    let mut state = view(80, 24, sample::report());
    for (key, text) in [
        (Key::Fds, "File descriptors are not traced"),
        (Key::Connections, "Connections are not traced"),
    ] {
        press(&mut state, &[key]);
        let shown = painted(&state, Theme::Plain).backend().to_string();
        assert!(shown.contains(text), "{shown}");
    }
    let mut report = served();
    report.connections = Some(Connections::default());
    let mut state = view(80, 24, report);
    press(&mut state, &[Key::Connections]);
    let shown = painted(&state, Theme::Plain).backend().to_string();
    assert!(shown.contains("No connections so far"), "{shown}");
}

#[test]
fn with_light_only_the_totals_of_descriptors_are_known() {
    let mut state = view(80, 24, light());
    press(&mut state, &[Key::Fds]);
    golden("light_fds", &state);
}

#[test]
fn every_list_keeps_its_place_order_and_filter() {
    let mut state = view(80, 24, served());
    press(&mut state, &[Key::Down, Key::Fds]);
    type_filter(&mut state, "close_wait");
    press(&mut state, &[Key::Accept, Key::SortRight, Key::Down]);
    let here = (state.at.sort, state.id(), state.at.filter.clone());
    assert_eq!((state.at.order.len(), state.at.cursor), (4, 1));
    press(&mut state, &[Key::Connections, Key::Clients, Key::Sites]);
    assert_eq!((state.list, state.at.cursor, state.at.filter.as_str()), (List::Sites, 1, ""));
    receive(&mut state, Arc::new(served()));
    press(&mut state, &[Key::Fds]);
    assert_eq!((state.at.sort, state.id(), state.at.filter.clone()), here);
}

#[test]
fn a_filter_finds_descriptors_by_the_functions_of_their_call_site() {
    let mut state = view(80, 24, served());
    press(&mut state, &[Key::Fds]);
    for (filter, numbers) in [
        ("publish_error", &[16][..]),
        ("gateway.cpp", &[17, 18, 21, 24, 25]),
        ("gateway.cpp close_wait", &[17, 21, 24, 25]),
        ("listen", &[5]),
        ("PTS", &[1]),
    ] {
        press(&mut state, &[Key::Back]);
        type_filter(&mut state, filter);
        press(&mut state, &[Key::Accept]);
        let table = &state.shown.as_ref().unwrap().fds.as_ref().unwrap().table;
        let found: Vec<u32> = state.at.order.iter().map(|at| table[*at].fd).collect();
        assert_eq!(found, numbers, "{filter}");
    }
}

#[test]
fn enter_shows_the_stack_that_created_it() {
    let mut state = view(120, 40, served());
    press(&mut state, &[Key::Fds, Key::End, Key::Up]);
    assert_eq!((state.id(), state.site().unwrap().id), (Some(Id::Fd(4121, 25)), 5));
    golden("fds_split", &state);
    press(&mut state, &[Key::Open]);
    assert_eq!(state.at.pane, Pane::Detail);
    golden("fds_details", &state);
    press(&mut state, &[Key::Back, Key::Home]);
    // Open before the attach.
    golden("fds_unknown", &state);
    press(&mut state, &[Key::Open]);
    assert!(state.remark.is_some() && state.at.pane != Pane::Detail);
}

#[test]
fn enter_on_a_client_lists_its_connections() {
    let mut state = view(120, 40, served());
    press(&mut state, &[Key::Connections, Key::Clients, Key::Open]);
    assert_eq!((state.list, state.at.filter.as_str()), (List::Connections, "10.0.0.7"));
    assert_eq!(state.at.order.len(), 5);
    golden("connections_of_a_client", &state);
    press(&mut state, &[Key::Back, Key::Clients, Key::Clients]);
    assert_eq!((state.list, state.at.order.len()), (List::Connections, 10));
}

#[test]
fn sort_keys_cycle_through_columns_of_each_list() {
    let mut state = view(80, 24, served());
    for (key, number) in
        [(Key::Fds, 7), (Key::Connections, 11), (Key::Clients, 10), (Key::Leaving, 7)]
    {
        press(&mut state, &[key]);
        let start = state.at.sort.by;
        for _ in 0..number {
            press(&mut state, &[Key::SortRight]);
            assert_ne!(state.at.sort.by, ColumnId::Pid, "one target, no such column");
        }
        assert_eq!(state.at.sort.by, start, "{key:?}");
    }
}

#[test]
fn help_explains_every_list() {
    let mut state = view(120, 160, served());
    press(&mut state, &[Key::Help]);
    golden("served_help", &state);
    assert_eq!(update(&mut state, Key::Fds), Effect::Redraw);
    assert!(state.page.is_none() && state.list == List::Fds);
}

#[test]
fn paging_through_a_hundred_thousand_rows() {
    let mut state = view(80, 24, many(100_000));
    for key in [Key::Fds, Key::Connections] {
        press(&mut state, &[key, Key::SortRight, Key::End]);
        let page = update::page(&state);
        let last = state.at.order.len() - 1;
        assert_eq!((state.at.cursor, state.at.top), (last, last + 1 - page));
        press(&mut state, &[Key::PageUp, Key::PageUp]);
        assert_eq!(state.at.cursor, last - 2 * (page - 1));
        let here = state.id();
        receive(&mut state, Arc::new(many(100_000)));
        assert_eq!(state.id(), here);
        press(&mut state, &[Key::Home]);
        assert_eq!((state.at.cursor, state.at.top), (0, 0));
    }
}
