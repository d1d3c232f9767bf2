//! Tests of `compile` on this test program and its libraries.

use std::{collections::BTreeSet, fs, path::PathBuf};

use tracer_common::unwind::{Rule, key};

use super::*;

/// The objects that this test program has mapped.
fn own_objects() -> Vec<PathBuf> {
    let maps = crate::target::mappings::read(crate::target::Pid::own()).unwrap();
    maps.objects().into_iter().map(|object| object.path.to_owned()).collect()
}

fn rule_at(table: &Table, address: u64) -> RuleNumber {
    let relative = u32::try_from(address - table.origin).unwrap();
    let rows = table.rows.partition_point(|row| *row <= key(relative));
    rows.checked_sub(1).map_or(RULE_GAP, |at| rule_of(table.rows[at]))
}

#[test]
fn rows_ascend_and_neighbors_differ_in_every_library_of_this_process() {
    let mut rules = Rules::default();
    for path in own_objects() {
        let bytes = fs::read(&path).unwrap();
        let table = compile(bytes.as_slice(), &mut rules).unwrap();
        assert!(table.rows.len() > 10, "{path:?}");
        for pair in table.rows.windows(2) {
            assert!(pair[0] >> 32 < pair[1] >> 32, "{path:?}: {pair:x?}");
            assert_ne!(rule_of(pair[0]), rule_of(pair[1]), "{path:?}: {pair:x?}");
        }
        // The map is sized by this bound before any table is built.
        let expected = expected_rows(bytes.as_slice());
        assert!(table.rows.len() as u64 <= expected, "{path:?}: {expected}");
    }
}

#[test]
fn libc_compiles_except_for_hand_written_leaf_functions() {
    let path = own_objects().into_iter().find(|path| path.ends_with("libc.so.6")).unwrap();
    let bytes = fs::read(path).unwrap();
    let mut rules = Rules::default();
    let table = compile(bytes.as_slice(), &mut rules).unwrap();
    assert!(table.unknown * 1000 < table.rows.len(), "{} unknown", table.unknown);
    let used: BTreeSet<RuleNumber> = table.rows.iter().map(|row| rule_of(*row)).collect();
    for number in [RULE_BOTTOM, RULE_SIGNAL, RULE_GAP] {
        assert!(used.contains(&number), "{number}");
    }
    // At the first instruction of a function nothing but the return address is on the stack.
    let file = object::File::parse(bytes.as_slice()).unwrap();
    let entry = rules.number(Rule::ENTRY);
    for name in ["malloc", "qsort", "printf", "getaddrinfo"] {
        let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(name)).unwrap();
        assert_eq!(rule_at(&table, symbol.address()), entry, "{name}");
    }
}

#[test]
fn a_file_that_is_not_an_object_is_refused_with_a_reason() {
    let mut rules = Rules::default();
    let refused = compile(b"#!/bin/sh\n".as_slice(), &mut rules).unwrap_err();
    assert!(refused.to_string().starts_with("not an x86-64 object"), "{refused}");
    let mut truncated = fs::read("/proc/self/exe").unwrap();
    truncated.truncate(5000);
    // Must not panic, whatever the remaining bytes are.
    drop(compile(truncated.as_slice(), &mut rules));
    assert_eq!(expected_rows(b"".as_slice()), 0);
}

#[test]
fn damaged_tables_never_panic() {
    let path = own_objects().into_iter().find(|path| path.ends_with("libgcc_s.so.1")).unwrap();
    let bytes = fs::read(path).unwrap();
    let mut seed = 1_u64;
    for _ in 0..200 {
        let mut damaged = bytes.clone();
        for _ in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(seed >> 33).unwrap() % damaged.len();
            damaged[at] = u8::try_from(seed >> 25 & 0xff).unwrap();
        }
        if let Ok(table) = compile(damaged.as_slice(), &mut Rules::default()) {
            assert!(table.rows.windows(2).all(|pair| pair[0] >> 32 < pair[1] >> 32));
        }
    }
}

/// lld puts the end of one segment and the start of the next into one page of the file, which is then mapped twice;
/// both mappings start at the same offset.
#[test]
fn a_page_shared_by_two_segments_maps_to_the_code_segment() {
    let code = Segment { file_offset: 0x17240, size: 0x44ab0, address: 0x18240 };
    assert_eq!(code.address_of_page(0x17000), Some(0x18000));
    assert_eq!(code.address_of_page(0x18000), Some(0x19000));
    assert_eq!(code.address_of_page(0x16000), None);
    assert_eq!(code.address_of_page(0x5c000), None);
    // Whichever linker linked this test, its table has executable segments only.
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut rules = Rules::default();
    let table = compile(own.as_slice(), &mut rules).unwrap();
    let start = object::File::parse(own.as_slice()).unwrap().entry();
    let [code] = table.segments.as_slice() else { panic!("{:?}", table.segments) };
    assert!((code.address..code.address + code.size).contains(&start));
}
