//! `docs/packs-reference.md`: what every compiled-in pack knows, as a table for people.
//!
//! To write it anew: `LEAKTRACE_WRITE_DOCS=1 cargo nextest run -p leaktrace packs_reference`.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use leaktrace::packs::{Condition, FdIs, FieldRole, ObjectType, Pack, Rule, Sources, Word};
use tracer_common::object;

const HEAD: &str = "\
# What leaktrace knows of libraries

Objects of these libraries have a name, unless `--kind` leaves `object` out. Written from `packs/*.toml` by a test (`tracer/tests/golden/packs.rs`);
[how to write a pack](packs.md) for another library.

*Fields* are read from the object itself when a report is made, where its block has one of the sizes in brackets; else nothing is
said of them. Without a function that releases it, an object is known to be gone when its block is freed, as all of them are; how many
are to be released is then not known (`null`, `-` or `–`). OpenSSL's certificates, keys, sessions and contexts have none here, since the
library itself drops its own references to them by the same functions.
";

#[test]
fn packs_reference_is_of_these_packs() {
    let loaded = Sources { usual: true, ..Sources::default() }.load();
    assert_eq!(loaded.faults, []);
    let text = loaded.packs.iter().fold(HEAD.to_owned(), |text, pack| text + &library(pack));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/packs-reference.md");
    if env::var_os("LEAKTRACE_WRITE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "write it anew: see {}", file!());
}

fn library(pack: &Pack) -> String {
    let marks: Vec<String> = pack.marks.iter().map(|names| code(names, " and ")).collect();
    let mut text = format!(
        "\n## {}\n\nPack `{}`. In every object file that has {}{}.\n\n\
         | kind | what it is | made by | release asked by | known | fields |\n|---|---|---|---|---|---|\n",
        pack.title,
        pack.name,
        marks.join(", or "),
        versions(&pack.only_if)
    );
    for kind in &pack.kinds {
        let rules = |does| -> Vec<&Rule> {
            let of = |rule: &&Rule| rule.kind == *kind && rule.function.does == does;
            pack.rules.iter().filter(of).collect()
        };
        let made = |rule: &&Rule| rule.kind == *kind && rule.function.makes();
        let mut makers: Vec<String> = pack.rules.iter().filter(made).map(named).collect();
        makers.dedup();
        makers.extend(pack.rules.iter().filter(|rule| rule.second.as_ref() == Some(kind)).map(
            |rule| {
                format!(
                    "{}, where argument {} has {:#x}",
                    named(rule),
                    rule.function.test,
                    rule.function.mask
                )
            },
        ));
        makers.extend(kind.blocks.iter().map(|size| format!("its own code, {size} bytes each")));
        let second_of = pack.rules.iter().filter(|rule| rule.second.as_ref() == Some(kind));
        let same: Vec<_> = second_of.map(|rule| &rule.kind).chain([kind]).collect();
        let asked = pack.rules.iter().filter(|rule| {
            rule.function.does == object::REQUEST_RELEASE && same.contains(&&rule.kind)
        });
        let mut asks: Vec<String> = asked.map(named).collect();
        asks.extend(rules(object::END).into_iter().map(|rule| format!("{} ends it", named(rule))));
        if pack.rules.iter().filter(made).any(|rule| rule.function.own == object::BY_MEMORY) {
            asks.push("ends when it is not pending".to_owned());
        }
        let cells = [
            makers.join(", "),
            or_none(asks.join(", ")),
            or_none(known(pack, kind)),
            or_none(fields(kind)),
        ];
        writeln!(text, "| `{}` | {} | {} |", kind.name, kind.sentence, cells.join(" | ")).unwrap();
    }
    text
}

/// What is known of a kind, and from which functions.
fn known(pack: &Pack, kind: &ObjectType) -> String {
    let word = match kind.word {
        Word::Number(_) => "type",
        _ => "callback",
    };
    let fd = if kind.fd_is == FdIs::Signal { "signal" } else { "fd" };
    let mut from = BTreeMap::<&str, Vec<String>>::new();
    let about = |rule: &&Rule| rule.second.as_deref() == Some(kind) || *rule.kind == *kind;
    for rule in pack.rules.iter().filter(about) {
        let function = rule.function;
        let says = [
            (fd, function.fd),
            (word, function.word),
            ("owner", function.owner),
            ("name", function.text),
        ];
        for (what, argument) in says {
            if argument != object::NONE {
                from.entry(what).or_default().push(named(rule));
            }
        }
    }
    let said: Vec<String> =
        from.iter().map(|(what, by)| format!("{what} ({})", by.join(", "))).collect();
    said.join("; ")
}

fn fields(kind: &ObjectType) -> String {
    let mut sizes = BTreeMap::<&str, Vec<String>>::new();
    for layout in &kind.layouts {
        for field in &layout.fields {
            let name = match field.role {
                FieldRole::Fd => "fd",
                FieldRole::Queued => "queued bytes",
                FieldRole::References => "references",
                FieldRole::Pending => "whether it is pending",
                FieldRole::Owner => "owner",
                FieldRole::Callback => "callback",
            };
            sizes
                .entry(name)
                .or_default()
                .push(layout.size.to_string() + &versions(&layout.only_if));
        }
    }
    let said: Vec<String> =
        sizes.iter().map(|(name, sizes)| format!("{name} [{}]", sizes.join(", "))).collect();
    said.join("; ")
}

fn named(rule: &Rule) -> String {
    code(&rule.names, " or ") + &versions(&rule.only_if)
}

/// The versions that something is said of.
fn versions(only_if: &Condition) -> String {
    let said = [
        ("there is", " and ", &only_if.defines),
        ("there is no", " and no ", &only_if.lacks),
        ("the build id begins with", " or ", &only_if.build_id),
    ];
    let said = said.iter().filter(|(_, _, names)| !names.is_empty());
    let said: Vec<String> =
        said.map(|(what, and, names)| format!("{what} {}", code(names, and))).collect();
    if said.is_empty() { String::new() } else { format!(" (where {})", said.join(", and ")) }
}

fn code(names: &[String], between: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
}

fn or_none(cell: String) -> String {
    if cell.is_empty() { "–".to_owned() } else { cell }
}

#[test]
fn versions_are_told() {
    let text = r#"
name = "x"
title = "X"
marks = ["f"]
only_if = { lacks = ["g", "h"] }

[[kind]]
name = "k"
sentence = "s"
made_by = [{ function = "f", only_if = { defines = ["v2", "v3"], build_id = ["01234567", "89abcdef"] } }, "e"]
layouts = [{ size = 8, references = { offset = 0, bytes = 4 }, only_if = { lacks = ["v2"] } }]
"#;
    let text = library(&Pack::parse("x.toml", text).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "",
            "## X",
            "",
            "Pack `x`. In every object file that has `f` (where there is no `g` and no `h`).",
            "",
            "| kind | what it is | made by | release asked by | known | fields |",
            "|---|---|---|---|---|---|",
            "| `k` | s | `f` (where there is `v2` and `v3`, and the build id begins with `01234567` or `89abcdef`), `e` | – | – | references [8 (where there is no `v2`)] |",
        ]
    );
}
