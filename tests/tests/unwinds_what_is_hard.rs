//! Stacks through code that is hard to unwind equal the program's own account; where they cannot be complete, the
//! report says so.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Report, Trace, Victim, compile, report::Amounts};

/// A call site, reduced to what this test compares.
#[derive(Debug)]
struct Stack {
    /// The program's own functions, innermost first.
    names: Vec<String>,
    /// Their addresses.
    addresses: Vec<String>,
    /// Number of frames.
    depth: usize,
    /// Why the stack is truncated.
    cut: Option<String>,
    /// Number of calls.
    calls: u64,
}

/// The program's stacks by the allocating function. Library frames are only counted: their names depend on the
/// installed symbols.
fn stacks(report: &Report, program: &str) -> Result<BTreeMap<String, Vec<Stack>>> {
    let mut all: BTreeMap<String, Vec<Stack>> = BTreeMap::new();
    for site in report.list("/sites")? {
        let frames = site.get("frames").and_then(Value::as_array).context("frames")?;
        let text = |frame: &Value, key| frame.get(key).and_then(Value::as_str).map(str::to_owned);
        let mut own = frames
            .iter()
            .filter(|frame| text(frame, "module").is_some_and(|module| module.ends_with(program)))
            .map(|frame| {
                let text = |key| text(frame, key).unwrap_or_default();
                (text("symbol"), text("address"))
            });
        let Some((leaf, _)) = own.next() else { continue };
        let (names, addresses) = own.unzip();
        let cut = text(site, "truncated_why");
        let calls = Amounts::read(site)?.acquired_count;
        all.entry(leaf).or_default().push(Stack {
            names,
            addresses,
            depth: frames.len(),
            cut,
            calls,
        });
    }
    Ok(all)
}

#[test]
fn signals_strange_frames_and_other_stacks() -> Result<()> {
    let flags = ["-fomit-frame-pointer", "-no-pie", "-Wl,-z,lazy"];
    let program = compile::victim_with("unwind", "unwind", &flags)?;
    let mut victim = Victim::start_program(&program, &[])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let stacks = stacks(&report, "/unwind")?;
    let of = |leaf: &str| stacks.get(leaf).with_context(|| format!("no stack of {leaf}"));
    let known = truth.get("stacks").and_then(Value::as_object).context("stacks")?;
    for (leaf, names) in known {
        let expected: Vec<&str> =
            names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for stack in of(leaf)? {
            ensure!(
                stack.names == expected && stack.cut.is_none(),
                "{leaf}: {expected:?} is true, {stack:#?} reported"
            );
        }
    }
    // Single steps: each instruction yields a different stack.
    let steps = of("leaf_step")?;
    for stack in steps {
        let names: Vec<&str> = stack.names.iter().map(String::as_str).collect();
        // Between the functions at most the program's PLT, which has no symbol.
        let right = matches!(
            names.as_slice(),
            ["on_step", "step_through", "main", "_start"]
                | ["on_step", _, "step_through", "main", "_start"]
        );
        ensure!(right && stack.cut.is_none(), "leaf_step: {stack:#?}");
    }
    let calls: u64 = steps.iter().map(|stack| stack.calls).sum();
    println!("{calls} single steps, {} different stacks", steps.len());
    ensure!(steps.len() > 100, "{} different stacks of single steps", steps.len());

    let [deep] = of("leaf_recursion")?.as_slice() else { anyhow::bail!("one stack") };
    ensure!(
        deep.depth == 127
            && deep.cut.as_deref() == Some("deeper than 127 frames")
            && deep.names.iter().all(|name| name == "recursion"),
        "{deep:#?}"
    );
    // The address of the interrupted function is its first instruction: a lookup of the address before it, as for
    // calls, would find another function.
    let [interrupted] = of("leaf_interrupted")?.as_slice() else { anyhow::bail!("one stack") };
    let callers = interrupted.names.iter().map(String::as_str).collect::<Vec<_>>();
    ensure!(
        callers == ["on_fault", "first_faults", "fault", "main", "_start"]
            && interrupted.cut.is_none()
            && interrupted.addresses.get(1).map(String::as_str)
                == truth.get("first_faults").and_then(Value::as_str),
        "{interrupted:#?}"
    );
    // The first function of a coroutine returns into glibc's `__start_context`, whose unwind information does not mark
    // it as outermost: the data after it is no code.
    let [coroutine] = of("leaf_coroutine")?.as_slice() else { anyhow::bail!("one stack") };
    ensure!(coroutine.names == ["coroutine_main"] && coroutine.cut.is_some(), "{coroutine:#?}");
    let [lost] = of("leaf_lost")?.as_slice() else { anyhow::bail!("one stack") };
    ensure!(
        lost.names == ["calls_without_table"]
            && lost.cut.as_deref() == Some("code without unwind table or frame pointers"),
        "{lost:#?}"
    );
    Ok(())
}
