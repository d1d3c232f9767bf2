//! Shortens long names: which parts of a C++ function's name to keep when space is short.
//!
//! Pure: takes a name and a width in cells, returns a text that fits. The end of a name, the function itself, is
//! dropped last.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Width of a text on the screen, in cells.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text without control characters: names come from outside and go to a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A function's name in at most `cells` cells: drops template arguments first, then parameters and the return type,
/// then the middle of the path.
pub fn function(name: &str, cells: usize) -> String {
    let name = clean(name);
    if width(&name) <= cells {
        return name;
    }
    let plain = without_templates(&name);
    if width(&plain) <= cells {
        return plain;
    }
    let bare = without_return_type(without_parameters(&plain).trim_end());
    let bare = without_lambda_parameters(&bare.replace("(anonymous namespace)::", ""));
    if width(&bare) <= cells {
        return bare;
    }
    match shorter_path(&components(&bare), cells) {
        // A cut name is more useful than much blank space.
        Some(path) if width(&path) + 5 > cells => path,
        _ => end_of(&bare, cells),
    }
}

/// The function's own name alone: the least to show.
pub fn last_part(name: &str) -> String {
    let plain = without_templates(&clean(name));
    let bare = without_return_type(without_parameters(&plain).trim_end());
    components(bare).last().map_or_else(String::new, |part| (*part).to_owned())
}

/// A text in at most `cells` cells, its middle replaced by `…`.
pub fn middle(text: &str, cells: usize) -> String {
    let text = clean(text);
    if width(&text) <= cells {
        return text;
    }
    let space = cells.saturating_sub(1);
    let head = take(text.chars(), space / 2);
    let tail: String = take(text.chars().rev(), space - width(&head)).chars().rev().collect();
    if cells == 0 { String::new() } else { format!("{head}…{tail}") }
}

/// A text in at most `cells` cells, its end replaced by `…`.
pub fn start_of(text: &str, cells: usize) -> String {
    let text = clean(text);
    if width(&text) <= cells {
        return text;
    }
    if cells == 0 { String::new() } else { take(text.chars(), cells - 1) + "…" }
}

/// A text wrapped to lines of at most `cells` cells: at a space, in a long path behind a `/`, in a long C++ name behind
/// `::`, `<`, `,` or `(`; anywhere only if there is none.
pub fn wrapped(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(8);
    let mut lines = Vec::new();
    let mut rest = clean(text);
    while width(&rest) > cells {
        let whole = take(rest.chars(), cells).len();
        let tail = rest.split_off(break_in(&rest, whole));
        lines.push(rest.trim_end().to_owned());
        rest = tail;
    }
    lines.push(rest);
    lines
}

/// Where to break a text of which the first `whole` bytes fit into the line.
fn break_in(text: &str, whole: usize) -> usize {
    let places = text.char_indices().map(|(at, _)| at).filter(|at| (1..=whole).contains(at));
    // The last place in the line's end that has this before it, and not that behind it.
    let last = |before: &[&str], behind: &[char], least: usize| {
        let is_there = |at: &usize| {
            let (head, tail) = text.split_at(*at);
            before.iter().any(|sign| head.ends_with(sign)) && !tail.starts_with(behind)
        };
        places.clone().filter(|at| *at >= least).rfind(is_there)
    };
    // `> >` closes two templates, and operators have signs of their own.
    last(&[" "], &['>'], whole / 2)
        .or_else(|| last(&["/", "::", ",", "(", "<"], &['/', '<', '>', '=', ')', ' '], whole / 3))
        .unwrap_or(whole)
}

/// The longest run of characters from the start that takes at most `cells` cells.
fn take(characters: impl Iterator<Item = char>, cells: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|character| {
            used += character.width().unwrap_or(0);
            used <= cells
        })
        .collect()
}

fn end_of(text: &str, cells: usize) -> String {
    let space = cells.saturating_sub(1);
    let tail: String = take(text.chars().rev(), space).chars().rev().collect();
    if width(text) <= cells { text.to_owned() } else { format!("…{tail}") }
}

/// First part, `…`, and as many of the last parts as fit; without the first part if space is short; at least the last
/// part.
fn shorter_path(parts: &[&str], cells: usize) -> Option<String> {
    let (first, rest) = parts.split_first()?;
    let tails = |least: usize| (least..rest.len()).filter_map(|from| rest.get(from..));
    let with_first = tails(1).map(|tail| format!("{first}::…::{}", tail.join("::")));
    let without =
        tails(0).filter(|tail| tail.len() > 1).map(|tail| format!("…{}", tail.join("::")));
    let last = parts.last().map(|part| (*part).to_owned());
    with_first.chain(without).chain(last).find(|text| width(text) <= cells)
}

/// The name without the text between `<` and `>`; operators keep their signs.
fn without_templates(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut depth = 0_usize;
    let mut before = ' ';
    let mut in_operator = false;
    for character in name.chars() {
        let sign = matches!(character, '<' | '>' | '=' | '-');
        in_operator = depth == 0 && sign && (in_operator || plain.ends_with("operator"));
        match character {
            _ if in_operator => plain.push(character),
            '<' => depth += 1,
            '>' if depth > 0 && before != '-' => depth -= 1,
            _ if depth == 0 => plain.push(character),
            _ => {}
        }
        before = character;
    }
    // An unbalanced name cannot be parsed: keep it whole.
    if depth == 0 && !plain.starts_with("::") { plain } else { name.to_owned() }
}

/// The name without its parameter list and what follows it.
fn without_parameters(name: &str) -> &str {
    let Some(close) = name.rfind(')') else { return name };
    let tail = name.get(close + 1..).unwrap_or_default();
    if tail.contains("::") || tail.contains('}') {
        return name;
    }
    let mut depth = 0_usize;
    for (at, byte) in name.bytes().enumerate().take(close + 1).collect::<Vec<_>>().into_iter().rev()
    {
        match byte {
            b')' => depth += 1,
            b'(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let head = name.get(..at).unwrap_or(name);
            return if head.is_empty() || head.ends_with("operator") { name } else { head };
        }
    }
    name
}

/// The name without the return type, which demanglers write for templates.
fn without_return_type(name: &str) -> &str {
    if name.contains("operator ") {
        return name;
    }
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'(' | b'{' | b'<' | b'[' => depth += 1,
            b')' | b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    match name.get(start..) {
        Some(rest) if !rest.is_empty() && !rest.starts_with('[') => rest,
        _ => name,
    }
}

/// `{lambda(int)#1}` as `{lambda#1}`.
fn without_lambda_parameters(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("{lambda(") {
        let Some((_, end)) = after.split_once(")#") else { break };
        short.push_str(before);
        short.push_str("{lambda#");
        rest = end;
    }
    short + rest
}

/// The parts between `::`, those inside brackets kept whole.
fn components(name: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    let mut before = b' ';
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'(' | b'{' | b'[' => depth += 1,
            b')' | b'}' | b']' => depth = depth.saturating_sub(1),
            b':' if before == b':' && depth == 0 => {
                parts.extend(name.get(start..at.saturating_sub(1)).filter(|part| !part.is_empty()));
                start = at + 1;
            }
            _ => {}
        }
        before = byte;
    }
    parts.extend(name.get(start..));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &str = "void uWS::HttpContext<false>::upgrade<std::basic_string_view<char, \
        std::char_traits<char> > >(uWS::HttpResponse<false>*, us_socket_context_t*) const";

    #[test]
    fn names_lose_templates_then_parameters_then_their_middle() {
        for (name, cells, short) in [
            ("on_open", 10, "on_open"),
            (UPGRADE, 200, UPGRADE),
            (
                UPGRADE,
                90,
                "void uWS::HttpContext::upgrade(uWS::HttpResponse*, us_socket_context_t*) const",
            ),
            (UPGRADE, 40, "uWS::HttpContext::upgrade"),
            (UPGRADE, 20, "…ttpContext::upgrade"),
            (UPGRADE, 18, "uWS::…::upgrade"),
            (UPGRADE, 14, "…text::upgrade"),
            (UPGRADE, 10, "upgrade"),
            (UPGRADE, 5, "…rade"),
            ("a::bbbbbbbb::cccccccc::run", 20, "a::…::cccccccc::run"),
            ("a::bbbbbbbb::cccccccc::run", 17, "…b::cccccccc::run"),
            ("a::bbbbbbbb::cccccccc::run", 13, "a::…::run"),
            (
                "std::ostream& ns::operator<< <ns::Long>(std::ostream&, ns::Long)",
                20,
                "ns::operator<<",
            ),
            ("ns::Pool<int>::operator->() const", 20, "ns::Pool::operator->"),
            (
                "main::{lambda(uWS::WebSocket<true>*)#1}::operator()(uWS::WebSocket<true>*) const",
                30,
                "main::{lambda#1}::operator()",
            ),
            ("(anonymous namespace)::Session::make(int, int, int)", 40, "Session::make"),
            ("operator new(unsigned long, std::nothrow_t const&)", 20, "operator new"),
            ("<gateway::Session as Drop>::drop", 12, "…Drop>::drop"),
        ] {
            assert_eq!(function(name, cells), short);
            assert!(width(&function(name, cells)) <= cells, "{name}");
        }
    }

    #[test]
    fn texts_keep_both_ends() {
        assert_eq!(middle("gateway_connection.cpp:188", 16), "gateway….cpp:188");
        assert_eq!(middle("short", 16), "short");
        assert_eq!(middle("short", 0), "");
        assert_eq!(start_of("a long sentence", 7), "a long…");
    }

    #[test]
    fn wide_characters_take_two_cells() {
        assert_eq!(width("接続"), 4);
        assert_eq!(start_of("接続接続", 5), "接続…");
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrapped("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("abcdefghijklmnop", 8), ["abcdefgh", "ijklmnop"]);
    }

    #[test]
    fn long_paths_and_names_break_between_their_parts() {
        for (text, cells, lines) in [
            (
                "/usr/src/gateway/sessions/registry.cpp:88",
                24,
                &["/usr/src/gateway/", "sessions/registry.cpp:88"][..],
            ),
            (
                "saved /srv/diagnostics/leaktrace-4121-761s.json",
                30,
                &["saved /srv/diagnostics/", "leaktrace-4121-761s.json"],
            ),
            (
                "gateway::sessions::Registry::remember",
                22,
                &["gateway::sessions::", "Registry::remember"],
            ),
            (
                "std::map<std::string,std::vector<int>>::find",
                28,
                &["std::map<std::string,std::", "vector<int>>::find"],
            ),
            (
                "std::vector<Session, std::allocator<Session> >::push",
                44,
                &["std::vector<Session, std::allocator<", "Session> >::push"],
            ),
            ("ns::Stream::operator<<(int)", 21, &["ns::Stream::", "operator<<(int)"]),
        ] {
            assert_eq!(wrapped(text, cells), lines);
        }
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(function("evil\u{1b}[2J", 40), "evil?[2J");
    }
}
