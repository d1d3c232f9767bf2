//! Resources of a call site that closed connections left behind, in sentences.
//!
//! Pure; takes a call site and the state, returns unpositioned text.

use crate::{
    format,
    report::{Orphans, Site},
    tui::{names, state::ViewState},
};

/// A non-breaking space, between a figure and its unit.
const NBSP: &str = "\u{a0}";

/// All sentences, in lines of at most `cells` cells; empty if nothing was left behind.
pub(super) fn lines(site: &Site, state: &ViewState, cells: usize) -> Vec<String> {
    sentences(site, state).iter().flat_map(|text| wrapped(text, cells)).collect()
}

/// The same in as few lines as possible: omits resources left at other call sites.
pub(super) fn brief(site: &Site, state: &ViewState, cells: usize) -> Vec<String> {
    let Some(mut text) = sentences(site, state).into_iter().next() else { return Vec::new() };
    if let Some(all) = state.summary.leaving(site.id).filter(|all| all.sites.len() > 1) {
        text = format!("{text}; one of {} paths", format::count(all.sites.len() as u64));
    }
    wrapped(&text, cells)
}

fn wrapped(text: &str, cells: usize) -> Vec<String> {
    names::wrapped(text, cells).into_iter().map(|line| line.replace(NBSP, " ")).collect()
}

fn unbroken(text: &str) -> String {
    text.replace(' ', NBSP)
}

fn sentences(site: &Site, state: &ViewState) -> Vec<String> {
    let Some(orphans) = site.orphans.filter(|orphans| orphans.count > 0) else {
        return Vec::new();
    };
    let all = state.shown.as_deref().and_then(|report| report.connections.as_ref());
    let whose = all.and_then(|all| all.mostly_from(orphans.connections));
    let whose = match whose {
        Some((address, true)) => format!(", all from {address}"),
        Some((address, false)) => format!(", mostly from {address}"),
        None => String::new(),
    };
    let of = match (orphans.share, orphans.compared()) {
        (Some(share), Some(all)) => {
            format!(
                "{} of {} closed connections",
                unbroken(&format::percent(share)),
                format::count(all)
            )
        }
        _ if orphans.connections == 1 => "1 closed connection".to_owned(),
        _ => format!("{} closed connections", format::count(orphans.connections)),
    };
    let mut sentences = vec![format!("left behind by {of}{}{whose}", each(site, orphans))];
    if let Some(all) = state.summary.leaving(site.id).filter(|all| all.sites.len() > 1) {
        let amount = amount(site, all.bytes, all.count);
        sentences.push(format!(
            "one of {} call paths to this function that leave something behind; together {amount} of {} connections",
            format::count(all.sites.len() as u64),
            all.connections_text(format::count),
        ));
    }
    sentences
}

/// `, 12.0 KiB in 3 each`, or the average if it is not the same for each; empty for a single connection.
fn each(site: &Site, orphans: Orphans) -> String {
    let Orphans { count, bytes, connections, .. } = orphans;
    if connections < 2 {
        return String::new();
    }
    let even = count % connections == 0 && bytes % connections == 0;
    let amount = match count / connections {
        // There is no fraction of a block.
        _ if !even && !site.kind.has_bytes() => return String::new(),
        _ if !even => unbroken(&format::bytes(bytes / connections)),
        1 if site.kind.has_bytes() => unbroken(&format::bytes(bytes / connections)),
        count => amount(site, bytes / connections, count),
    };
    format!(", {amount} each{}", if even { "" } else { " on average" })
}

fn amount(site: &Site, bytes: u64, count: u64) -> String {
    let count = format::count(count);
    if site.kind.has_bytes() {
        unbroken(&format!("{} in {count}", format::bytes(bytes)))
    } else {
        count
    }
}
