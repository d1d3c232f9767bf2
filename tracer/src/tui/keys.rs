//! The key table: key strokes, their meaning, and their text on the help page.
//!
//! Takes a terminal event, returns a logical [`Key`]. Decoding, the help page and the hints in the bottom line all
//! read [`BINDINGS`]; `update` implements the effect of a key, not this file.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::SortBy;

/// A command, whatever the key stroke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One call site up, or one line up in a page.
    Up,
    /// One call site down, or one line down in a page.
    Down,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// To the first call site, and keep the cursor on the first row.
    Home,
    /// To the last call site.
    End,
    /// Show the selected call site on the whole screen, or go back.
    Open,
    /// Toggle the details below the table.
    Split,
    /// Sort by the column to the left.
    SortLeft,
    /// Sort by the column to the right.
    SortRight,
    /// Sort by this, or reverse that order.
    SortBy(SortBy),
    /// Reverse the order.
    Reverse,
    /// Start typing a filter.
    Filter,
    /// List the findings.
    Findings,
    /// List the call sites.
    Sites,
    /// List the open file descriptors.
    Fds,
    /// List the connections.
    Connections,
    /// Connections one by one, or summed by client.
    Clients,
    /// Show what connections left behind, or single connections.
    Leaving,
    /// List library objects by type.
    Objects,
    /// What the selected row consists of: call sites of a finding, single objects of a kind.
    Each,
    /// Show or hide findings that grow without being suspected.
    Growing,
    /// Hide the selected finding for good.
    Suppress,
    /// Toggle the page of memory and limits.
    Limits,
    /// Freeze the view, or resume.
    Pause,
    /// Remember the figures as the baseline.
    Mark,
    /// Forget the baseline.
    Unmark,
    /// Save the report that is shown.
    Save,
    /// Switch from light to full tracing.
    Full,
    /// Toggle help.
    Help,
    /// One step back: from help, full details, or the filter.
    Back,
    /// Redraw the whole screen.
    Repaint,
    /// Close the help page, else quit.
    Close,
    /// Quit at once.
    Quit,
    /// A character of the filter.
    Typed(char),
    /// Delete the last character.
    Erase,
    /// Delete all characters.
    EraseAll,
    /// Apply the filter.
    Accept,
}

/// The mode in which a binding applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Both modes.
    Always,
    /// While looking around.
    Browsing,
    /// While the filter is being typed.
    Typing,
}

/// A key stroke as the terminal reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// The key alone; Shift is part of the character.
    Plain(KeyCode),
    /// The key together with Ctrl.
    Control(char),
    /// Any character without Ctrl or Alt.
    AnyCharacter,
}

/// One row of the key table.
#[derive(Debug)]
pub struct Binding {
    /// When it applies.
    pub when: When,
    /// The strokes, all with the same meaning.
    pub strokes: &'static [Stroke],
    /// The meaning.
    pub key: Key,
    /// The strokes as shown on the help page.
    pub shown: &'static str,
    /// Its effect, for the help page.
    pub help: &'static str,
    /// Stroke and word for the bottom line, if it is shown there.
    pub hint: Option<(&'static str, &'static str)>,
}

const fn row(
    when: When,
    key: Key,
    strokes: &'static [Stroke],
    shown: &'static str,
    help: &'static str,
) -> Binding {
    Binding { when, strokes, key, shown, help, hint: None }
}

impl Binding {
    const fn hint(mut self, stroke: &'static str, word: &'static str) -> Self {
        self.hint = Some((stroke, word));
        self
    }
}

use Stroke::{AnyCharacter, Control, Plain};
use When::{Always, Browsing, Typing};

const fn letter(letter: char) -> Stroke {
    Plain(KeyCode::Char(letter))
}

/// Every key, in the order of the help page. The first matching row wins.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = &[
    row(Browsing, Key::Open, &[Plain(KeyCode::Enter)], "Enter",
        "details of the finding, or stack and history of the call site; again: back")
        .hint("Enter", "details"),
    row(Browsing, Key::Split, &[Plain(KeyCode::Tab)], "Tab",
        "show or hide the details below the table").hint("Tab", "split"),
    row(Browsing, Key::Findings, &[letter('1')], "1",
        "list the findings: what leaks, or may, one row for each cause"),
    row(Browsing, Key::Growing, &[letter('a')], "a",
        "findings: show or hide those that grow and are not suspected").hint("a", "growing"),
    row(Browsing, Key::Sites, &[letter('2')], "2", "list the call sites"),
    row(Browsing, Key::Fds, &[letter('3')], "3", "list the open file descriptors, with totals by type"),
    row(Browsing, Key::Connections, &[letter('4')], "4",
        "list the connections, open and recently closed"),
    row(Browsing, Key::Clients, &[letter('c')], "c",
        "connections: totals by client, and back; Enter there: that client's connections")
        .hint("c", "by client"),
    row(Browsing, Key::Leaving, &[letter('o')], "o",
        "orphans: what closed connections left behind, by call site; again: the connections")
        .hint("o", "orphans"),
    row(Browsing, Key::Objects, &[letter('5')], "5",
        "list library objects by kind; Enter there: the call sites that create them"),
    row(Browsing, Key::Each, &[letter('e')], "e",
        "finding: its call sites; kind or call site: its single objects, again: by kind")
        .hint("e", "one by one"),
    row(Browsing, Key::Suppress, &[letter('x')], "x",
        "suppress the selected finding from now on; asks first").hint("x", "suppress"),
    row(Browsing, Key::Limits, &[letter('l')], "l",
        "memory of the targets, and how far they are from their limits; again: back")
        .hint("l", "limits"),
    row(Browsing, Key::Filter, &[letter('/')], "/",
        "filter by words in function, file, module, kind, address or state; kind:fd matches exactly that kind")
        .hint("/", "filter"),
    row(Browsing, Key::SortLeft, &[letter('<'), letter(','), Plain(KeyCode::Left)], "< Left",
        "sort by the column to the left").hint("<>", "sort"),
    row(Browsing, Key::SortRight, &[letter('>'), letter('.'), Plain(KeyCode::Right)], "> Right",
        "sort by the column to the right"),
    row(Browsing, Key::SortBy(SortBy::Worst), &[letter('W')], "W",
        "sort: worst first, as at the beginning; again: in reverse, as with the letters below"),
    row(Browsing, Key::SortBy(SortBy::Bytes), &[letter('B')], "B", "sort by bytes"),
    row(Browsing, Key::SortBy(SortBy::Count), &[letter('C')], "C", "sort by number"),
    row(Browsing, Key::SortBy(SortBy::Rate), &[letter('R')], "R", "sort by growth, or by number per second"),
    row(Browsing, Key::SortBy(SortBy::Age), &[letter('A')], "A", "sort by age"),
    row(Browsing, Key::SortBy(SortBy::Name), &[letter('N')], "N", "sort by function, target or peer"),
    row(Browsing, Key::Reverse, &[letter('r')], "r", "reverse the sort order").hint("r", "reverse"),
    row(Browsing, Key::Pause, &[letter('p'), letter(' ')], "p Space",
        "freeze the view; tracing continues").hint("p", "pause"),
    row(Browsing, Key::Mark, &[letter('m')], "m",
        "set a baseline now and show changes since then").hint("m", "mark"),
    row(Browsing, Key::Unmark, &[letter('u')], "u", "clear the baseline"),
    row(Browsing, Key::Save, &[letter('s')], "s", "save the report shown").hint("s", "save"),
    row(Browsing, Key::Full, &[letter('f')], "f",
        "switch from light to full tracing: probes on allocation functions; figures start from zero")
        .hint("f", "full tracing"),
    row(Browsing, Key::Help, &[letter('?'), letter('h'), Plain(KeyCode::F(1))], "? h F1",
        "this page").hint("?", "help"),
    row(Browsing, Key::Close, &[letter('q')], "q", "quit; on this page: close it")
        .hint("q", "quit"),
    row(Always, Key::Quit, &[Control('c')], "Ctrl-C", "quit immediately"),
    row(Always, Key::Back, &[Plain(KeyCode::Esc)], "Esc",
        "go back one step: close this page, the details, or the filter"),
    row(Always, Key::Up, &[Plain(KeyCode::Up)], "Up k", "move up one row; in the details: scroll"),
    row(Browsing, Key::Up, &[letter('k')], "", ""),
    row(Always, Key::Down, &[Plain(KeyCode::Down)], "Down j", "move down one row"),
    row(Browsing, Key::Down, &[letter('j')], "", ""),
    row(Always, Key::PageUp, &[Plain(KeyCode::PageUp), Control('b')], "PgUp", "move up one page"),
    row(Always, Key::PageDown, &[Plain(KeyCode::PageDown), Control('f')], "PgDn", "move down one page"),
    row(Always, Key::Home, &[Plain(KeyCode::Home)], "Home g", "move to the first row and stay there"),
    row(Browsing, Key::Home, &[letter('g')], "", ""),
    row(Always, Key::End, &[Plain(KeyCode::End)], "End G", "move to the last row"),
    row(Browsing, Key::End, &[letter('G')], "", ""),
    row(Always, Key::Repaint, &[Control('l')], "Ctrl-L", "redraw the screen"),
    row(Typing, Key::Accept, &[Plain(KeyCode::Enter)], "Enter", "filter: apply it"),
    row(Typing, Key::Erase, &[Plain(KeyCode::Backspace)], "Backspace", "filter: delete a character"),
    row(Typing, Key::EraseAll, &[Control('u')], "Ctrl-U", "filter: delete everything"),
    row(Typing, Key::Typed(' '), &[AnyCharacter], "letters", "filter: add words; all must match"),
];

/// The command for this event; `typing` while the user types the filter.
pub fn decode(event: &KeyEvent, typing: bool) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let now = if typing { Typing } else { Browsing };
    let binding = BINDINGS
        .iter()
        .filter(|binding| binding.when == Always || binding.when == now)
        .find(|binding| binding.strokes.iter().any(|stroke| fits(*stroke, event)))?;
    match (binding.key, event.code) {
        (Key::Typed(_), KeyCode::Char(character)) => Some(Key::Typed(character)),
        (key, _) => Some(key),
    }
}

/// The first stroke of a command, as the help page shows it.
pub fn stroke(key: Key) -> &'static str {
    let row = BINDINGS.iter().find(|row| row.key == key && !row.shown.is_empty());
    row.and_then(|row| row.shown.split(' ').next()).unwrap_or("it")
}

fn fits(stroke: Stroke, event: &KeyEvent) -> bool {
    let bare = !event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
    match stroke {
        Plain(code) => bare && event.code == code,
        AnyCharacter => bare && matches!(event.code, KeyCode::Char(_)),
        Control(letter) => {
            event.modifiers.contains(KeyModifiers::CONTROL) && event.code == KeyCode::Char(letter)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, modifiers: KeyModifiers, typing: bool) -> Option<Key> {
        decode(&KeyEvent::new(code, modifiers), typing)
    }

    /// No catch-all arm: a new key fails to compile here until [`ALL`] lists it too.
    fn place(key: Key) -> usize {
        match key {
            Key::Up => 0,
            Key::Down => 1,
            Key::PageUp => 2,
            Key::PageDown => 3,
            Key::Home => 4,
            Key::End => 5,
            Key::Open => 6,
            Key::Split => 7,
            Key::SortLeft => 8,
            Key::SortRight => 9,
            Key::Reverse => 10,
            Key::Filter => 11,
            Key::Pause => 12,
            Key::Mark => 13,
            Key::Unmark => 14,
            Key::Save => 15,
            Key::Help => 16,
            Key::Back => 17,
            Key::Repaint => 18,
            Key::Quit => 19,
            Key::Typed(_) => 20,
            Key::Erase => 21,
            Key::EraseAll => 22,
            Key::Accept => 23,
            Key::Close => 24,
            Key::Full => 25,
            Key::Sites => 26,
            Key::Fds => 27,
            Key::Connections => 28,
            Key::Clients => 29,
            Key::Leaving => 30,
            Key::Objects => 31,
            Key::Each => 32,
            Key::Findings => 33,
            Key::Growing => 34,
            Key::Suppress => 35,
            Key::Limits => 36,
            Key::SortBy(_) => 37,
        }
    }

    #[test]
    fn every_key_has_a_row_that_explains_it() {
        for number in 0..38 {
            assert!(
                BINDINGS.iter().any(|row| place(row.key) == number && !row.help.is_empty()),
                "no row explains the key number {number}"
            );
        }
    }

    #[test]
    fn no_stroke_has_two_meanings() {
        for (at, row) in BINDINGS.iter().enumerate() {
            for other in &BINDINGS[at + 1..] {
                let same_time =
                    row.when == other.when || row.when == Always || other.when == Always;
                let shared = row.strokes.iter().any(|stroke| other.strokes.contains(stroke));
                assert!(!(same_time && shared), "{:?} and {:?}", row.key, other.key);
            }
        }
    }

    #[test]
    fn strokes_decode_as_in_the_table() {
        let none = KeyModifiers::NONE;
        for (code, modifiers, typing, key) in [
            (KeyCode::Char('q'), none, false, Some(Key::Close)),
            (KeyCode::Char('q'), none, true, Some(Key::Typed('q'))),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, true, Some(Key::Quit)),
            (KeyCode::Char('c'), none, false, Some(Key::Clients)),
            (KeyCode::Char('4'), none, false, Some(Key::Connections)),
            (KeyCode::Char('4'), none, true, Some(Key::Typed('4'))),
            (KeyCode::Char('1'), none, false, Some(Key::Findings)),
            (KeyCode::Char('2'), none, false, Some(Key::Sites)),
            (KeyCode::Char('6'), none, false, None),
            (KeyCode::Char('<'), KeyModifiers::SHIFT, false, Some(Key::SortLeft)),
            (KeyCode::Char('B'), KeyModifiers::SHIFT, false, Some(Key::SortBy(SortBy::Bytes))),
            (KeyCode::Char('G'), KeyModifiers::SHIFT, false, Some(Key::End)),
            (KeyCode::Char('A'), KeyModifiers::SHIFT, true, Some(Key::Typed('A'))),
            (KeyCode::Char('x'), KeyModifiers::ALT, true, None),
            (KeyCode::Enter, none, false, Some(Key::Open)),
            (KeyCode::Enter, none, true, Some(Key::Accept)),
            (KeyCode::Up, none, true, Some(Key::Up)),
            (KeyCode::Esc, none, true, Some(Key::Back)),
        ] {
            assert_eq!(press(code, modifiers, typing), key, "{code:?}");
        }
    }

    #[test]
    fn key_release_is_ignored() {
        let mut event = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        event.kind = KeyEventKind::Release;
        assert_eq!(decode(&event, false), None);
    }
}
