//! The victims' own accounts, checked by a witness that counts at the allocator. Needs neither root nor leaktrace.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use tests::{
    Victim,
    compile::{objects_witness, victim_with},
    descriptors::{Account, By, ONE_TYPE},
    leaks::{self, Played, Witnessed},
    scratch,
};

/// Outstanding blocks, their bytes, and releases of unknown blocks, as counted by the witness.
fn witnessed(name: &str, arguments: &[&str]) -> Result<()> {
    let note = scratch(&format!("witness-{name}"))?;
    let mut victim = Victim::start_witnessed(name, arguments, &note)?;
    victim.go()?;
    let truth = victim.truth()?;
    let text = fs::read_to_string(&note)?;
    let seen: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let sum = truth.sum("heap");
    let unknown = truth.number("unknown_frees").unwrap_or(0);
    assert_eq!(seen, [sum.outstanding_count, sum.outstanding_bytes, unknown], "{name}");
    victim.exit()
}

#[test]
fn ground_truth_with_eight_threads() -> Result<()> {
    witnessed("ground_truth", &["8", "100000"])
}

#[test]
fn ground_truth_with_one_thread() -> Result<()> {
    witnessed("ground_truth", &["1", "100000", "7"])
}

#[test]
fn failing() -> Result<()> {
    witnessed("failing", &[])
}

#[test]
fn pre_attach() -> Result<()> {
    witnessed("pre_attach", &[])
}

#[test]
fn filtered() -> Result<()> {
    witnessed("filtered", &[])
}

#[test]
fn cxx() -> Result<()> {
    witnessed("cxx", &[])
}

#[test]
fn maps_hold_big_blocks_on_the_heap() -> Result<()> {
    witnessed("maps", &[])
}

#[test]
fn steady_leak_caches_and_churn() -> Result<()> {
    witnessed("steady_leak", &["200", "1"])?;
    witnessed("growing_cache", &["500", "1"])?;
    witnessed("filled_cache", &["500", "100", "100"])?;
    witnessed("churn", &["2", "100000"])
}

/// Bytes of a process's mapped address space.
fn mapped_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib: u64 = line.and_then(|text| text.split_whitespace().next()).unwrap_or("").parse()?;
    Ok(kib * 1024)
}

#[test]
fn maps_knows_how_much_it_maps() -> Result<()> {
    const PAGE: u64 = 4096;
    let mut victim = Victim::start("maps", &[])?;
    let before = mapped_bytes(victim.pid())?;
    victim.go()?;
    let truth = victim.truth()?;
    let grown = mapped_bytes(victim.pid())? - before;
    // A big block has a page for its header.
    let big = truth.site("big_malloc")?;
    let blocks = (big.outstanding_bytes / big.outstanding_count / PAGE + 1) * PAGE;
    assert_eq!(grown, truth.sum("mmap").outstanding_bytes + blocks * big.outstanding_count);
    victim.exit()
}

/// Bytes of a process's mappings whose lines in `/proc/PID/maps` end so.
fn mapped_from(pid: u32, what: &str) -> Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut sum = 0;
    for line in maps.lines().filter(|line| line.ends_with(what)) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let (start, end) = range.with_context(|| format!("no range: {line}"))?;
        sum += u64::from_str_radix(end, 16)? - u64::from_str_radix(start, 16)?;
    }
    Ok(sum)
}

#[test]
fn segments_are_in_the_memory_map() -> Result<()> {
    const PAGE: u64 = 4096;
    let file = tests::scratch("segments-witness")?;
    fs::write(&file, vec![1; 1 << 20])?;
    let mut victim = Victim::start("segments", &["4", &file.to_string_lossy()])?;
    victim.go()?;
    let truth = victim.truth()?;
    let site = |name| truth.site(name);
    // Lengths of 3 to 4 pages, and of 1 to 2.
    let files = 4 * site("map_shared_file")?.outstanding_count
        + 4 * site("map_private_file")?.outstanding_count
        + 2 * site("load_into")?.outstanding_count
        + 2 * site("grow_file")?.outstanding_count;
    assert_eq!(mapped_from(victim.pid(), &file.to_string_lossy())?, files * PAGE);
    let segments = 4 * site("map_memory_file")?.outstanding_count;
    assert_eq!(mapped_from(victim.pid(), "/memfd:segment (deleted)")?, segments * PAGE);
    let shared = site("map_shared_memory")?.outstanding_bytes;
    assert_eq!(mapped_from(victim.pid(), "/dev/zero (deleted)")?, shared);
    victim.exit()
}

#[test]
fn hoard() -> Result<()> {
    witnessed("hoard", &["300", "10000"])
}

/// The tables of each case of `descriptors` equal those in `/proc`, linked dynamically and statically.
fn tables(arguments: &[&str], lines: usize) -> Result<Vec<Account>> {
    let mut accounts = Vec::new();
    for (product, flags) in [("descriptors", &[][..]), ("descriptors_static", &["-static"])] {
        let program = victim_with("descriptors", product, flags)?;
        let mut victim = Victim::start_program(&program, arguments)?;
        victim.go()?;
        accounts = Account::read_all(&victim, lines)?;
        for account in &accounts {
            account.equals_proc()?;
        }
        victim.exit()?;
    }
    Ok(accounts)
}

#[test]
fn descriptors_opens_and_closes_in_every_way() -> Result<()> {
    let account = tables(&["every", "9"], 1)?.remove(0);
    for (function, kind) in ONE_TYPE {
        let by = By::Function(function.to_owned());
        let mut rows = account.rows.values().filter(|row| row.by == by).peekable();
        let refused =
            account.refused.iter().any(|refusal| refusal.starts_with(&format!("{function}:")));
        assert_eq!(rows.peek().is_none(), refused, "{function} is kept or refused: {account:?}");
        assert!(rows.all(|row| row.kind == kind), "{function} opens a {kind}: {account:?}");
    }
    tables(&["rare", "6"], 1).map(drop)
}

#[test]
fn descriptors_go_round_among_threads() -> Result<()> {
    for seed in 1..3 {
        tables(&["threads", "8", "20000", &seed.to_string()], 1)?;
    }
    tables(&["threads", "1", "20000", "5"], 1)?;
    tables(&["threads", "32", "5000", "6"], 1).map(drop)
}

#[test]
fn descriptors_are_copied_to_children_kept_by_programs_and_unshared_by_threads() -> Result<()> {
    let members = tables(&["fork"], 5)?;
    assert!(members.iter().all(|member| member.pid == member.tid && member.held_before > 0));
    tables(&["exec"], 1)?;
    let owners = tables(&["unshare"], 3)?;
    assert!(owners.iter().all(|owner| owner.pid == owners[2].tid), "the last is the process");
    assert!(owners[0].tid != owners[1].tid && owners[0].tid != owners[2].tid);
    Ok(())
}

/// Each case of a program that leaks library objects creates as many as its account says, and its corrected variant
/// keeps no object and no other block.
fn objects_are_true(library: &str) -> Result<()> {
    const COUNT: u64 = 25;
    // These objects are in the program's own memory.
    const PLACED: [&str; 5] = ["event_assigned", "uv_loop", "uv_timer", "uv_tcp", "uv_fs"];
    let program = leaks::program_to_witness(library)?;
    for case in leaks::cases(&program)? {
        for way in ["leak", "corrected"] {
            let note = scratch(&format!("witness-{library}"))?;
            let mut victim = Victim::start_command(
                Command::new(&program)
                    .args([&case.name, way, &COUNT.to_string()])
                    .env("LD_PRELOAD", objects_witness()?)
                    .env("PRELOAD_COUNT", &note),
            )?;
            let played = Played::by(&mut victim)?;
            let seen = Witnessed::parse(&fs::read_to_string(&note)?)?;
            assert_eq!(seen.objects, played.objects, "{} {way}", case.name);
            let live = played.objects.values().chain(played.by_function.values());
            let live: u64 = live.map(|objects| objects.live()).sum();
            if way == "corrected" {
                assert_eq!((seen.blocks, live), (0, 0), "{} {way}", case.name);
            } else {
                assert!(played.leaking().live() > 0, "{} leaks", case.name);
                let heap = played.by_function.get("heap").map_or(0, |objects| objects.live());
                let blocks = played.objects.iter().filter(|(kind, _)| !PLACED.contains(&&***kind));
                let objects: u64 = blocks.map(|(_, objects)| objects.live()).sum();
                assert!(seen.blocks >= heap + objects, "{} {way}", case.name);
            }
            victim.exit()?;
        }
    }
    Ok(())
}

#[test]
fn leaks_of_libevent() -> Result<()> {
    objects_are_true("libevent")
}

#[test]
fn leaks_of_libzmq() -> Result<()> {
    objects_are_true("libzmq")
}

#[test]
fn leaks_of_openssl() -> Result<()> {
    objects_are_true("openssl")
}

#[test]
fn leaks_of_uwebsockets() -> Result<()> {
    objects_are_true("uws")
}

#[test]
fn leaks_of_c_ares() -> Result<()> {
    objects_are_true("cares")
}

#[test]
fn leaks_of_libuv() -> Result<()> {
    objects_are_true("uv")
}
