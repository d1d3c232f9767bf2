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

/// Prints its own addresses and those of its caller's frames: the library in which the path of jumps ends.
const LAST_C: &str = r#"
#include <stdio.h>
#define ALONE __attribute__((noipa))
static void *inside;
ALONE static void note(void) { inside = __builtin_return_address(0); }
ALONE int last(int number) {
    note();
    printf("%p %p %p\n", inside, __builtin_return_address(0), (void *)last);
    fflush(stdout);
    return number;
}
"#;

const MIDDLE_C: &str =
    "int last(int); __attribute__((noipa)) int middle(int number) { return last(number + 1); }";

const FIRST_C: &str = r"
#include <stdio.h>
int middle(int);
static volatile int sink;
__attribute__((noipa)) static int first(int number) { return middle(number * 2); }
int main(void) {
    sink = first(1) + 1;
    getchar();
}
";

#[test]
fn a_path_of_jumps_leads_from_object_to_object() {
    for (name, option) in [("tail-plt", "-fplt"), ("tail-slots", "-fno-plt")] {
        let libraries =
            std::env::temp_dir().join(format!("leaktrace-{name}-{}", std::process::id()));
        fs::create_dir_all(&libraries).unwrap();
        let library = |name: &str, source: &str, needed: &[&str]| {
            let file = libraries.join(name).with_extension("c");
            fs::write(&file, source).unwrap();
            let product = libraries.join(format!("lib{name}.so"));
            let options = ["-shared", "-fPIC", "-O2", option, "-o", text(&product), text(&file)];
            tool("gcc", &[&options[..], needed].concat());
            product
        };
        let last = library("last", LAST_C, &[]);
        let middle = library("middle", MIDDLE_C, &[text(&last)]);
        // The program needs no symbols for its own jump: call frame information has its functions' extents.
        for (stripped, first) in [("-g", Some("first")), ("-s", None)] {
            let options =
                ["-foptimize-sibling-calls", option, stripped, text(&middle), text(&last)];
            let running = Running::start(name, "gcc", FIRST_C, &options);
            let pid = running.pid();
            let mut namer = running.namer();
            let expected = [
                (Some("last"), false),
                (Some("middle"), true),
                (first, true),
                (first.map(|_| "main"), false),
            ];
            let seen = |frames: &[Frame]| -> Vec<(Option<String>, bool)> {
                let one =
                    |frame: &Frame| (frame.symbol.as_deref().map(str::to_owned), frame.tail_call);
                frames.iter().map(one).collect()
            };
            let expected = expected.map(|(name, tail)| (name.map(str::to_owned), tail));
            let frames = namer.name(pid, &running.addresses[..2]);
            assert_eq!(seen(&frames), expected, "{name} {stripped}");
            // The same when the last function is not on the stack, but known to be running: it is probed.
            let mappings = running.mappings();
            let code = mappings.find(running.addresses[2]).unwrap();
            let probed = code.file().zip(code.file_offset_of(running.addresses[2]));
            let wanted = Wanted { site: 1, pid, addresses: running.addresses[1..2].into(), probed };
            namer.work(&mut VecDeque::from([wanted]), Duration::from_secs(60));
            assert_eq!(seen(&namer.lookup(1).unwrap()), expected[1..], "{name} {stripped}");
        }
        fs::remove_dir_all(&libraries).unwrap();
    }
}
