//! Screens of library objects.

use std::sync::Arc;

use super::{golden, lists::SIZES, painted, press, type_filter, view};
use crate::{
    report::{
        Budget, LibraryObject, LibraryObjects, Report,
        fixtures::{light, objects, served},
    },
    tui::{
        keys::Key,
        lists::{Id, List},
        model::ColumnId,
        sample,
        state::Pane,
        theme::Theme,
        update::receive,
    },
};

fn golden_at_all_sizes(name: &str, keys: &[Key]) {
    for (columns, rows) in SIZES {
        let mut state = view(columns, rows, objects());
        press(&mut state, keys);
        golden(&format!("{name}_{columns}"), &state);
    }
}

fn shown(report: &Report, keys: &[Key]) -> String {
    let mut state = view(62, 20, report.clone());
    press(&mut state, keys);
    painted(&state, Theme::Plain).backend().to_string()
}

#[test]
fn call_sites_of_objects_have_their_names() {
    golden_at_all_sizes("objects_sites", &[]);
}

#[test]
fn objects_are_listed_by_kind() {
    golden_at_all_sizes("kinds", &[Key::Objects]);
}

#[test]
fn objects_are_listed_one_by_one() {
    golden_at_all_sizes("objects", &[Key::Fds, Key::Each]);
}

#[test]
fn enter_opens_the_call_sites_of_a_kind_and_then_the_stack() {
    let mut state = view(120, 40, objects());
    press(&mut state, &[Key::Objects, Key::Down]);
    assert_eq!(state.id(), Some(Id::ObjectType("zmq_socket".to_owned())));
    press(&mut state, &[Key::Open]);
    assert_eq!((state.list, state.at.filter.as_str()), (List::Sites, "kind:zmq_socket"));
    let ids: Vec<_> = state.at.order.iter().map(|at| objects().sites[*at].id).collect();
    assert_eq!(ids, [14, 15]);
    golden("kind_sites", &state);
    press(&mut state, &[Key::Open]);
    assert_eq!((state.at.pane, state.site().unwrap().id), (Pane::Detail, 14));
    // From the call site back to its objects.
    press(&mut state, &[Key::Back, Key::Down, Key::Each]);
    assert_eq!((state.list, state.at.filter.as_str()), (List::Objects, "site:15"));
    assert_eq!(state.at.order.len(), 2);
    press(&mut state, &[Key::Each]);
    assert_eq!(state.list, List::ObjectTypes);
    assert_eq!(
        state.id(),
        Some(Id::ObjectType("zmq_socket".to_owned())),
        "each list keeps its place"
    );
}

#[test]
fn a_kind_is_filtered_by_its_whole_name() {
    let mut report = objects();
    let sites = &mut report.sites;
    let buffers = sites.iter_mut().find(|site| site.id == 12).unwrap();
    buffers.kind = "bufferevent_ssl".into();
    let mut state = view(80, 24, report);
    press(&mut state, &[Key::Sites]);
    type_filter(&mut state, "kind:bufferevent");
    assert_eq!((state.at.order.len(), state.site().unwrap().id), (1, 11));
}

#[test]
fn objects_of_a_kind_are_listed_with_their_known_values() {
    for (name, downs) in [("ssl", 0), ("bufferevent", 2), ("evbuffer", 3)] {
        for (columns, rows) in SIZES {
            let mut state = view(columns, rows, objects());
            press(&mut state, &[Key::Objects]);
            (0..downs).for_each(|_| press(&mut state, &[Key::Down]));
            press(&mut state, &[Key::Each]);
            assert_eq!(state.list, List::Objects);
            golden(&format!("objects_{name}_{columns}"), &state);
        }
    }
}

#[test]
fn enter_on_an_object_shows_the_stack_that_created_it() {
    for (columns, rows) in [(80, 24), (120, 40)] {
        let mut state = view(columns, rows, objects());
        press(&mut state, &[Key::Each]);
        type_filter(&mut state, "0x7f1280004a10");
        press(&mut state, &[Key::Accept]);
        assert_eq!(state.at.order.len(), 3, "a connection's object and its two buffers");
        press(&mut state, &[Key::Down, Key::Open]);
        assert_eq!((state.at.pane, state.site().unwrap().id), (Pane::Detail, 12));
        golden(&format!("object_details_{columns}"), &state);
    }
}

#[test]
fn a_kind_without_live_objects_is_marked() {
    let mut state = view(120, 40, objects());
    press(&mut state, &[Key::Objects, Key::End]);
    golden("kind_gone", &state);
}

#[test]
fn objects_are_found_by_their_known_values() {
    let mut state = view(80, 24, objects());
    press(&mut state, &[Key::Each]);
    for (filter, number) in [
        ("tcp://", 2),
        ("10.0.0.7", 2),
        ("release", 3),
        ("kind:ssl live", 1),
        ("on_accept", 10),
        ("nothing like this", 0),
    ] {
        press(&mut state, &[Key::Back]);
        type_filter(&mut state, filter);
        press(&mut state, &[Key::Accept]);
        assert_eq!(state.at.order.len(), number, "{filter}");
    }
}

#[test]
fn sort_keys_cycle_through_columns_of_objects() {
    let mut state = view(80, 24, objects());
    for (keys, number) in [(&[Key::Objects][..], 13), (&[Key::Each], 14)] {
        press(&mut state, keys);
        let start = state.at.sort.by;
        for _ in 0..number {
            press(&mut state, &[Key::SortRight]);
            assert_ne!(state.at.sort.by, ColumnId::Pid, "one target, no such column");
        }
        assert_eq!(state.at.sort.by, start, "{:?}", state.list);
    }
}

#[test]
fn columns_without_known_values_are_omitted() {
    let mut report = objects();
    for one in &mut report.objects.as_mut().unwrap().table {
        *one = LibraryObject {
            fd: None,
            peer: None,
            owner: None,
            references: None,
            queued_bytes: None,
            pending: None,
            internals: None,
            messages: None,
            ..one.clone()
        };
    }
    let mut state = view(200, 50, report);
    press(&mut state, &[Key::Each]);
    let text = painted(&state, Theme::Plain).backend().to_string();
    for title in ["peer", "owner", "refs", "queued", "pending"] {
        assert!(!text.contains(&format!(" {title} ")), "{title}: {text}");
    }
}

#[test]
fn untraced_is_not_shown_as_zero() {
    let mut report = sample::report();
    for key in [Key::Objects, Key::Each] {
        assert!(shown(&report, &[key]).contains("Objects are not traced: --kind heap,mmap,object"));
        assert!(shown(&light(), &[key]).contains("are not traced with --light."));
    }
    report.accounting.budget =
        Some(Budget { share: 0.05, cost: None, pace: None, windows: 0, recorded_s: 0.0 });
    assert!(shown(&report, &[Key::Objects]).contains("are not traced with --max-overhead."));
    let mut report = served();
    report.objects = Some(LibraryObjects::default());
    assert!(
        shown(&report, &[Key::Objects])
            .contains("No objects of known library types created so far")
    );
    let mut report = objects();
    report.objects.as_mut().unwrap().table.clear();
    assert!(shown(&report, &[Key::Each]).contains("all that were created have been released"));
}

#[test]
fn control_characters_of_the_target_are_removed() {
    let mut report = objects();
    let table = &mut report.objects.as_mut().unwrap().table;
    table[0].label = Some("\u{1b}[2Jlabel".to_owned());
    table[0].peer = Some("\u{1b}[2Jpeer".to_owned());
    for keys in [&[Key::Objects][..], &[Key::Each], &[Key::Each, Key::Open]] {
        let mut state = view(200, 50, report.clone());
        press(&mut state, keys);
        for cell in &painted(&state, Theme::Plain).backend().buffer().content {
            assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
        }
    }
}

#[test]
fn the_cursor_stays_on_its_object() {
    let mut state = view(80, 24, objects());
    press(&mut state, &[Key::Each, Key::Down, Key::Down]);
    let here = state.id();
    let mut later = objects();
    later.objects.as_mut().unwrap().table.reverse();
    receive(&mut state, Arc::new(later));
    assert_eq!(state.id(), here);
}

#[test]
fn help_explains_objects() {
    let mut state = view(120, 200, objects());
    press(&mut state, &[Key::Help]);
    golden("objects_help", &state);
}
