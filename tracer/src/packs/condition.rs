//! For which versions of a library something holds: told by the object file that has the library inside.

use serde::Deserialize;

/// An object file, as far as its version can be told.
#[derive(Clone, Copy)]
pub struct ObjectFile<'a> {
    /// Whether it defines a function of this name.
    pub defines: &'a dyn Fn(&str) -> bool,
    /// Its build id in hexadecimal digits, if it has one.
    pub build_id: Option<&'a str>,
}

/// What must hold of an object file. What says nothing always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// Functions: it defines all of them.
    pub defines: Vec<String>,
    /// Functions: it defines none of them.
    pub lacks: Vec<String>,
    /// Build ids, or the first digits of such: its own is one of them. Any will do where none is named.
    pub build_id: Vec<String>,
}

/// A build id needs so many digits not to be another's by chance.
const LEAST_DIGITS: usize = 8;

impl Condition {
    /// Whether it says nothing.
    pub const fn is_none(&self) -> bool {
        self.defines.is_empty() && self.lacks.is_empty() && self.build_id.is_empty()
    }

    /// Whether it holds.
    pub fn holds(&self, file: &ObjectFile<'_>) -> bool {
        let is_it = |id: &String| file.build_id.is_some_and(|own| own.starts_with(id.as_str()));
        self.defines.iter().all(|name| (file.defines)(name))
            && !self.lacks.iter().any(|name| (file.defines)(name))
            && (self.build_id.is_empty() || self.build_id.iter().any(is_it))
    }

    /// What is wrong with it, and what helps.
    pub(super) fn fault(&self) -> Option<(String, &'static str)> {
        if self.is_none() {
            let help = "name functions in `defines` or `lacks`, or build ids in `build_id`";
            return Some(("`only_if` says nothing".to_owned(), help));
        }
        if self.defines.iter().chain(&self.lacks).any(String::is_empty) {
            let help = "write the function's symbol, as nm -D has it";
            return Some(("a function has no name".to_owned(), help));
        }
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let is_id = |id: &&String| id.len() >= LEAST_DIGITS && id.chars().all(is_digit);
        let wrong = self.build_id.iter().find(|id| !is_id(id))?;
        let help = "write at least eight of its digits, as `file` or `readelf -n` has them";
        Some((format!("`{wrong}` is no build id"), help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_that_is_said_must_hold() {
        let defines = |name: &str| ["f", "g"].contains(&name);
        let file = ObjectFile { defines: &defines, build_id: Some("0123456789abcdef") };
        for (holds, defined, lacks, build_id) in [
            (true, &[][..], &[][..], &[][..]),
            (true, &["f", "g"], &["h"], &["ffffffff", "01234567"]),
            (true, &[], &[], &["0123456789abcdef"]),
            (false, &["f", "h"], &[], &[]),
            (false, &["f"], &["h", "g"], &[]),
            (false, &["f"], &[], &["ffffffff"]),
            (false, &[], &[], &["123456789abcdef0"]),
            // Longer than its own.
            (false, &[], &[], &["0123456789abcdef0"]),
        ] {
            let condition = Condition {
                defines: names(defined),
                lacks: names(lacks),
                build_id: names(build_id),
            };
            assert_eq!(condition.holds(&file), holds, "{condition:?}");
            let without = ObjectFile { build_id: None, ..file };
            assert_eq!(condition.holds(&without), holds && build_id.is_empty(), "{condition:?}");
        }
    }
}
