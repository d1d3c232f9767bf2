//! leaktrace on the kernels of Debian 12 in a virtual machine each: their verifiers take every program, and
//! the figures are as equal to the truth as on the kernel of the host.

use anyhow::{Context as _, Result, ensure};
use tests::{
    Report, Truth,
    compare::Named,
    family,
    vm::{self, Left, Played, Scene},
};

/// Of 1,000 acquisitions, those whose stack must reach the thread's bottom.
const WHOLE_OF_1000: u64 = 995;

const SCENES: [Scene<'static>; 5] = [
    Scene::Doctor { name: "host" },
    Scene::Trace {
        name: "every_function",
        options: "",
        victim: &["ground_truth", "2", "5000"],
        lines: 1,
    },
    Scene::Trace {
        name: "children",
        options: "--children",
        victim: &["family", "halves", "500"],
        lines: 2,
    },
    Scene::Trace { name: "filtered", options: "", victim: &["filtered", "1000"], lines: 1 },
    Scene::Trace { name: "light", options: "--light -i 250ms", victim: &["touches"], lines: 1 },
];

/// What return probes do to a process with a seccomp filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returns {
    /// Nothing.
    Safe,
    /// They may end it: none are used there, nor with `--children`.
    Harmful,
}

#[test]
fn everything_holds_on_linux_6_1() -> Result<()> {
    holds("6.1", Returns::Safe)
}

#[test]
fn everything_holds_on_linux_6_12() -> Result<()> {
    holds("6.12", Returns::Harmful)
}

/// Boots once, and says all that does not hold.
fn holds(series: &str, returns: Returns) -> Result<()> {
    if !vm::wanted() {
        return Ok(());
    }
    let played = vm::play(series, &SCENES)?;
    let checks = [
        ("the doctor knows the host", doctor(&played, returns)),
        ("every function equals the truth, stacks are whole", every_function(&played)),
        ("children", children(&played, returns)),
        ("a target with a seccomp filter lives", with_filter(&played, returns)),
        ("growth by touched pages, without a probe", light(&played)),
    ];
    let mut faults = Vec::new();
    for (what, outcome) in checks {
        match outcome {
            Ok(detail) => tell(&format!("{}: {what}: ok, {detail}", played.release)),
            Err(error) => faults.push(format!("{what}: {error:#}")),
        }
    }
    ensure!(faults.is_empty(), "on {}:\n{}", played.release, faults.join("\n"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what was seen on a kernel that nobody has before them")]
fn tell(line: &str) {
    println!("{line}");
}

fn doctor(played: &Played, returns: Returns) -> Result<String> {
    let (text, status) = played.of("host")?.doctor()?;
    ensure!(status == 0 && text.contains("\ntracing will work"), "status {status}:\n{text}");
    let return_probes = match returns {
        Returns::Harmful => "warn",
        Returns::Safe => "ok",
    };
    let kernel = format!("{} (5.15 is enough)", played.release);
    for (what, mark, detail) in [
        ("kernel", "ok", kernel.as_str()),
        ("rights", "ok", "root with CAP_BPF and CAP_PERFMON"),
        ("uprobes", "ok", ""),
        ("BTF", "ok", ""),
        ("kprobes", "ok", "available"),
        ("tracefs", "ok", "mounted"),
        ("process ids", "ok", "those of the host"),
        ("return probes", return_probes, ""),
    ] {
        let told = text.lines().any(|line| {
            let rest = line.trim_start().strip_prefix(mark).unwrap_or_default().trim_start();
            rest.strip_prefix(what).is_some_and(|rest| rest.trim_start().starts_with(detail))
        });
        ensure!(told, "no line `{mark} {what} {detail}`:\n{text}");
    }
    Ok(kernel)
}

/// The victim's truth, after an end without a signal.
fn truth(left: &Left) -> Result<Truth> {
    let (status, lines) = (left.victim_status()?, left.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    Truth::parse(lines.first().context("the victim said nothing")?)
}

fn equal(left: &Left) -> Result<Report> {
    let report = left.report()?;
    truth(left)?.equals(&report)?;
    Ok(report)
}

fn every_function(played: &Played) -> Result<String> {
    let report = equal(&played.of("every_function")?)?;
    let acquired = report.total("heap")?.acquired_count + report.total("mmap")?.acquired_count;
    let cut = report.number("/accounting/truncated_stacks")?;
    let reasons = report.at("/accounting/truncated_by")?;
    ensure!(
        acquired > 0 && (acquired - cut) * 1000 >= acquired * WHOLE_OF_1000,
        "{cut} of {acquired} stacks are cut: {reasons}"
    );
    Ok(format!("{acquired} acquisitions, {cut} stacks cut, {reasons}"))
}

/// Whether the report's probes are as this kernel wants them: read at their return instructions, or not.
fn probed(report: &Report, returns: Returns) -> Result<()> {
    let at_returns = report.list("/probes")?.iter().any(|probe| {
        let why = probe.get("why").and_then(serde_json::Value::as_str).unwrap_or_default();
        why.contains("return instructions")
    });
    ensure!(
        at_returns == (returns == Returns::Harmful),
        "read at return instructions: {at_returns}"
    );
    Ok(())
}

fn children(played: &Played, returns: Returns) -> Result<String> {
    let left = played.of("children")?;
    ensure!(left.victim_status()? == 0, "the victim ended with {}", left.victim_status()?);
    let report = left.report()?;
    let lines = left.victim_lines()?;
    let truths =
        lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<_>, _>>()?;
    ensure!(truths.len() == 2, "{lines:?}");
    probed(&report, returns)?;
    family::compare(&report, &truths, &family::OWN)?;
    let [(root, _), (_, parent)] = family::targets(&report)?[..] else {
        anyhow::bail!("not two targets: {:?}", report.list("/targets")?);
    };
    ensure!(parent == Some(root), "the child's parent is {parent:?}, not {root}");
    Ok(format!("two members equal, {} events", report.number("/accounting/events")?))
}

fn with_filter(played: &Played, returns: Returns) -> Result<String> {
    let left = played.of("filtered")?;
    // Whatever leaktrace did: the target has done all its work.
    let kept = truth(&left)?.site("keep")?.acquired_count;
    ensure!(kept == 1000, "{kept} blocks kept");
    let (text, status) = left.doctor()?;
    ensure!(status == 0 && text.contains("seccomp"), "status {status}:\n{text}");
    probed(&equal(&left)?, returns)?;
    Ok("traced, equal".to_owned())
}

/// Every page that the victim touched and still has, by the stack that touched it.
fn light(played: &Played) -> Result<String> {
    let left = played.of("light")?;
    let report = left.report()?;
    truth(&left)?.compare(&report, Named::ByAnyFrame, &[], false)?;
    ensure!(report.list("/probes")?.is_empty(), "no probe");
    let pages = report.total("pages")?;
    let level = report.at("/light/processes/0/anonymous/change")?;
    Ok(format!(
        "{} touches, {} B outstanding, {level} B grown",
        pages.acquired_count, pages.outstanding_bytes
    ))
}
