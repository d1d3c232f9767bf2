//! The work of `boxes` by jemalloc, as a Rust server would have it.

use tikv_jemallocator::Jemalloc;

#[path = "../../victims/boxes.rs"]
mod boxes;

/// Whatever the program acquires.
#[global_allocator]
static EVERYTHING: Jemalloc = Jemalloc;

fn main() {
    boxes::main();
}
