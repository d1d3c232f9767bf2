//! Functions that left by a tail jump, in a program that makes such jumps, and in libevent.

use super::*;

/// Prints, for three calls, the return address in the function that ran and the one in `main`.
const JUMPS_C: &str = r#"
#include <stdio.h>
#define ALONE __attribute__((noipa))
static volatile int sink;
static void *inside, *outside;
ALONE void note(void) { inside = __builtin_return_address(0); }
ALONE int runs(int number) {
    outside = __builtin_return_address(0);
    note();
    return sink += number;
}
ALONE int second(int number) { sink++; return runs(number + 1); }
ALONE int first(int number) { if (sink == 77) return 3; return second(number * 2); }
ALONE int other(int number) { return sink - number; }
int (*volatile pointer)(int) = first;
int main(void) {
    void *seen[6];
    sink = first(1) + 1;
    seen[0] = inside, seen[1] = outside;
    sink = runs(2) + other(1);
    seen[2] = inside, seen[3] = outside;
    sink = pointer(3) + 1;
    seen[4] = inside, seen[5] = outside;
    printf("%p %p %p %p %p %p\n", seen[0], seen[1], seen[2], seen[3], seen[4], seen[5]);
    fflush(stdout);
    getchar();
}
"#;

fn names(frames: &[Frame]) -> Vec<(&str, bool)> {
    frames.iter().map(|frame| (frame.symbol.as_deref().unwrap_or("?"), frame.tail_call)).collect()
}

#[test]
fn tail_jumps_are_shown_only_if_the_call_names_the_function() {
    for (name, option) in [("tail-pie", "-pie"), ("tail-exec", "-no-pie"), ("tail-got", "-fno-plt")]
    {
        let options = ["-O2", "-foptimize-sibling-calls", option];
        let running = Running::start(name, "gcc", JUMPS_C, &options);
        let pid = Pid(running.child.id());
        let mut namer = Namer::new();
        namer.learn(pid, &mappings::read(pid).unwrap());
        let stack = |at: usize| &running.addresses[at..at + 2];
        let both = [("runs", false), ("second", true), ("first", true), ("main", false)];
        let frames = namer.name(pid, stack(0));
        assert_eq!(names(&frames), both, "{name}");
        // Their addresses are those behind the jumps: inside the function, and not on the stack.
        assert!(frames[1].offset.is_some_and(|offset| offset > 4), "{frames:#?}");
        assert!(!running.addresses.contains(&frames[1].address.0));
        // A direct call of the function, and one through a pointer, add nothing.
        let plain = [("runs", false), ("main", false)];
        assert_eq!(names(&namer.name(pid, stack(2))), plain, "{name}");
        assert_eq!(names(&namer.name(pid, stack(4))), plain, "{name}");
    }
}
