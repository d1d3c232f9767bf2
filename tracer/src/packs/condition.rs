//! Conditions on a library's version, evaluated on the object file that contains the library.
//!
//! Takes the functions that the file defines and its build ID, passes on whether a condition holds. Pure.

use serde::{Deserialize, Serialize};

/// What an object file reveals of the version of the library in it.
#[derive(Clone, Copy)]
pub struct ObjectFile<'a> {
    /// Whether it defines a function of this name.
    pub defines: &'a dyn Fn(&str) -> bool,
    /// Its build ID in hexadecimal digits, if it has one.
    pub build_id: Option<&'a str>,
}

/// What must be true of an object file. An empty condition always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// Functions: the file defines all of them.
    pub defines: Vec<String>,
    /// Functions: the file defines none of them.
    pub lacks: Vec<String>,
    /// Build IDs, or their first digits: the file's build ID matches one of them. Empty if any build ID does.
    pub build_id: Vec<String>,
}

/// With eight digits (32 bits), two build IDs do not match by chance.
const LEAST_DIGITS: usize = 8;

impl Condition {
    /// Whether it is empty.
    pub const fn is_none(&self) -> bool {
        self.defines.is_empty() && self.lacks.is_empty() && self.build_id.is_empty()
    }

    /// Whether it holds for an object file.
    pub fn holds(&self, file: &ObjectFile<'_>) -> bool {
        let is_it = |id: &String| file.build_id.is_some_and(|own| own.starts_with(id.as_str()));
        self.defines.iter().all(|name| (file.defines)(name))
            && !self.lacks.iter().any(|name| (file.defines)(name))
            && (self.build_id.is_empty() || self.build_id.iter().any(is_it))
    }

    /// What is wrong with it, and how to fix it.
    pub(super) fn fault(&self) -> Option<(String, &'static str)> {
        if self.is_none() {
            let help = "name functions in `defines` or `lacks`, or build IDs in `build_id`";
            return Some(("`only_if` is empty".to_owned(), help));
        }
        if self.defines.iter().chain(&self.lacks).any(String::is_empty) {
            let help = "write the function's symbol, as nm -D shows it";
            return Some(("a function has no name".to_owned(), help));
        }
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let is_id = |id: &&String| id.len() >= LEAST_DIGITS && id.chars().all(is_digit);
        let wrong = self.build_id.iter().find(|id| !is_id(id))?;
        let help = "write at least eight of its digits, as `file` or `readelf -n` shows them";
        Some((format!("`{wrong}` is not a build ID"), help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_keys_must_hold() {
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
            // Longer than the file's build ID.
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
