//! Parts of a pack that are limited to some versions of a library (`only_if`) apply to those only: identified by the
//! symbols that the file defines, and by its build id.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result, bail, ensure};
use object::Object as _;
use tests::{
    Report, Trace, Victim,
    leaks::{self, Played},
    scratch,
};

/// Number of objects that the program leaks.
const LEAKED: u64 = 20;

/// The build id of the libevent that a process has mapped.
fn build_id(pid: u32) -> Result<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let path = maps.lines().find_map(|line| {
        let path = line.split_whitespace().nth(5)?;
        path.contains("/libevent").then_some(path)
    });
    let bytes = fs::read(path.context("no libevent")?)?;
    let id = object::File::parse(bytes.as_slice())?.build_id()?.context("no build id")?.to_vec();
    Ok(id.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A pack that gives libevent's buffers other names than the built-in pack if `only_if` holds, and reads their
/// references if `fields_if` holds.
fn pack(only_if: &str, fields_if: &str) -> String {
    format!(
        r#"
name = "mine"
title = "libevent"
marks = ["event_base_new_with_config", "event_assign"]
only_if = {only_if}

[[kind]]
name = "buffer_of_another_version"
sentence = "is not there"
created_by = [{{ function = "evbuffer_new", only_if = {{ defines = ["evbuffer_new", "evbuffer_new_2"] }} }}]

[[kind]]
name = "buffer"
sentence = "queued bytes"
created_by = [{{ function = "evbuffer_new", only_if = {{ defines = ["evbuffer_new"], lacks = ["evbuffer_new_2"] }} }}]
layouts = [{{ size = 136, references = {{ offset = 72, bytes = 4 }}, only_if = {fields_if} }}]
"#
    )
}

/// The report of a run with this pack.
fn traced(victim: &mut Victim, text: &str) -> Result<Report> {
    let path = scratch("versions.toml")?;
    fs::write(&path, text)?;
    let pack = path.display().to_string();
    let options = ["--kind", "heap,object", "--no-packs", "--pack", &pack];
    let trace = Trace::attach(victim.pid(), &options)?;
    let played = Played::by(victim)?;
    ensure!(played.leaking().live() == LEAKED, "{played:?}");
    let report = trace.stop()?;
    victim.exit()?;
    Ok(report)
}

fn leaking() -> Result<Victim> {
    let case = ["evbuffer_not_freed", "leak", &LEAKED.to_string()];
    Victim::start_program(&leaks::program("libevent")?, &case)
}

#[test]
fn by_functions_and_build_ids() -> Result<()> {
    for is_right in [true, false] {
        let mut victim = leaking()?;
        let id = build_id(victim.pid())?;
        let other = id.chars().rev().collect::<String>();
        let id = if is_right { id.get(..12).context("a long one")? } else { &other };
        let fields_if = format!("{{ build_id = [\"0123456789abcdef\", \"{id}\"] }}");
        let text = pack("{ lacks = [\"evbuffer_new_2\"] }", &fields_if);
        let report = traced(&mut victim, &text)?;
        let warned = report.list("/warnings")?;
        ensure!(warned.is_empty(), "{warned:?}");
        let found = report.total("buffer")?.outstanding_count;
        ensure!(found == LEAKED, "{found}: {}", report.summary());
        let table = report.list("/objects/table")?;
        let one = if is_right { Some(1) } else { None };
        for object in table {
            let said = object.get("references").context("no `references`")?.as_u64();
            ensure!(object.get("kind").is_some_and(|kind| kind == "buffer"), "{object}");
            ensure!(said == one, "{is_right}: {object}");
        }
        ensure!(table.len() as u64 == LEAKED, "{table:?}");
    }
    Ok(())
}

#[test]
fn a_part_whose_condition_fails_has_no_effect() -> Result<()> {
    let mut victim = leaking()?;
    let text = pack("{ lacks = [\"evbuffer_new\"] }", "{ defines = [\"evbuffer_new\"] }");
    let report = traced(&mut victim, &text)?;
    ensure!(report.list("/objects/kinds")?.is_empty(), "{}", report.summary());
    let [line] = report.list("/warnings")? else { bail!("{}", report.summary()) };
    let line = line.as_str().context("a text")?;
    ensure!(line.ends_with("its marks, or none fits its `only_if`"), "{line}");
    Ok(())
}
