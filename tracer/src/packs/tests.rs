//! Packs: those compiled in, and what is said of wrong ones.

use super::*;

#[test]
fn every_pack_parses() {
    let loaded = Sources { usual: true, ..Sources::default() }.load();
    assert_eq!(loaded.faults, []);
    let names: Vec<&str> = loaded.packs.iter().map(|pack| &*pack.name).collect();
    assert_eq!(names, ["libevent", "libzmq", "openssl", "usockets"]);
}
