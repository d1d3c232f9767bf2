//! Suppressions: which findings the user does not want to see, in the syntax of `LeakSanitizer`.
//!
//! Takes the text of a file, and findings; passes on the findings that no pattern matches, and what each pattern hides. Pure:
//! reads no file, and looks only at the names in a finding's stack.

use crate::report::{Amount, Finding, Frame, Suppressed};

/// The only type of suppression that concerns leaks.
const TYPE: &str = "leak";

/// Titles of hidden findings that a report has for each pattern: enough to see whether it hides what it should.
const TITLES: usize = 10;

/// The patterns of all files, in their order. The first that matches a finding hides it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions {
    patterns: Vec<Pattern>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// The reason.
    pub why: String,
}

impl Suppressions {
    /// Reads the text of a file: a suppression `leak:PATTERN` on each line; blank lines and those that begin with `#` are
    /// ignored.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Pattern::of_line(line) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => return Err(BadLine { line: number + 1, why }),
            }
        }
        Ok(Self { patterns })
    }

    /// Adds those of another file.
    pub fn append(&mut self, mut other: Self) {
        self.patterns.append(&mut other.patterns);
    }

    /// The pattern that hides a finding, if one does.
    pub fn matches(&self, finding: &Finding) -> Option<&str> {
        self.patterns.iter().find(|one| one.hides(finding)).map(|one| one.text.as_str())
    }

    /// Separates the findings that remain from what the patterns hide. Both keep their order; patterns that hide nothing are
    /// omitted.
    pub fn apply(&self, findings: Vec<Finding>) -> (Vec<Finding>, Vec<Suppressed>) {
        if self.patterns.is_empty() {
            return (findings, Vec::new());
        }
        let mut hidden: Vec<Vec<Finding>> = vec![Vec::new(); self.patterns.len()];
        let mut kept = Vec::with_capacity(findings.len());
        for finding in findings {
            let by = self.patterns.iter().position(|one| one.hides(&finding));
            by.and_then(|by| hidden.get_mut(by)).unwrap_or(&mut kept).push(finding);
        }
        let used = self.patterns.iter().zip(hidden).filter(|(_, hidden)| !hidden.is_empty());
        (kept, used.map(|(pattern, hidden)| suppressed(pattern, &hidden)).collect())
    }
}

fn suppressed(pattern: &Pattern, hidden: &[Finding]) -> Suppressed {
    let sum = |sum: Amount, one: &Finding| Amount {
        count: sum.count.saturating_add(one.outstanding.count),
        bytes: sum.bytes.saturating_add(one.outstanding.bytes),
    };
    Suppressed {
        pattern: pattern.text.clone(),
        findings: hidden.len() as u64,
        outstanding: hidden.iter().fold(Amount::default(), sum),
        titles: hidden.iter().take(TITLES).map(|one| one.title.clone()).collect(),
    }
}

/// A pattern: it is found anywhere in a name, unless it is anchored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// As the file has it.
    text: String,
    /// Whether it begins with `^`: a name must begin with it.
    from_start: bool,
    /// Whether it ends with `$`: a name must end with it.
    to_end: bool,
    /// What is between the `*`: at least one, possibly empty.
    pieces: Vec<String>,
}

impl Pattern {
    fn of_line(line: &str) -> Result<Self, String> {
        let (kind, pattern) = line
            .split_once(':')
            .ok_or_else(|| format!("`{line}` has no type; a suppression is `{TYPE}:PATTERN`"))?;
        if kind != TYPE {
            return Err(format!("suppressions of type `{kind}` are of other tools"));
        }
        let (rest, from_start) = match pattern.strip_prefix('^') {
            Some(rest) => (rest, true),
            None => (pattern, false),
        };
        let (rest, to_end) = match rest.strip_suffix('$') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        if rest.chars().all(|sign| sign == '*') {
            return Err(format!("the pattern `{pattern}` matches everything, or nothing"));
        }
        let pieces = rest.split('*').map(str::to_owned).collect();
        Ok(Self { text: pattern.to_owned(), from_start, to_end, pieces })
    }

    fn hides(&self, finding: &Finding) -> bool {
        finding.frames.iter().any(|frame| self.is_in_frame(frame))
    }

    /// Whether it matches a frame's function, source file or object. A frame without a name has the one that reports give it.
    fn is_in_frame(&self, frame: &Frame) -> bool {
        let mut names = [&frame.symbol, &frame.file, &frame.module].into_iter().flatten();
        names.any(|name| self.is_in(name)) || (frame.symbol.is_none() && self.is_in(&frame.label()))
    }

    fn is_in(&self, name: &str) -> bool {
        let Some((last, pieces)) = self.pieces.split_last() else { return false };
        let mut rest = name;
        let mut anchored = self.from_start;
        // Each piece as early as possible leaves the most for those that follow.
        for piece in pieces {
            let Some(after) = after(rest, piece, anchored) else { return false };
            rest = after;
            anchored = false;
        }
        match (anchored, self.to_end) {
            (true, true) => rest == last,
            (false, true) => rest.ends_with(last.as_str()),
            (anchored, false) => after(rest, last, anchored).is_some(),
        }
    }
}

/// What follows a piece in a name.
fn after<'name>(name: &'name str, piece: &str, at_start: bool) -> Option<&'name str> {
    if at_start { name.strip_prefix(piece) } else { name.split_once(piece).map(|(_, after)| after) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: bool) {
        let pattern = Pattern::of_line(&format!("leak:{pattern}")).unwrap();
        assert_eq!(pattern.is_in(name), expected, "{pattern:?} in {name}");
    }

    #[test]
    fn a_pattern_is_found_anywhere_in_a_name_unless_it_is_anchored() {
        for (pattern, yes, no) in [
            ("session", &["session", "make_session(int)"][..], &["Session", ""][..]),
            ("^make", &["make", "make_session"], &["remake"]),
            ("session$", &["session", "make_session", "session_session"], &["session2"]),
            ("^main$", &["main"], &["main2", "domain", ""]),
            ("make*session", &["make_session2", "remakesession"], &["session_make"]),
            ("^a*b*c$", &["abc", "a_b_b_c", "abcc"], &["xabc", "abcx", "acb"]),
            ("*b$", &["b", "ab"], &["bc"]),
            ("^*b", &["ab", "b"], &["c"]),
            ("a*", &["a", "ba"], &["b"]),
            ("^a*$", &["a", "ab"], &["ba"]),
            ("a$b", &["xa$by"], &["ab"]),
            ("aa*aa$", &["aaaa", "xaaaaa"], &["aaa"]),
            (
                "operator new[](unsigned long)",
                &["operator new[](unsigned long)"],
                &["operator new"],
            ),
        ] {
            yes.iter().for_each(|name| check(pattern, name, true));
            no.iter().for_each(|name| check(pattern, name, false));
        }
    }

    #[test]
    fn comments_and_blank_lines_are_ignored() {
        let some = Suppressions::parse("# ours\n\n  leak:arena_grow  \r\n\t# more\nleak:^std::map")
            .unwrap();
        let texts: Vec<&str> = some.patterns.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["arena_grow", "^std::map"]);
        assert_eq!(Suppressions::parse("").unwrap(), Suppressions::default());
    }

    #[test]
    fn a_bad_line_says_where_and_why() {
        for (text, line, why) in [
            ("leak:a\narena", 2, "`arena` has no type; a suppression is `leak:PATTERN`"),
            ("race:arena", 1, "suppressions of type `race` are of other tools"),
            ("#\n\nleak:", 3, "the pattern `` matches everything, or nothing"),
            ("leak:^*$", 1, "the pattern `^*$` matches everything, or nothing"),
        ] {
            let expected = BadLine { line, why: why.to_owned() };
            assert_eq!(Suppressions::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn functions_files_and_objects_of_every_frame_count() {
        let findings = fixtures::sample().findings;
        let by = |pattern: &str, finding: &Finding| {
            let some = Suppressions::parse(&format!("leak:nothing\nleak:{pattern}")).unwrap();
            let by = some.matches(finding).map(str::to_owned);
            assert!(by.as_deref().is_none_or(|by| by == pattern));
            by.is_some()
        };
        for pattern in
            ["on_open", "src/gateway.cpp$", "libuSockets.so", "^main$", "^libuSockets.so+0x9d68$"]
        {
            assert!(by(pattern, &findings[0]), "{pattern}");
        }
        assert!(by("geo.so+0x10f3a", &findings[1]) && !by("geo.so+0x10f3a", &findings[0]));
        assert!(!by("a Session and a socket", &findings[0]), "titles are no names");
    }

    #[test]
    fn the_first_pattern_hides_a_finding_and_the_unused_are_omitted() {
        let all = fixtures::sample().findings;
        let some = Suppressions::parse("leak:unused\nleak:make_session\nleak:on_open\nleak:arena")
            .unwrap();
        let (kept, hidden) = some.apply(all.clone());
        assert_eq!(kept, all[1..2]);
        let of =
            |hidden: &Suppressed| (hidden.pattern.clone(), hidden.findings, hidden.outstanding);
        assert_eq!(
            hidden.iter().map(of).collect::<Vec<_>>(),
            [
                ("make_session".to_owned(), 1, all[0].outstanding),
                ("arena".to_owned(), 1, all[2].outstanding)
            ]
        );
        assert_eq!(hidden[0].titles, [all[0].title.clone()]);
        assert_eq!(Suppressions::default().apply(all.clone()), (all, Vec::new()));
    }

    #[test]
    fn amounts_are_added_and_titles_are_bounded() {
        let leak = fixtures::sample().findings.remove(0);
        let mut some = Suppressions::default();
        some.append(Suppressions::parse("leak:make_session").unwrap());
        let (kept, hidden) = some.apply(vec![leak.clone(); 25]);
        assert_eq!((kept.len(), hidden.len(), hidden[0].titles.len()), (0, 1, TITLES));
        assert_eq!(hidden[0].findings, 25);
        assert_eq!(hidden[0].outstanding.bytes, 25 * leak.outstanding.bytes);
    }
}
