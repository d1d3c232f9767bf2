//! Tests of the parent module.

use super::*;
use crate::snapshot::Ages;

const MIB: u64 = 1 << 20;

/// A memory map with an executable and a library at these addresses.
fn mappings(executable: u64, library: u64) -> Arc<Mappings> {
    let line = |start: u64, inode: u64, path: &str| {
        format!("{start:x}-{:x} r-xp 00001000 08:01 {inode} {path}\n", start + MIB)
    };
    let text = line(executable, 5, "/bin/server") + &line(library, 6, "/lib/libc.so.6");
    Arc::new(Mappings::parse(text.as_bytes()))
}

/// A call site of a process with this many outstanding resources of 10 bytes.
fn site(number: u32, pid: u32, image: u32, frames: &[u64], count: u64) -> SiteFigures {
    let sum = Sum { count, bytes: count * 10 };
    SiteFigures {
        number,
        pid: Some(Pid(pid)),
        image,
        probe: Some(3),
        frames: Arc::from(frames),
        end: StackEnd::Bottom,
        acquired: sum,
        outstanding: sum,
        aged: sum,
        ages: (count > 0).then_some(Ages { min_ms: 1, median_ms: number, max_ms: 100 + number }),
        ..SiteFigures::default()
    }
}

fn snapshot(sites: Vec<SiteFigures>, mappings: &[(u32, &Arc<Mappings>)]) -> Snapshot {
    let mappings = mappings.iter().map(|(pid, all)| (Pid(*pid), Arc::clone(all))).collect();
    Snapshot { sites, mappings, ..Snapshot::default() }
}

#[test]
fn the_call_sites_of_one_process_stay_as_they_are() {
    let seen =
        snapshot(vec![site(1, 7, 1, &[0x10_0010], 3)], &[(7, &mappings(0x10_0000, 0x80_0000))]);
    assert!(matches!(Processes::default().merge(&seen), Cow::Borrowed(_)));
}

#[test]
fn equal_stacks_of_several_processes_are_one_with_their_sums() {
    let (one, other) = (mappings(0x10_0000, 0x80_0000), mappings(0x40_0000, 0xa0_0000));
    let seen = snapshot(
        vec![
            site(1, 7, 1, &[0x80_0010, 0x10_0020], 3),
            // Forked from it.
            site(2, 8, 1, &[0x80_0010, 0x10_0020], 5),
            // The same executable, at other addresses.
            site(3, 9, 2, &[0xa0_0010, 0x40_0020], 1),
            // Another caller, and one frame more.
            site(4, 9, 2, &[0xa0_0010, 0x40_0030], 2),
            site(5, 9, 2, &[0xa0_0010, 0x40_0020, 0x40_0030], 2),
        ],
        &[(7, &one), (8, &one), (9, &other)],
    );
    let mut processes = Processes::default();
    let merged = processes.merge(&seen);
    let rows: Vec<_> =
        merged.sites.iter().map(|site| (site.number, site.outstanding.count)).collect();
    assert_eq!(rows, [(1, 9), (4, 2), (5, 2)]);
    let first = &merged.sites[0];
    // Of the processes whose program is in memory for longest, the one that holds most.
    assert_eq!((first.pid, first.image), (Some(Pid(8)), 1));
    assert_eq!(first.ages.map(|ages| (ages.median_ms, ages.max_ms)), Some((2, 103)));
    let listed: Vec<_> = listed(first).iter().map(|one| (one.pid, one.count, one.bytes)).collect();
    assert_eq!((count(first), listed), (3, vec![(8, 5, 50), (7, 3, 30), (9, 1, 10)]));
    assert_eq!((count(&merged.sites[1]), super::listed(&merged.sites[1]).len()), (1, 0));
}

#[test]
fn an_id_stays_with_its_stack_and_a_number_that_is_used_again_gets_another() {
    let map = mappings(0x10_0000, 0x80_0000);
    let mut processes = Processes::default();
    let first = snapshot(
        vec![site(1, 7, 1, &[0x10_0010], 1), site(2, 8, 1, &[0x10_0020], 1)],
        &[(7, &map), (8, &map)],
    );
    processes.merge(&first);
    let ended =
        Snapshot { ended: vec![Pid(8)], ..snapshot(vec![site(1, 7, 1, &[0x10_0010], 1)], &[]) };
    assert_eq!(processes.merge(&ended).sites.len(), 1);
    let again = snapshot(
        vec![
            site(1, 7, 1, &[0x10_0010], 1),
            site(2, 9, 1, &[0x10_0030], 1),
            site(3, 9, 1, &[0x10_0020], 1),
        ],
        &[(9, &map)],
    );
    let merged = processes.merge(&again);
    let ids: Vec<_> = merged.sites.iter().map(|site| (site.number, site.frames[0])).collect();
    assert_eq!(ids, [(1, 0x10_0010), (2, 0x10_0020), (FIRST_ID + 1, 0x10_0030)]);
}

#[test]
fn a_stack_through_a_library_that_the_memory_map_lacks_at_first_joins_the_others() {
    let whole = mappings(0x40_0000, 0xa0_0000);
    let of_executable =
        format!("{:x}-{:x} r-xp 00001000 08:01 5 /bin/server\n", 0x40_0000, 0x50_0000);
    let early = Arc::new(Mappings::parse(of_executable.as_bytes()));
    let sites = || {
        vec![
            site(1, 7, 1, &[0x80_0010, 0x10_0020], 3),
            // Has just called exec.
            site(2, 8, 2, &[0xa0_0010, 0x40_0020], 5),
        ]
    };
    let mut processes = Processes::default();
    let first = snapshot(sites(), &[(7, &mappings(0x10_0000, 0x80_0000)), (8, &early)]);
    assert_eq!(processes.merge(&first).sites.len(), 2);
    let merged = processes.merge(&snapshot(sites(), &[(8, &whole)])).into_owned();
    assert_eq!(merged.sites.iter().map(|one| one.outstanding.count).collect::<Vec<_>>(), [8]);
    assert_eq!(count(&merged.sites[0]), 2);
}

#[test]
fn copies_and_what_ended_processes_did_count_but_are_no_evidence() {
    let map = mappings(0x10_0000, 0x80_0000);
    let copy = SiteFigures {
        origin: Some(1),
        acquired: Sum::default(),
        inherited: Sum { count: 6, bytes: 60 },
        released: Sum { count: 2, bytes: 20 },
        ..site(200, 8, 1, &[0x10_0010], 4)
    };
    let past = Sum { count: 50, bytes: 500 };
    let past = SiteFigures {
        origin: Some(201),
        acquired: past,
        released: past,
        ..site(201, 7, 1, &[0x10_0010], 0)
    };
    let seen = snapshot(vec![site(1, 7, 1, &[0x10_0010], 3), copy, past], &[(7, &map), (8, &map)]);
    let mut processes = Processes::default();
    let merged = processes.merge(&seen);
    let [row] = merged.sites.as_slice() else { panic!("{:?}", merged.sites) };
    assert_eq!((row.outstanding.count, row.inherited.count, row.acquired.count), (7, 6, 53));
    let judged = (row.judged_outstanding(), row.judged_acquired(), row.judged_released());
    let three = Sum { count: 3, bytes: 30 };
    assert_eq!(judged, (three, three, Sum::default()));
    assert_eq!(row.processes.len(), 2);
}

#[test]
fn copies_whose_originals_are_gone_are_judged() {
    let copy = SiteFigures { origin: Some(200), ..site(200, 8, 1, &[0x10_0010], 4) };
    let seen = snapshot(vec![copy], &[(8, &mappings(0x10_0000, 0x80_0000))]);
    assert_eq!(Processes::default().merge(&seen).sites[0].judged_outstanding().count, 4);
}

#[test]
fn what_is_left_of_a_process_without_a_program_in_memory_counts_by_function() {
    let gone = SiteFigures { released: Sum { count: 4, bytes: 40 }, ..site(2, 8, 2, &[1], 0) };
    let gone = SiteFigures { acquired: gone.released, ..gone };
    let map = mappings(0x10_0000, 0x80_0000);
    let seen = snapshot(vec![site(1, 7, 1, &[0x10_0010], 3), gone], &[(7, &map)]);
    let mut processes = Processes::default();
    let merged = processes.merge(&seen);
    assert_eq!(merged.sites.len(), 1);
    assert_eq!(merged.past, [((3, FdType::Unknown, 0), Sum { count: 4, bytes: 40 })]);
}
