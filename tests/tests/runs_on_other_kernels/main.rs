//! leaktrace on Debian's kernels, each in a virtual machine: every verifier accepts all programs, and the figures equal
//! the truth as they do on the host's kernel.

mod both_ways;

use anyhow::{Context as _, Result, bail, ensure};
use tests::{
    Report, Truth,
    compare::Named,
    family,
    leaks::Played,
    vm::{self, Action, Case, Guest, Results},
};

use crate::both_ways::{CONNECTIONS, DESCRIPTORS, both_backends};

/// Of 1,000 acquisitions, the number whose stack must reach the bottom of the thread's stack.
const WHOLE_OF_1000: u64 = 995;

/// A case for leaktrace on a victim.
fn case(
    name: &str,
    what: &str,
    (victim, lines): (&[&'static str], usize),
    options: &str,
    check: impl Fn(&Results, &Guest) -> Result<String> + 'static,
) -> Case {
    let action = Action::Trace { victim: victim.to_vec(), lines, options: options.to_owned() };
    Case { name: name.to_owned(), what: what.to_owned(), action, check: Box::new(check) }
}

fn cases() -> Vec<Case> {
    let doctor = Case {
        name: "host".to_owned(),
        what: "the doctor knows the host".to_owned(),
        action: Action::Doctor,
        check: Box::new(doctor),
    };
    vec![
        doctor,
        case(
            "every_function",
            "every function equals the truth, stacks are whole",
            (&["ground_truth", "2", "5000"], 1),
            "",
            every_function,
        ),
        case("children", "children", (&["family", "halves", "500"], 2), "--children", children),
        case(
            "filtered",
            "a target with a seccomp filter lives",
            (&["filtered", "1000"], 1),
            "",
            with_filter,
        ),
        case(
            "light",
            "growth by touched pages, without a probe",
            (&["touches"], 1),
            "--light -i 250ms",
            light,
        ),
        case(
            "objects",
            "objects of a library",
            (&["leaks_libevent", "bufferevent_not_freed_on_error", "leak", "200"], 1),
            "--kind heap,object",
            objects,
        ),
        case(
            "objects_that_are_gone",
            "objects that are gone",
            (&["leaks_libevent", "assigned_event_not_removed", "corrected", "200"], 1),
            "--kind heap,object",
            objects,
        ),
    ]
}

/// The effect of return probes on a process with a seccomp filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returns {
    /// Nothing.
    Safe,
    /// They may kill it: leaktrace uses none there, nor with `--children`.
    Harmful,
}

/// The effect on a guest's kernel.
fn returns(guest: &Guest) -> Returns {
    if ((6, 11)..=(6, 13)).contains(&guest.version) { Returns::Harmful } else { Returns::Safe }
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 5.10"]
fn everything_holds_on_linux_5_10() -> Result<()> {
    vm::check_all("5.10", "everything", &cases())
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 5.10"]
fn descriptors_hold_on_linux_5_10() -> Result<()> {
    vm::check_all("5.10", "descriptors", &both_backends(&DESCRIPTORS))
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 5.10"]
fn connections_hold_on_linux_5_10() -> Result<()> {
    vm::check_all("5.10", "connections", &both_backends(&CONNECTIONS))
}

#[test]
fn everything_holds_on_linux_6_1() -> Result<()> {
    vm::check_all("6.1", "everything", &cases())
}

#[test]
fn descriptors_hold_on_linux_6_1() -> Result<()> {
    vm::check_all("6.1", "descriptors", &both_backends(&DESCRIPTORS))
}

#[test]
fn connections_hold_on_linux_6_1() -> Result<()> {
    vm::check_all("6.1", "connections", &both_backends(&CONNECTIONS))
}

#[test]
fn everything_holds_on_linux_6_12() -> Result<()> {
    vm::check_all("6.12", "everything", &cases())
}

#[test]
fn descriptors_hold_on_linux_6_12() -> Result<()> {
    vm::check_all("6.12", "descriptors", &both_backends(&DESCRIPTORS))
}

#[test]
fn connections_hold_on_linux_6_12() -> Result<()> {
    vm::check_all("6.12", "connections", &both_backends(&CONNECTIONS))
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 7.2"]
fn everything_holds_on_linux_7_2() -> Result<()> {
    vm::check_all("7.2", "everything", &cases())
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 7.2"]
fn descriptors_hold_on_linux_7_2() -> Result<()> {
    vm::check_all("7.2", "descriptors", &both_backends(&DESCRIPTORS))
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 7.2"]
fn connections_hold_on_linux_7_2() -> Result<()> {
    vm::check_all("7.2", "connections", &both_backends(&CONNECTIONS))
}

fn doctor(results: &Results, guest: &Guest) -> Result<String> {
    let (text, status) = results.doctor()?;
    ensure!(status == 0 && text.contains("tracing will work\n"), "status {status}:\n{text}");
    let return_probes = match returns(guest) {
        Returns::Harmful => "warn",
        Returns::Safe => "ok",
    };
    let kernel = format!("{} (5.10 or newer required)", guest.release);
    for (what, mark, detail) in [
        ("kernel", "ok", kernel.as_str()),
        ("privileges", "ok", "root with CAP_BPF and CAP_PERFMON"),
        ("uprobes", "ok", ""),
        ("BTF", "ok", ""),
        ("kprobes", "ok", "available"),
        ("tracefs", "ok", "mounted"),
        ("process ids", "ok", "those of the host"),
        ("return probes", return_probes, ""),
    ] {
        let found = text.lines().any(|line| {
            let rest = line.trim_start().strip_prefix(mark).unwrap_or_default().trim_start();
            rest.strip_prefix(what).is_some_and(|rest| rest.trim_start().starts_with(detail))
        });
        ensure!(found, "no line `{mark} {what} {detail}`:\n{text}");
    }
    Ok(kernel)
}

/// The victim's truth, after an end without a signal.
fn truth(results: &Results) -> Result<Truth> {
    let (status, lines) = (results.victim_status()?, results.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    Truth::parse(lines.first().context("the victim said nothing")?)
}

fn equal(results: &Results) -> Result<Report> {
    let report = results.report()?;
    truth(results)?.equals(&report)?;
    Ok(report)
}

fn every_function(results: &Results, _: &Guest) -> Result<String> {
    let report = equal(results)?;
    let acquired = report.total("heap")?.acquired_count + report.total("mmap")?.acquired_count;
    let cut = report.number("/accounting/truncated_stacks")?;
    let reasons = report.at("/accounting/truncated_by")?;
    ensure!(
        acquired > 0 && (acquired - cut) * 1000 >= acquired * WHOLE_OF_1000,
        "{cut} of {acquired} stacks are cut: {reasons}"
    );
    Ok(format!("{acquired} acquisitions, {cut} stacks cut, {reasons}"))
}

/// Checks that leaktrace probes return instructions exactly on the kernels that need it.
fn probed(report: &Report, returns: Returns) -> Result<()> {
    let at_returns = report.list("/probes")?.iter().any(|probe| {
        // Joins are read there on every kernel.
        let text = |key| probe.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let is_join = text("function").contains("join");
        !is_join && text("why").contains("return instructions")
    });
    ensure!(
        at_returns == (returns == Returns::Harmful),
        "read at return instructions: {at_returns}"
    );
    Ok(())
}

fn children(results: &Results, guest: &Guest) -> Result<String> {
    ensure!(results.victim_status()? == 0, "the victim ended with {}", results.victim_status()?);
    let report = results.report()?;
    let lines = results.victim_lines()?;
    let truths =
        lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<_>, _>>()?;
    ensure!(truths.len() == 2, "{lines:?}");
    probed(&report, returns(guest))?;
    family::compare(&report, &truths, &family::OWN)?;
    let [(root, _), (_, parent)] = family::targets(&report)?[..] else {
        bail!("not two targets: {:?}", report.list("/targets")?);
    };
    ensure!(parent == Some(root), "the child's parent is {parent:?}, not {root}");
    Ok(format!("two members equal, {} events", report.number("/accounting/events")?))
}

fn with_filter(results: &Results, guest: &Guest) -> Result<String> {
    // Independent of tracing, the target has done all its work.
    let kept = truth(results)?.site("keep")?.acquired_count;
    ensure!(kept == 1000, "{kept} blocks kept");
    let (text, status) = results.doctor()?;
    ensure!(status == 0 && text.contains("seccomp"), "status {status}:\n{text}");
    probed(&equal(results)?, returns(guest))?;
    Ok("traced, equal".to_owned())
}

/// The report has as many objects of each kind created and destroyed as the victim.
fn objects(results: &Results, _: &Guest) -> Result<String> {
    let report = results.report()?;
    let (status, lines) = (results.victim_status()?, results.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    let played = Played::parse(&serde_json::from_str(lines.first().context("no truth")?)?)?;
    ensure!(played.objects.contains_key(&played.case.kind), "{played:?}");
    for (kind, objects) in &played.objects {
        let found = report.total(kind)?;
        let found = [found.acquired_count, found.released_count, found.outstanding_count];
        let truth = [objects.created, objects.destroyed, objects.live()];
        ensure!(found == truth, "{kind}: {found:?} reported, {truth:?} are true");
    }
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    Ok(format!("{:?}", played.objects))
}

/// Every page that the victim touched and still has, by the stack that touched it last.
fn light(results: &Results, _: &Guest) -> Result<String> {
    let report = results.report()?;
    truth(results)?.compare(&report, Named::ByAnyFrame, &[], false)?;
    ensure!(report.list("/probes")?.is_empty(), "no probe");
    let pages = report.total("pages")?;
    let level = report.at("/light/processes/0/anonymous/change")?;
    Ok(format!(
        "{} touches, {} B outstanding, {level} B grown",
        pages.acquired_count, pages.outstanding_bytes
    ))
}
