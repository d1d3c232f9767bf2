//! The function that a person would look at first: the program's own, not a library's, nor a wrapper of an allocator. Pure.

use std::collections::{HashMap, HashSet};

use super::Case;
use crate::{
    format::file_name,
    report::{Frame, Site},
    symbolize::{call_site::plain_name, wrappers},
};

/// Where the system's libraries are.
const SYSTEM: [&str; 6] =
    ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", "/usr/libexec/", "/usr/local/lib/"];

/// Beginnings of the names of library functions that programs contain copies of, each with the reason.
const COPIED: [(&str, &str); 5] = [
    ("us_", "uSockets, which no system packages"),
    ("bsd_", "its system calls"),
    ("uWS::", "uWebSockets, a library of templates"),
    ("boost::", "a library of templates"),
    ("absl::", "linked statically as a rule"),
];

/// The functions of all call sites.
#[derive(Debug)]
pub(super) struct Functions<'a> {
    executables: &'a HashMap<u32, &'a str>,
    /// Functions that ask for most call sites.
    wrappers: HashSet<&'a str>,
}

impl<'a> Functions<'a> {
    /// Collects them.
    pub(super) fn of(cases: &[Case<'a>], executables: &'a HashMap<u32, &'a str>) -> Self {
        let mut functions = Self { executables, wrappers: HashSet::new() };
        let asking = cases.iter().map(|case| {
            let at = functions.first(case.site);
            (symbol(case.site, at), symbol(case.site, at + 1))
        });
        functions.wrappers = wrappers::among(asking);
        functions
    }

    /// Index of the frame to look at.
    pub(super) fn headline(&self, site: &Site) -> usize {
        let first = self.first(site);
        let is_wrapper = |at: &usize| {
            symbol(site, *at).is_some_and(|name| self.wrappers.contains(name))
                && self.is_program(site, at + 1)
        };
        let skipped = (first..first + wrappers::LEVELS).take_while(is_wrapper).count();
        // If all of them are wrappers, none is.
        let above = first + skipped;
        if above < site.frames.len() && self.is_program(site, above) { above } else { first }
    }

    /// The first of the program's own frames, from the one that asked on; that one if none is the program's.
    fn first(&self, site: &Site) -> usize {
        let own = (site.headline..site.frames.len()).find(|at| self.is_program(site, *at));
        own.unwrap_or(site.headline)
    }

    /// Whether a frame is the program's own code, and has a name.
    pub(super) fn is_program(&self, site: &Site, at: usize) -> bool {
        let Some(frame) = site.frames.get(at) else { return false };
        let own = site.pid.and_then(|pid| self.executables.get(&pid)).copied();
        frame.symbol.is_some() && is_program(frame, own) && !is_beside_copied(site, frame)
    }

    /// The program of a call site.
    pub(super) fn program(&self, site: &Site) -> &'a str {
        site.pid.and_then(|pid| self.executables.get(&pid)).copied().unwrap_or_default()
    }
}

/// Whether the frame at an index is not in a library of the system's, as far as its own path shows.
pub(super) fn is_program_at(site: &Site, at: usize) -> bool {
    site.frames.get(at).is_some_and(|frame| is_program(frame, None))
}

fn is_program(frame: &Frame, executable: Option<&str>) -> bool {
    let name = frame.symbol.as_deref().unwrap_or_default();
    if is_copied(frame) {
        return false;
    }
    let Some(module) = frame.module.as_deref() else { return name.is_empty() };
    executable == Some(module) || !is_library(module)
}

/// Whether a frame's source file is that of a copied library's function in the stack: its inner functions have any names.
fn is_beside_copied(site: &Site, frame: &Frame) -> bool {
    let Some(file) = &frame.file else { return false };
    site.frames.iter().any(|other| is_copied(other) && other.file.as_ref() == Some(file))
}

/// Whether a frame is of a library that programs contain copies of.
fn is_copied(frame: &Frame) -> bool {
    let name = frame.symbol.as_deref().unwrap_or_default();
    COPIED.iter().any(|(begin, _)| name.starts_with(begin))
}

/// Whether a path is that of one of the system's libraries. A program's own plugins are elsewhere, or have no version.
fn is_library(path: &str) -> bool {
    let name = file_name(path);
    let is_shared = name.contains(".so");
    is_shared && (SYSTEM.iter().any(|folder| path.starts_with(folder)) || name.contains(".so."))
}

/// The function of a frame without template arguments and parameters.
pub(super) fn short_name(frame: &Frame) -> String {
    match frame.symbol.as_deref() {
        // Of a Rust function, that would drop the function.
        Some(symbol) if !symbol.starts_with('<') => called(symbol),
        _ => frame.label(),
    }
}

/// A function's plain name, in which a lambda keeps its number and the call operator its brackets.
fn called(symbol: &str) -> String {
    let mut short = String::with_capacity(symbol.len());
    let mut rest = symbol;
    while let Some((before, after)) = rest.split_once("{lambda(") {
        let Some((_, end)) = after.split_once(")#") else { break };
        short = short + before + "{lambda#";
        rest = end;
    }
    let plain = plain_name(&(short + rest));
    let is_call = plain.ends_with("operator") && symbol.contains("operator()");
    if is_call { plain + "()" } else { plain }
}

/// The name of the function at an index.
fn symbol(site: &Site, at: usize) -> Option<&str> {
    site.frames.get(at)?.symbol.as_deref()
}

#[cfg(test)]
mod tests {
    use super::called;

    #[test]
    fn titles_name_lambdas_and_call_operators() {
        for (symbol, name) in [
            ("void a::Pool<int>::grow<int>(int*)", "a::Pool::grow"),
            (
                "main::{lambda(uWS::WebSocket<true>*)#1}::operator()(void*) const",
                "main::{lambda#1}::operator()",
            ),
            ("operator()<std::vector<int> >", "operator()"),
            ("a::operator()(int)", "a::operator()"),
            ("operator new(unsigned long)", "operator new"),
        ] {
            assert_eq!(called(symbol), name);
        }
    }
}
