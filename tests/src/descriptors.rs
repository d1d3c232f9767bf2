//! The victim `descriptors`: the account of each file descriptor table, compared with `/proc` and with a report.
//!
//! A truth is a line of the victim (see `victims/descriptors.c`). Each difference is reported on its own line, with its
//! process and number.

mod account;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub use self::account::{Account, By, ONE_TYPE, Row};
use self::account::{number, text};
use crate::{Report, report::symbols};

/// Maximum number of differences in one message.
const MOST_LINES: usize = 40;

/// Functions for which libc has more than one frame between the victim's function and the system call; `fcntl` is two
/// functions in glibc.
const THROUGH_LIBC: [&str; 6] = [
    "by_fopen",
    "by_opendir",
    "by_mkstemp",
    "by_mq_open",
    "by_fcntl_dupfd",
    "by_fcntl_dupfd_cloexec",
];

/// A function that only submits a request: a kernel thread opens the descriptor. Whether it is attributed to this
/// function is left open.
const SUBMITS: &str = "by_io_uring_worker";

/// Functions that open descriptors unseen by the probes of system calls, so that leaktrace only finds them open:
/// reading events that contain descriptors.
pub const UNSEEN: &[&str] = &["by_fanotify_read"];
/// Functions that begin or accept one connection each.
const CONNECTING: [&str; 6] =
    ["by_connect", "by_udp", "by_unix", "by_accept", "by_accept4", "by_io_uring_accept"];
/// Why stacks of a program that has just started are truncated: the location of its code is not known yet.
const JUST_BEGUN: &str = "code that was just loaded or made";

/// What the frames above a call are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// The first frame is the victim's function, except where libc does more than pass the call on.
    First,
    /// The first frame that the victim marked: a statically linked program contains libc's functions. Programs that
    /// start while they are traced may have truncated stacks at first.
    FirstMarked,
}

/// What a report has to equal.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The tables of the targets.
    pub accounts: &'a [Account],
    /// Tables of single threads, which have no rows; whether their flows are part of the sums is left open.
    pub aside: &'a [Account],
    /// Whether sums of opened and closed are compared: a program's loader opens libraries.
    pub flows: bool,
    /// How call sites are attributed to functions.
    pub frames: Frames,
    /// Functions that open descriptors unseen.
    pub unseen: &'a [&'a str],
}

impl Expected<'_> {
    /// Whether leaktrace only finds such descriptors open, without more information.
    fn is_unseen(&self, by: &By) -> bool {
        matches!(by, By::Function(name) if self.unseen.contains(&name.as_str()))
    }
}

/// The rows, sums and call sites of a report equal the truth, and nothing was lost.
pub fn compare(report: &Report, expected: &Expected<'_>) -> Result<()> {
    let mut differences = Vec::new();
    let alone = expected.aside.len();
    let (said, truth) = (report.lost_by_target()?, format!("{{\"table_unshared\":{alone}}}"));
    if said != truth && (alone > 0 || !said.is_empty()) {
        differences.push(format!("lost: {said} reported, {alone} threads with tables true"));
    }
    compare_tables(report, expected, &mut differences)?;
    compare_sums(report, expected, &mut differences)?;
    compare_sites(report, expected, &mut differences)?;
    if differences.is_empty() {
        return Ok(());
    }
    let mut message = format!("{} differences from the truth:", differences.len());
    for line in differences.iter().take(MOST_LINES) {
        write!(message, "\n{line}")?;
    }
    bail!(message)
}

fn compare_tables(
    report: &Report,
    expected: &Expected<'_>,
    differences: &mut Vec<String>,
) -> Result<()> {
    let sites: BTreeMap<String, &Value> = report
        .list("/sites")?
        .iter()
        .filter_map(|site| Some((site.get("id")?.to_string(), site)))
        .collect();
    let mut left = BTreeMap::new();
    for account in expected.accounts {
        left.extend(account.rows.iter().map(|(fd, row)| ((account.pid, *fd), row)));
    }
    let mut seen = BTreeSet::new();
    for said in report.list("/fds/table")? {
        let key = (number(said, "pid")?, number(said, "fd")?);
        let name = format!("pid {} fd {}", key.0, key.1);
        if !seen.insert(key) {
            differences.push(format!("{name}: reported twice"));
        } else if let Some(truth) = left.remove(&key) {
            let site = said.get("site").filter(|id| !id.is_null());
            let site = site.map(|id| (id, sites.get(&id.to_string()).copied()));
            let found = row_differences(said, site, truth, expected);
            differences.extend(found.into_iter().map(|line| format!("{name}: {line}")));
        } else {
            differences.push(format!("{name}: reported, but not open: {said}"));
        }
    }
    for ((pid, fd), row) in left {
        let line = format!("pid {pid} fd {fd}: not reported, a {} ({:?})", row.kind, row.by);
        differences.push(line);
    }
    Ok(())
}

/// The differences of one row; `site` is its id and, if the report has it, the call site.
fn row_differences(
    said: &Value,
    site: Option<(&Value, Option<&Value>)>,
    truth: &Row,
    expected: &Expected<'_>,
) -> Vec<String> {
    let frames = expected.frames;
    let mut found = Vec::new();
    let kind = text(said, "type").unwrap_or("nothing");
    if kind != truth.kind {
        found.push(format!("type {kind} reported, {} true ({:?})", truth.kind, truth.by));
    }
    let before = said.get("pre_attach").and_then(Value::as_bool);
    if before != Some(truth.by == By::Before) {
        found.push(format!("pre_attach {before:?} reported, {:?} true", truth.by));
    }
    let age = said.get("age_s").and_then(Value::as_f64);
    if truth.by == By::Before {
        if age.is_some() || site.is_some() || text(said, "acquired_by").is_some() {
            found.push(format!("open before, but with an age, a call or a site: {said}"));
        }
        return found;
    }
    if expected.is_unseen(&truth.by) {
        if age.is_some() || site.is_some() || text(said, "acquired_by").is_some() {
            found.push(format!("not seen to be opened, but with an age, a call or a site: {said}"));
        }
        return found;
    }
    if age.is_none_or(|age| age < 0.0) {
        found.push(format!("no age: {said}"));
    }
    let By::Function(name) = &truth.by else { return found };
    if text(said, "acquired_by").is_none_or(str::is_empty) {
        found.push(format!("no name of the call that {name} made"));
    }
    let Some((id, site)) = site else {
        found.push(format!("no site, {name} true"));
        return found;
    };
    let Some(site) = site else {
        found.push(format!("site {id} is not among the sites, {name} true"));
        return found;
    };
    let stack = symbols(site);
    let cut = frames != Frames::First && text(site, "truncated_why") == Some(JUST_BEGUN);
    if !cut && function(&stack, name, frames) != Some(name) {
        found.push(format!("by {} reported, {name} true", stack.join(" <- ")));
    }
    if ONE_TYPE.iter().any(|(one, _)| one == name) {
        let is_socket = truth.kind == "socket";
        let kind = if is_socket { "socket" } else { "fd" };
        if text(site, "kind") != Some(kind) || text(site, "fd_type") != Some(&truth.kind) {
            let said = (text(site, "kind"), text(site, "fd_type"));
            found.push(format!("site {id} of {said:?}, {kind} and {} true", truth.kind));
        }
    }
    found
}

/// The victim's function in a stack, given how many frames before it may be others.
fn function<'a>(stack: &[&'a str], name: &str, frames: Frames) -> Option<&'a str> {
    if frames == Frames::First && !THROUGH_LIBC.contains(&name) {
        return stack.first().copied();
    }
    stack.iter().find(|symbol| symbol.starts_with("by_")).copied()
}

fn compare_sums(
    report: &Report,
    expected: &Expected<'_>,
    differences: &mut Vec<String>,
) -> Result<()> {
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    for row in expected.accounts.iter().flat_map(|account| account.rows.values()) {
        *types.entry(&row.kind).or_default() += 1;
    }
    let open = report.number("/fds/open")?;
    let truth: u64 = types.values().sum();
    if open != truth {
        differences.push(format!("open: {open} reported, {truth} true"));
    }
    let said = report.at("/fds/by_type")?.as_object().context("`by_type` is an object")?;
    let said: BTreeMap<&str, u64> = said
        .iter()
        .map(|(kind, count)| (kind.as_str(), count.as_u64().unwrap_or(0)))
        .filter(|(_, count)| *count > 0)
        .collect();
    if said != types {
        differences.push(format!("by type: {said:?} reported, {types:?} true"));
    }
    if !expected.flows {
        return Ok(());
    }
    let opened = |one: &Account| -> u64 {
        let seen = CONNECTING.iter().filter(|name| !expected.unseen.contains(*name));
        seen.filter_map(|name| one.openers.get(*name)).sum()
    };
    let own: u64 = expected.accounts.iter().map(opened).sum();
    let said = report.number("/connections/opened")?;
    if said != own && expected.aside.is_empty() {
        differences.push(format!("connections: {said} reported, {own} true"));
    }
    for (name, of) in
        [("opened", (|one| one.opened) as fn(&Account) -> u64), ("closed", |one| one.closed)]
    {
        let said = report.number(&format!("/fds/{name}"))?;
        let own: u64 = expected.accounts.iter().map(of).sum();
        let all: u64 = own + expected.aside.iter().map(of).sum::<u64>();
        if said != own && said != all {
            let with = if own == all { String::new() } else { format!(" (or {all} with threads)") };
            differences.push(format!("{name}: {said} reported, {own} true{with}"));
        }
    }
    Ok(())
}

/// The outstanding sums of call sites equal the rows, function by function.
fn compare_sites(
    report: &Report,
    expected: &Expected<'_>,
    differences: &mut Vec<String>,
) -> Result<()> {
    let mut said: BTreeMap<&str, u64> = BTreeMap::new();
    for site in report.list("/sites")? {
        if !matches!(text(site, "kind"), Some("fd" | "socket")) {
            continue;
        }
        let marked = symbols(site).into_iter().find(|symbol| symbol.starts_with("by_"));
        let count = number(site, "outstanding_count")?;
        if let Some(name) = marked.filter(|_| count > 0) {
            *said.entry(name).or_default() += count;
        }
    }
    let truth = Account::by_function(expected.accounts);
    let names: BTreeSet<&str> = said.keys().chain(truth.keys()).copied().collect();
    for name in names {
        let [said, truth] = [&said, &truth].map(|counts| counts.get(name).copied().unwrap_or(0));
        let is_equal = said == truth || expected.frames != Frames::First && said < truth;
        if !is_equal
            && name != SUBMITS
            && !expected.unseen.contains(&name)
            && expected.aside.is_empty()
        {
            differences.push(format!("sites of {name}: {said} open reported, {truth} true"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn account() -> Account {
        Account::read(&json!({
            "pid": 7, "tid": 7, "held_before": 1,
            "fds": [
                {"fd": 0, "type": "device", "by": null},
                {"fd": 3, "type": "socket", "by": "by_accept4"},
                {"fd": 4, "type": "file", "by": "by_fopen"},
                {"fd": 5, "type": "device", "by": "elsewhere"},
            ],
            "opened": {"by_accept4": 2, "by_fopen": 1, "elsewhere": 1}, "closed": 1, "refused": [],
        }))
        .unwrap()
    }

    fn report() -> Value {
        let row = |fd: u64, kind: &str, site: Value| {
            let before = fd == 0;
            json!({"pid": 7, "fd": fd, "type": kind, "what": null, "site": site,
                "acquired_by": if before { Value::Null } else { json!("call") },
                "age_s": if before { Value::Null } else { json!(0.5) }, "pre_attach": before})
        };
        let site = |id: u64, kind: &str, of: &str, frames: &[&str]| {
            let frames: Vec<Value> = frames.iter().map(|name| json!({"symbol": name})).collect();
            json!({"id": id, "kind": kind, "fd_type": of, "frames": frames, "outstanding_count": 1})
        };
        json!({
            "accounting": {"lost": {}},
            "connections": {"opened": 2},
            "fds": {
                "open": 4, "opened": 4, "closed": 1, "limit": 8192, "seconds_to_limit": null,
                "by_type": {"device": 2, "socket": 1, "file": 1, "pipe": 0},
                "table": [row(0, "device", Value::Null), row(3, "socket", json!(11)),
                    row(4, "file", json!(12)), row(5, "device", Value::Null)],
            },
            "sites": [
                site(11, "socket", "socket", &["by_accept4", "main"]),
                site(12, "fd", "file", &["_IO_file_fopen", "by_fopen", "main"]),
            ],
        })
    }

    /// The differences of the sample report after `change` was applied to it.
    fn said_of(change: impl FnOnce(&mut Value)) -> String {
        let mut json = report();
        change(&mut json);
        let accounts = [account()];
        let expected = Expected {
            accounts: &accounts,
            aside: &[],
            flows: true,
            frames: Frames::First,
            unseen: UNSEEN,
        };
        let compared = compare(&Report::made_up(json), &expected);
        compared.map_or_else(|error| error.to_string(), |()| "equal".to_owned())
    }

    fn rows(json: &mut Value) -> &mut Vec<Value> {
        json["fds"]["table"].as_array_mut().unwrap()
    }

    #[test]
    fn an_equal_report_passes() {
        assert_eq!(said_of(|_| ()), "equal");
    }

    #[test]
    fn a_missing_row_is_named_with_its_type_and_function() {
        let said = said_of(|json| drop(rows(json).remove(1)));
        let line = "pid 7 fd 3: not reported, a socket (Function(\"by_accept4\"))";
        assert_eq!(said, format!("1 differences from the truth:\n{line}"));
    }

    #[test]
    fn an_extra_row_is_shown_and_a_duplicate_is_reported() {
        let said = said_of(|json| {
            let mut extra = rows(json)[2].clone();
            rows(json).push(extra.clone());
            extra["fd"] = json!(9);
            rows(json).push(extra);
        });
        assert!(said.contains("\npid 7 fd 4: reported twice\n"), "{said}");
        assert!(said.contains("\npid 7 fd 9: reported, but not open: {"), "{said}");
    }

    #[test]
    fn a_row_of_another_process_is_missing_here_and_too_many_there() {
        let said = said_of(|json| rows(json)[1]["pid"] = json!(8));
        assert!(said.contains("pid 8 fd 3: reported, but not open"), "{said}");
        assert!(said.contains("pid 7 fd 3: not reported"), "{said}");
    }

    #[test]
    fn a_wrong_type_is_named_with_the_right_one() {
        let said = said_of(|json| rows(json)[2]["type"] = json!("pipe"));
        assert!(said.contains("pid 7 fd 4: type pipe reported, file true"), "{said}");
        let said = said_of(|json| json["sites"][0]["fd_type"] = json!("pipe"));
        assert!(said.contains("fd 3: site 11 of (Some(\"socket\"), Some(\"pipe\"))"), "{said}");
    }

    #[test]
    fn another_function_is_shown_with_its_stack() {
        let said = said_of(|json| json["sites"][0]["frames"][0]["symbol"] = json!("helper"));
        assert!(said.contains("fd 3: by helper <- main reported, by_accept4 true"), "{said}");
        let said = said_of(|json| {
            json["sites"][0]["frames"]
                .as_array_mut()
                .unwrap()
                .insert(0, json!({"symbol": "accept4"}));
        });
        assert!(said.contains("by accept4 <- by_accept4"), "{said}");
    }

    #[test]
    fn a_missing_site_is_reported() {
        let said = said_of(|json| rows(json)[1]["site"] = Value::Null);
        assert!(said.contains("fd 3: no site, by_accept4 true"), "{said}");
        let said = said_of(|json| rows(json)[1]["site"] = json!(99));
        assert!(said.contains("fd 3: site 99 is not among the sites"), "{said}");
        let said = said_of(|json| json["sites"][1]["outstanding_count"] = json!(2));
        assert!(said.contains("sites of by_fopen: 2 open reported, 1 true"), "{said}");
    }

    #[test]
    fn only_descriptors_opened_while_traced_have_an_age() {
        let said = said_of(|json| rows(json)[0]["age_s"] = json!(3.0));
        assert!(said.contains("fd 0: open before, but with an age"), "{said}");
        let said = said_of(|json| rows(json)[3]["pre_attach"] = json!(true));
        assert!(said.contains("fd 5: pre_attach Some(true) reported, Elsewhere true"), "{said}");
        let said = said_of(|json| rows(json)[1]["age_s"] = Value::Null);
        assert!(said.contains("fd 3: no age"), "{said}");
    }

    #[test]
    fn sums_are_compared_by_number() {
        let said = said_of(|json| json["fds"]["opened"] = json!(5));
        assert!(said.contains("\nopened: 5 reported, 4 true"), "{said}");
        let said = said_of(|json| json["connections"]["opened"] = json!(3));
        assert!(said.contains("\nconnections: 3 reported, 2 true"), "{said}");
        let said = said_of(|json| json["fds"]["open"] = json!(3));
        assert!(said.contains("\nopen: 3 reported, 4 true"), "{said}");
        let said = said_of(|json| json["fds"]["by_type"]["pipe"] = json!(1));
        assert!(said.contains("\nby type: {"), "{said}");
        let said = said_of(|json| json["accounting"]["lost"] = json!({"ring full": 3}));
        assert!(said.contains("\nlost: {\"ring full\":3} reported, 0 threads"), "{said}");
    }

    #[test]
    fn flows_of_a_threads_own_table_may_be_among_the_sums() {
        let accounts = [account()];
        let expected = Expected {
            accounts: &accounts,
            aside: &accounts,
            flows: true,
            frames: Frames::First,
            unseen: UNSEEN,
        };
        for (opened, closed, equal) in [(4, 1, true), (8, 2, true), (6, 1, false)] {
            let mut json = report();
            json["fds"]["opened"] = json!(opened);
            json["fds"]["closed"] = json!(closed);
            json["accounting"]["lost"] = json!({"table_unshared": 1});
            let compared = compare(&Report::made_up(json), &expected);
            assert_eq!(compared.is_ok(), equal, "{compared:?}");
        }
    }

    #[test]
    fn a_broken_victim_is_an_error() {
        assert!(Account::read(&json!({"error": "3 is open, and not so in the account"})).is_err());
    }
}
