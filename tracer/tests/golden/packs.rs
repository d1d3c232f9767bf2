//! Generates and checks `docs/packs-reference.md`: a table of every compiled-in pack, for people.
//!
//! To regenerate it: `LEAKTRACE_WRITE_DOCS=1 cargo nextest run -p leaktrace packs_reference`.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use leaktrace::packs::{Condition, FdIs, FieldRole, ObjectType, Pack, Rule, Sources, Word};
use tracer_common::object;

const HEAD: &str = "\
# Libraries that leaktrace describes

Reports name the objects of these libraries, unless `--kind` omits `object`. A test (`tracer/tests/golden/packs.rs`)
generates this page from `packs/*.toml`. For another library, [write a pack](packs.md).

leaktrace reads *fields* from the object itself for each report, if the object's block has one of the sizes in brackets.
Every object is gone when its block is freed. For kinds without a destructor, the number of requested releases is
unknown (`null`, `-` or `–`). OpenSSL's certificates, keys, sessions and contexts have no destructor here, because the
library itself drops references to them with the same functions.
";

#[test]
fn packs_reference_is_up_to_date() {
    let loaded = Sources { usual: true, ..Sources::default() }.load();
    assert_eq!(loaded.faults, []);
    let text = loaded.packs.iter().fold(HEAD.to_owned(), |text, pack| text + &library(pack));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/packs-reference.md");
    if env::var_os("LEAKTRACE_WRITE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "regenerate it: see {}", file!());
}

fn library(pack: &Pack) -> String {
    let marks: Vec<String> = pack.marks.iter().map(|names| code(names, " and ")).collect();
    let mut text = format!(
        "\n## {}\n\nPack `{}`. Matches object files that define {}{}.\n\n\
         | kind | description | constructors | destructors | recorded arguments | fields |\n|---|---|---|---|---|---|\n",
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
        let creates = |rule: &&Rule| rule.kind == *kind && rule.function.makes();
        let mut constructors: Vec<String> = pack.rules.iter().filter(creates).map(named).collect();
        constructors.dedup();
        constructors.extend(
            pack.rules.iter().filter(|rule| rule.second.as_ref() == Some(kind)).map(|rule| {
                format!(
                    "{}, if argument {} has {:#x}",
                    named(rule),
                    rule.function.test,
                    rule.function.mask
                )
            }),
        );
        let internal = |size: &u64| format!("internal allocations of {size} bytes");
        constructors.extend(kind.blocks.iter().map(internal));
        let second_of = pack.rules.iter().filter(|rule| rule.second.as_ref() == Some(kind));
        let same: Vec<_> = second_of.map(|rule| &rule.kind).chain([kind]).collect();
        let releasing = pack.rules.iter().filter(|rule| {
            rule.function.does == object::REQUEST_RELEASE && same.contains(&&rule.kind)
        });
        let mut destructors: Vec<String> = releasing.map(named).collect();
        destructors.extend(rules(object::END).into_iter().map(named));
        if pack.rules.iter().filter(creates).any(|rule| rule.function.own == object::BY_MEMORY) {
            destructors.push("gone when not pending".to_owned());
        }
        let cells = [
            constructors.join(", "),
            or_none(destructors.join(", ")),
            or_none(recorded(pack, kind)),
            or_none(read(kind)),
        ];
        writeln!(text, "| `{}` | {} | {} |", kind.name, kind.sentence, cells.join(" | ")).unwrap();
    }
    text
}

/// What leaktrace reads in a target's memory: fields of objects, what belongs to them, and queues.
fn read(kind: &ObjectType) -> String {
    let own = kind.owns_within.map(|_| "what the library acquires for it".to_owned());
    let queue = kind.queue.map(|_| "messages in queues".to_owned());
    let fields = Some(fields(kind)).filter(|fields| !fields.is_empty());
    [fields, own, queue].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The arguments that leaktrace records of a kind's objects, and of which functions.
fn recorded(pack: &Pack, kind: &ObjectType) -> String {
    let word = match kind.word {
        Word::Number(_) => "type",
        _ => "callback",
    };
    let fd = if kind.fd_is == FdIs::Signal { "signal" } else { "fd" };
    let mut from = BTreeMap::<&str, Vec<String>>::new();
    let about = |rule: &&Rule| rule.second.as_deref() == Some(kind) || *rule.kind == *kind;
    for rule in pack.rules.iter().filter(about) {
        let function = rule.function;
        let arguments = [
            (fd, function.fd),
            (word, function.word),
            ("owner", function.owner),
            ("name", function.text),
        ];
        for (what, argument) in arguments {
            if argument != object::NONE {
                from.entry(what).or_default().push(named(rule));
            }
        }
    }
    let parts: Vec<String> =
        from.iter().map(|(what, by)| format!("{what} ({})", by.join(", "))).collect();
    parts.join("; ")
}

fn fields(kind: &ObjectType) -> String {
    let mut sizes = BTreeMap::<&str, Vec<String>>::new();
    for layout in &kind.layouts {
        for field in &layout.fields {
            let name = match field.role {
                FieldRole::Fd => "fd",
                FieldRole::Queued => "queued bytes",
                FieldRole::References => "references",
                FieldRole::Pending => "pending",
                FieldRole::Owner => "owner",
                FieldRole::Callback => "callback",
            };
            sizes
                .entry(name)
                .or_default()
                .push(layout.size.to_string() + &versions(&layout.only_if));
        }
    }
    let parts: Vec<String> =
        sizes.iter().map(|(name, sizes)| format!("{name} [{}]", sizes.join(", "))).collect();
    parts.join("; ")
}

fn named(rule: &Rule) -> String {
    code(&rule.names, " or ") + &versions(&rule.only_if)
}

/// The versions to which an entry applies, in words.
fn versions(only_if: &Condition) -> String {
    let parts = [
        ("the file defines", " and ", &only_if.defines),
        ("the file lacks", " and ", &only_if.lacks),
        ("its build ID begins with", " or ", &only_if.build_id),
    ];
    let parts = parts.iter().filter(|(_, _, names)| !names.is_empty());
    let parts: Vec<String> =
        parts.map(|(what, and, names)| format!("{what} {}", code(names, and))).collect();
    if parts.is_empty() { String::new() } else { format!(" (if {})", parts.join(", and ")) }
}

fn code(names: &[String], between: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
}

fn or_none(cell: String) -> String {
    if cell.is_empty() { "–".to_owned() } else { cell }
}

#[test]
fn conditions_are_shown() {
    let text = r#"
name = "x"
title = "X"
marks = ["f"]
only_if = { lacks = ["g", "h"] }

[[kind]]
name = "k"
sentence = "s"
created_by = [{ function = "f", only_if = { defines = ["v2", "v3"], build_id = ["01234567", "89abcdef"] } }, "e"]
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
            "Pack `x`. Matches object files that define `f` (if the file lacks `g` and `h`).",
            "",
            "| kind | description | constructors | destructors | recorded arguments | fields |",
            "|---|---|---|---|---|---|",
            "| `k` | s | `f` (if the file defines `v2` and `v3`, and its build ID begins with `01234567` or `89abcdef`), `e` | – | – | references [8 (if the file lacks `v2`)] |",
        ]
    );
}
