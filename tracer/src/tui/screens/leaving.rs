//! Screens of resources that closed connections left behind.

use std::sync::Arc;

use super::{golden, painted, press, type_filter, view};
use crate::{
    report::{Connections, LeftBehind, Orphans, Report, Site, fixtures::served},
    tui::{
        keys::Key,
        lists::{Id, List},
        state::Pane,
        theme::Theme,
        update::receive,
    },
};

fn left(site: u32, (count, bytes): (u64, u64), connections: u64) -> LeftBehind {
    let share = Some(connections as f64 / 9_120.0);
    LeftBehind { site, orphans: Orphans { count, bytes, connections, share } }
}

/// The server leaks sessions on two paths, and a descriptor with some connections.
fn leaking() -> Report {
    let mut report = served();
    let rows = [
        left(1, (15_000, 15_000 * 4096), 5_000),
        left(6, (294, 0), 290),
        left(7, (693, 693 * 4096), 231),
        left(2, (1, 2_097_152), 1),
    ];
    let second = Site { id: 7, headline: 3, ..report.sites[0].clone() };
    let frame = report.sites[0].asked().unwrap().clone();
    let mut frames = second.frames.to_vec();
    frames[3] = frame;
    report.sites.push(Site { frames: frames.into(), ..second });
    for row in rows {
        let site = report.sites.iter_mut().find(|site| site.id == row.site).unwrap();
        site.orphans = Some(row.orphans);
    }
    let connections = report.connections.as_mut().unwrap();
    connections.left_behind = rows.to_vec();
    connections.clients[0].orphan_count += 295;
    report
}

#[test]
fn resources_left_behind_are_listed_by_function() {
    for (columns, rows) in super::lists::SIZES {
        let mut state = view(columns, rows, leaking());
        press(&mut state, &[Key::Leaving]);
        golden(&format!("leaving_{columns}"), &state);
    }
    // Two processes.
    let mut report = leaking();
    let mut other = report.targets[0].clone();
    other.pid = 4200;
    report.targets.push(other);
    let mut state = view(80, 24, report);
    press(&mut state, &[Key::Leaving]);
    golden("leaving_of_two", &state);
}

#[test]
fn call_sites_show_resources_left_behind() {
    for (columns, rows) in super::lists::SIZES {
        let mut state = view(columns, rows, leaking());
        golden(&format!("orphans_{columns}"), &state);
        press(&mut state, &[Key::Open]);
        golden(&format!("orphans_{columns}_details"), &state);
    }
    // Of descriptors.
    let mut state = view(120, 40, leaking());
    press(&mut state, &[Key::Leaving, Key::Down, Key::Open]);
    golden("orphans_of_descriptors", &state);
}

#[test]
fn enter_shows_the_stack_that_acquired_it() {
    let mut state = view(120, 40, leaking());
    press(&mut state, &[Key::Leaving, Key::Open]);
    assert_eq!((state.at.pane, state.site().unwrap().id), (Pane::Detail, 1));
    press(&mut state, &[Key::Back]);
    assert_eq!((state.at.pane, state.list), (Pane::Split, List::Leaving));
}

#[test]
fn keys_switch_between_all_lists_of_connections() {
    let mut state = view(80, 24, leaking());
    for (key, list) in [
        (Key::Leaving, List::Leaving),
        (Key::Clients, List::Clients),
        (Key::Leaving, List::Leaving),
        (Key::Leaving, List::Connections),
        (Key::Clients, List::Clients),
        (Key::Clients, List::Connections),
        (Key::Leaving, List::Leaving),
        (Key::Connections, List::Connections),
    ] {
        press(&mut state, &[key]);
        assert_eq!(state.list, list);
    }
}

#[test]
fn the_cursor_stays_on_its_function_when_another_path_is_the_worst() {
    let mut state = view(80, 24, leaking());
    press(&mut state, &[Key::Leaving, Key::Down]);
    assert_eq!(state.id(), Some(Id::Leaving(6)));
    press(&mut state, &[Key::Up]);
    assert_eq!(state.id(), Some(Id::Leaving(1)));
    let mut later = leaking();
    let rows = &mut later.connections.as_mut().unwrap().left_behind;
    rows.swap(0, 2);
    rows[0].orphans.connections = 5_231;
    receive(&mut state, Arc::new(later));
    assert_eq!((state.id(), state.at.cursor), (Some(Id::Leaving(7)), 0));
}

#[test]
fn a_filter_finds_functions_by_any_of_their_paths() {
    let mut state = view(80, 24, leaking());
    press(&mut state, &[Key::Leaving]);
    for (filter, found) in
        [("make_session", &[0][..]), ("eventfd", &[1]), ("arena", &[2]), ("xyz", &[])]
    {
        press(&mut state, &[Key::Back]);
        type_filter(&mut state, filter);
        press(&mut state, &[Key::Accept]);
        assert_eq!(state.at.order, found, "{filter}");
    }
}

#[test]
fn nothing_left_behind_is_stated() {
    let mut report = served();
    let connections = report.connections.as_mut().unwrap();
    connections.left_behind.clear();
    let mut state = view(80, 24, report.clone());
    press(&mut state, &[Key::Leaving]);
    let shown = painted(&state, Theme::Plain).backend().to_string();
    assert!(shown.contains("Closed connections have left nothing behind so far"), "{shown}");
    report.connections = Some(Connections::default());
    receive(&mut state, Arc::new(report));
    let shown = painted(&state, Theme::Plain).backend().to_string();
    assert!(shown.contains("No connections so far"), "{shown}");
}
