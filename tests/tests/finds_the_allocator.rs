//! leaktrace finds whichever allocator a process uses, names it in a sentence, and its report equals the program's own
//! account.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    Report, Service, Trace, Victim,
    allocators::{in_use, says, traced},
    compare::Named,
    compile::{archive, victim, victim_by, victim_with},
    mimalloc,
    service::free_port,
    target_dir, wait_until,
};

/// Threads, operations, seed: calls every function of the family some thousand times.
const SOME_WORK: [&str; 3] = ["4", "20000", "3"];
/// For allocators without `pvalloc`: their `free` must not get libc's block.
const NO_PVALLOC: &str = "-DNO_PVALLOC";
/// Forces the link: the program refers to no symbol of the allocator library.
const KEEP: &str = "-Wl,--no-as-needed";

/// The ground truth with a preloaded allocator.
fn preloaded(library: &str, flags: &[&str], start: &str) -> Result<()> {
    let program = victim_with("ground_truth", &format!("ground_truth_under_{library}"), flags)?;
    let mut command = Command::new(program);
    let (truth, report) =
        traced(Victim::start_command(command.args(SOME_WORK).env("LD_PRELOAD", library))?, &[])?;
    truth.equals(&report)?;
    says(&report, start)?;
    ensure!(in_use(&report)?.len() == 1, "libc's is not used: {:?}", in_use(&report)?);
    ensure_contains(&report, "preloaded; glibc's malloc is not used")
}

fn ensure_contains(report: &Report, part: &str) -> Result<()> {
    ensure!(in_use(report)?.iter().any(|one| one.contains(part)), "{:?}", in_use(report)?);
    Ok(())
}

/// The ground truth with a linked allocator.
fn linked(
    compiler: &str,
    product: &str,
    flags: &[&str],
    libraries: &[&str],
    start: &str,
) -> Result<()> {
    let program = victim_by(compiler, "ground_truth", product, flags, libraries)?;
    let victim = Victim::start_command(Command::new(program).args(SOME_WORK))?;
    let (truth, report) = traced(victim, &[])?;
    truth.equals(&report)?;
    says(&report, start)
}

#[test]
fn jemalloc_preloaded() -> Result<()> {
    preloaded("libjemalloc.so.2", &[NO_PVALLOC], "jemalloc 5.3.0")
}

#[test]
fn tcmalloc_preloaded() -> Result<()> {
    preloaded("libtcmalloc_minimal.so.4", &[], "tcmalloc 2.10")
}

#[test]
fn mimalloc_preloaded() -> Result<()> {
    preloaded("libmimalloc.so.2", &[], "mimalloc")
}

#[test]
fn jemalloc_linked() -> Result<()> {
    let flags = [NO_PVALLOC, KEEP];
    linked(
        "gcc",
        "truth_jemalloc",
        &flags,
        &["-ljemalloc"],
        "jemalloc 5.3.0 from libjemalloc.so.2;",
    )
}

#[test]
fn tcmalloc_linked() -> Result<()> {
    linked(
        "gcc",
        "truth_tcmalloc",
        &[KEEP],
        &["-ltcmalloc_minimal"],
        "tcmalloc 2.10 from libtcmalloc",
    )
}

#[test]
fn mimalloc_linked() -> Result<()> {
    linked("gcc", "truth_mimalloc", &[KEEP], &["-lmimalloc"], "mimalloc from libmimalloc.so.2")
}

#[test]
fn jemalloc_in_the_executable() -> Result<()> {
    let libraries = [&*archive("libjemalloc.a")?, "-lstdc++", "-lm"];
    let start = "jemalloc 5.3.0 in the executable truth_own_jemalloc";
    linked("gcc", "truth_own_jemalloc", &[NO_PVALLOC], &libraries, start)
}

#[test]
fn jemalloc_in_a_static_executable() -> Result<()> {
    let libraries = [&*archive("libjemalloc.a")?, "-lstdc++", "-lm"];
    let start = "jemalloc 5.3.0 in the executable truth_static_jemalloc";
    linked("gcc", "truth_static_jemalloc", &[NO_PVALLOC, "-static"], &libraries, start)
}

#[test]
fn tcmalloc_in_the_executable() -> Result<()> {
    let libraries = [&*archive("libtcmalloc_minimal.a")?, "-lstdc++", "-lm"];
    let start = "tcmalloc 2.10 in the executable truth_own_tcmalloc";
    linked("gcc", "truth_own_tcmalloc", &[], &libraries, start)
}

#[test]
fn tcmalloc_in_a_static_executable() -> Result<()> {
    let libraries = [&*archive("libtcmalloc_minimal.a")?, "-lstdc++", "-lm"];
    let start = "tcmalloc 2.10 in the executable truth_static_tcmalloc";
    linked("gcc", "truth_static_tcmalloc", &["-static"], &libraries, start)
}

/// Both generations of mimalloc, linked as an object file.
fn own_mimalloc(kind: &str, flags: &[&str]) -> Result<()> {
    for generation in ["v2", "v3"] {
        let product = format!("truth_{kind}_mimalloc_{generation}");
        let start = format!("mimalloc in the executable {product}");
        linked("gcc", &product, flags, &[&mimalloc::object(generation)?], &start)
            .context(product)?;
    }
    Ok(())
}

#[test]
fn mimalloc_in_the_executable() -> Result<()> {
    own_mimalloc("own", &[])
}

#[test]
fn mimalloc_in_a_static_executable() -> Result<()> {
    own_mimalloc("static", &["-static"])
}

#[test]
fn glibc_in_a_static_executable() -> Result<()> {
    linked("gcc", "truth_static", &["-static"], &[], "glibc in the executable truth_static")
}

#[test]
fn musl() -> Result<()> {
    linked("musl-gcc", "truth_musl", &[], &[], "musl from ")
}

#[test]
fn musl_in_a_static_executable() -> Result<()> {
    let start = "musl in the executable truth_static_musl";
    linked("musl-gcc", "truth_static_musl", &["-static"], &[], start)
}

/// A program that never frees, with musl: whole stacks, although musl has no unwind tables.
fn never_frees(product: &str, flags: &[&str], start: &str) -> Result<()> {
    let program = victim_by("musl-gcc", "never_frees", product, flags, &[])?;
    let victim = Victim::start_command(&mut Command::new(program))?;
    let (truth, report) = traced(victim, &[])?;
    // One of the two sites is a function of musl, called by the program.
    truth.compare(&report, Named::ByAnyFrame, &["heap"], true)?;
    says(&report, start)?;
    for site in report.list("/sites")? {
        let symbols = tests::report::symbols(site);
        ensure!(symbols.contains(&"main"), "{symbols:?}");
        ensure!(site["truncated"] == false, "{symbols:?}: {}", site["truncated_why"]);
    }
    Ok(())
}

#[test]
fn musl_in_a_static_executable_without_free() -> Result<()> {
    let start =
        "musl in the executable never_frees_static (which has no free: nothing is ever released)";
    never_frees("never_frees_static", &["-static"], start)
}

#[test]
fn stacks_through_musl_are_whole() -> Result<()> {
    never_frees("never_frees_musl", &[], "musl from ")
}

/// jemalloc as Rust programs contain it: prefixed names, made with objcopy from Debian's library.
fn prefixed_jemalloc() -> Result<String> {
    let folder = target_dir().join("victims");
    fs::create_dir_all(&folder)?;
    let product = folder.join("librjem.a").to_string_lossy().into_owned();
    let names = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "mallocx",
        "rallocx",
        "xallocx",
        "sallocx",
        "dallocx",
        "sdallocx",
        "nallocx",
        "mallctl",
        "malloc_usable_size",
    ];
    let renamed = names.map(|name| format!("--redefine-sym={name}=_rjem_{name}"));
    let done = Command::new("objcopy")
        .args(renamed)
        .args([&archive("libjemalloc.a")?, &product])
        .status()
        .context("could not run `objcopy`")?;
    ensure!(done.success(), "objcopy ended with {done}");
    Ok(product)
}

#[test]
fn two_allocators_at_once() -> Result<()> {
    let libraries = [&*prefixed_jemalloc()?, "-lm"];
    let program = victim_by("gcc", "two_allocators", "two_allocators", &[], &libraries)?;
    let (truth, report) = traced(Victim::start_command(&mut Command::new(program))?, &[])?;
    truth.equals(&report)?;
    let said = in_use(&report)?;
    ensure!(said.len() == 2 && said[1].starts_with("glibc 2."), "{said:?}");
    says(&report, "jemalloc 5.3.0 in the executable two_allocators, as _rjem_malloc")
}

#[test]
fn a_plugin_that_is_loaded_later_with_two_allocators_of_its_own() -> Result<()> {
    let shared = ["-shared", "-fPIC"];
    let plugin = victim_with("plugin", "plugin.so", &shared)?;
    let mut victim = Victim::start_command(Command::new(self::victim("plugin_host")?).arg(plugin))?;
    let mut trace = Trace::attach(victim.pid(), &["--allocator-prefix", "mine_"])?;
    victim.go()?;
    ensure!(victim.line()? == "loaded");
    let said = trace.wait_until_it_says("leaktrace: process")?;
    ensure!(said.contains("plugin.so"), "{said}");
    victim.send("work")?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    truth.equals(&report)?;
    ensure_contains(&report, "from plugin.so, loaded later")
}

#[test]
fn a_redis_server_under_load() -> Result<()> {
    let port = free_port()?;
    let text = port.to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let server = Service::start(&mut command, port)?;
    let trace = Trace::attach(server.pid(), &["--top", "50"])?;
    let load = Command::new("redis-benchmark")
        .args(["-p", &text, "-n", "5000", "-c", "8", "-r", "1000", "-q", "-t", "set,lpush,get"])
        .stdout(Stdio::null())
        .status()?;
    ensure!(load.success(), "redis-benchmark ended with {load}");
    let report = trace.stop()?;
    says(&report, "jemalloc")?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let total = report.total("heap")?;
    ensure!(total.acquired_count > 10_000, "{total:?}");
    let by_jemalloc = |probe: &&serde_json::Value| {
        probe["object"].as_str().is_some_and(|path| path.contains("jemalloc"))
    };
    let probes = report.list("/probes")?.iter().filter(by_jemalloc);
    let hits: u64 = probes.filter_map(|probe| probe["hits"].as_u64()).sum();
    ensure!(hits > 10_000, "{hits} hits");
    // A traced server still answers.
    wait_until("redis answers", Duration::from_secs(10), || {
        let ping = Command::new("redis-cli").args(["-p", &text, "ping"]).output()?;
        Ok(ping.stdout.starts_with(b"PONG"))
    })
}
