//! A rule of `tidy`: only `arch/` names registers, the decoder, or a processor architecture.
//!
//! Comments and tests may name them: tests run on instructions of one architecture.

use std::path::Path;

/// The crates that have an `arch/`.
const CRATES: [&str; 3] = ["tracer-common/src", "tracer-ebpf/src", "tracer/src"];

/// Words of names (`BASE_RBX` has two) that belong to a processor architecture. No numbered registers: BPF has them, too.
const WORDS: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip", "iced", "endbr64", "x64", "x86",
    "amd64", "aarch64", "arm64",
];

/// Adds a fault for each line of `text` that names a processor's things outside of `arch/`.
pub(crate) fn check(path: &Path, text: &str, faults: &mut Vec<String>) {
    let Some(inside) = CRATES.iter().find_map(|folder| path.strip_prefix(folder).ok()) else {
        return;
    };
    if inside.starts_with("arch") || is_test(inside) {
        return;
    }
    for (line, number) in code(text).zip(1..) {
        let line = line.split("//").next().unwrap_or(line).to_lowercase();
        let words = line.split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| WORDS.contains(word)) {
            faults.push(format!("{}:{number}: `{word}` belongs in arch/", path.display()));
        }
    }
}

/// Files of tests and their data.
fn is_test(inside: &Path) -> bool {
    let stem = inside.file_stem().unwrap_or_default().to_string_lossy();
    stem.ends_with("tests") || stem == "sample" || inside.iter().any(|folder| folder == "tests")
}

/// The lines before the tests at the end of a file, and before the attributes of these.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().collect();
    let is_module = |line: &&str| line.starts_with("mod ") || line.starts_with("#[path");
    let tests = lines.windows(2).position(|pair| match pair {
        [attribute, next] => *attribute == "#[cfg(test)]" && is_module(next),
        _ => false,
    });
    let mut end = tests.unwrap_or(lines.len());
    while end > 0 && lines.get(end - 1).is_some_and(|line| line.starts_with("#[cfg(")) {
        end -= 1;
    }
    lines.into_iter().take(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check(Path::new(path), text, &mut faults);
        faults
    }

    #[test]
    fn a_register_and_the_decoder_are_named_in_arch_only() {
        let text = "use iced_x86::Code;\nlet base = USES_RBP;\n";
        let found = faults("tracer/src/probes/object.rs", text);
        assert_eq!(
            found,
            ["1: `iced`", "1: `x86`", "2: `rbp`"]
                .map(|fault| format!("tracer/src/probes/object.rs:{fault} belongs in arch/"))
        );
        assert_eq!(faults("tracer/src/arch/x86_64/place.rs", text), [""; 0]);
        assert_eq!(faults("xtask/src/bpf.rs", text), [""; 0]);
    }

    #[test]
    fn comments_tests_and_longer_words_are_left_alone() {
        let text = "// like rsp\nlet strip = \"gripe\";\n#[cfg(target_arch = \"x86_64\")]\n\
            #[cfg(test)]\nmod tests {\n    // test rdi, rdi\n    const RDI: u8 = 1;\n}\n";
        assert_eq!(faults("tracer-common/src/stack.rs", text), [""; 0]);
        assert_eq!(faults("tracer/src/unwind/compile_tests.rs", "let rsp = 1;"), [""; 0]);
        assert_eq!(faults("tracer-ebpf/src/call.rs", "let rsp = 1;").len(), 1);
    }
}
