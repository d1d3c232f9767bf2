//! Tests of packs: those compiled in, functions by what an object file defines, and error messages.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;

/// A pack with one kind of each type.
const SMALL: &str = r#"
name = "small"
title = "a small library"
marks = ["small_new", "small_free"]

[[kind]]
name = "thing"
sentence = "a thing"
created_by = [
  { function = ["small_new_ex", "small_new"], fd = 1, callback = 2, owner = 0, text = 3, throws = true },
  { function = "small_open", handle_at = 4, offset = 16, success = "not_negative", second = { kind = "other", argument = 5, mask = 0x80000000 } },
]
released_by = ["small_free", { function = "small_close", handle_at = 1 }]
updated_by = [{ function = "small_set", handle = 2, fd = 1 }]
layouts = [{ size = 24, references = { offset = 16, bytes = 4 }, pending = { offset = 20, bytes = 2, mask = 6 } }]

[[kind]]
name = "other"
sentence = "another thing"

[[kind]]
name = "part"
sentence = "a part of the caller's"
types = { 10 = "TEN", 2 = "TWO" }
initialized_by = [{ function = "small_init", type = 1 }]
destroyed_by = [{ function = "small_done", handle_at = 3, offset = 8 }]
"#;

fn small() -> Pack {
    Pack::parse("small.toml", SMALL).unwrap()
}

/// The functions of a pack in an object file without a build ID that defines these.
fn functions(pack: &Pack, defines: &dyn Fn(&str) -> bool) -> Vec<(String, Shape, bool, Arc<Use>)> {
    pack.functions(&ObjectFile { defines, build_id: None })
}

fn compiled_in() -> Vec<Pack> {
    let loaded = Sources { usual: true, ..Sources::default() }.load();
    assert_eq!(loaded.faults, []);
    loaded.packs
}

#[test]
fn every_pack_parses() {
    let names: Vec<_> = compiled_in().iter().map(|pack| pack.name.to_string()).collect();
    assert_eq!(names, ["libevent", "libzmq", "openssl", "usockets"]);
}

#[test]
fn every_function_of_every_pack_appears_once_and_its_kind_has_a_constructor() {
    for pack in compiled_in() {
        let mut places = BTreeSet::new();
        for rule in &pack.rules {
            for name in &rule.names {
                assert!(places.insert(name.clone()), "{name} appears twice");
            }
        }
        let created = |kind: &Arc<ObjectType>| {
            let constructors = pack.rules.iter().filter(|rule| rule.function.makes());
            let mut kinds = constructors.flat_map(|rule| [Some(&rule.kind), rule.second.as_ref()]);
            kinds.any(|one| one == Some(kind))
        };
        for kind in &pack.kinds {
            assert!(created(kind) || !kind.blocks.is_empty(), "nothing creates a {}", kind.name);
            assert!(!kind.sentence.is_empty() && kind.library == pack.name);
        }
        assert!(pack.rules.iter().all(|rule| created(&rule.kind)));
    }
}

#[test]
fn no_kind_and_no_function_is_in_two_packs() {
    let (mut kinds, mut functions) = (BTreeSet::new(), BTreeSet::new());
    for pack in compiled_in() {
        assert!(pack.kinds.iter().all(|kind| kinds.insert(kind.name.to_string())));
        let names: BTreeSet<String> =
            pack.rules.iter().flat_map(|rule| &rule.names).cloned().collect();
        assert!(names.into_iter().all(|name| functions.insert(name)));
    }
}

#[test]
fn the_examples_are_packs_of_less_than_thirty_lines() {
    for (name, kinds, rules) in [("c-ares", 2, 7), ("libuv", 4, 11)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/packs");
        let text = fs::read_to_string(folder.join(name).with_extension("toml")).unwrap();
        let is_data = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
        assert!(text.lines().filter(is_data).count() < 30, "{name}");
        let pack = Pack::parse(name, &text).unwrap();
        assert_eq!((&*pack.name, pack.kinds.len(), pack.rules.len()), (name, kinds, rules));
    }
}

#[test]
fn one_function_may_destroy_objects_of_several_kinds() {
    let head = "name = \"x\"\ntitle = \"x\"\nmarks = [\"f\"]\n";
    let kind = |name: &str, ended: &str| {
        format!(
            "[[kind]]\nname = \"{name}\"\nsentence = \"s\"\ninitialized_by = [\"{name}_init\"]\ndestroyed_by = [{ended}]\n"
        )
    };
    let text = head.to_owned() + &kind("a", "\"end\"") + &kind("b", "\"end\"");
    let functions = functions(&Pack::parse("x.toml", &text).unwrap(), &|_| true);
    let names: Vec<&str> = functions.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["a_init", "end", "b_init"]);
    for (first, second, line) in [
        ("\"end\"", "{ function = \"end\", handle = 1 }", 13),
        ("\"end\"", "[\"end\", \"other\"]", 13),
        ("\"end\"", "\"a_init\"", 13),
        ("\"end\", \"end\"", "\"other\"", 8),
        ("{ function = [\"end\", \"end\"] }", "\"other\"", 8),
    ] {
        let text = head.to_owned() + &kind("a", first) + &kind("b", second);
        let fault = Pack::parse("x.toml", &text).unwrap_err();
        assert!(fault.text.starts_with(&format!("x.toml:{line}: ")), "{}", fault.text);
    }
}

#[test]
fn keys_become_rules() {
    use tracer_common::object::{CONSTRUCT, END, Function, NONE, REQUEST_RELEASE, UPDATE};

    let pack = small();
    let function = |name: &str| {
        let mut rules = pack.rules.iter().filter(|rule| rule.names.iter().any(|one| one == name));
        let rule = rules.next().unwrap();
        assert!(rules.next().is_none());
        (rule.shape, rule.function)
    };
    let nothing = Function::NOTHING;
    let created = Function { does: CONSTRUCT, fd: 1, word: 2, owner: 0, text: 3, ..nothing };
    assert_eq!(function("small_new"), (Shape::Construct, created));
    let stored = Function {
        does: CONSTRUCT,
        handle: 4,
        through: 1,
        offset: 16,
        number: 1,
        test: 5,
        mask: 0x8000_0000,
        ..nothing
    };
    assert_eq!(function("small_open"), (Shape::Construct, stored));
    let requested = Function { does: REQUEST_RELEASE, handle: 0, ..nothing };
    assert_eq!(function("small_free"), (Shape::Note, requested));
    let requested = Function { does: REQUEST_RELEASE, handle: 1, through: 1, ..nothing };
    assert_eq!(function("small_close"), (Shape::Note, requested));
    let updated = Function { does: UPDATE, handle: 2, fd: 1, ..nothing };
    assert_eq!(function("small_set"), (Shape::Note, updated));
    let initialized = Function { does: CONSTRUCT, handle: 0, own: 1, word: 1, ..nothing };
    assert_eq!(function("small_init"), (Shape::ConstructInPlace, initialized));
    let destroyed = Function { does: END, handle: 3, through: 1, own: 1, offset: 8, ..nothing };
    assert_eq!(function("small_done"), (Shape::Note, destroyed));
    assert_eq!(created.handle, NONE);
}

#[test]
fn kinds_have_words_and_fields() {
    let pack = small();
    let [thing, other, part] = pack.kinds.as_slice() else { panic!("{:?}", pack.kinds) };
    assert_eq!((&thing.word, &other.word), (&Word::Function, &Word::None));
    let names = vec![(2, "TWO".to_owned()), (10, "TEN".to_owned())];
    assert_eq!(part.word, Word::Number(names));
    let field = |role, offset, bytes, mask| Field { role, offset, bytes, mask };
    let fields = vec![
        field(FieldRole::References, 16, 4, u64::from(u32::MAX)),
        field(FieldRole::Pending, 20, 2, 6),
    ];
    assert_eq!(thing.layouts, [Layout { size: 24, fields, only_if: Condition::default() }]);
    assert_eq!((thing.fd_is, &*thing.library), (FdIs::Descriptor, "small"));
    // A constructor of `thing` creates `other` too, so `other` has the destructors of `thing`.
    assert!(thing.is_asked && other.is_asked && !part.is_asked);
}

#[test]
fn functions_are_those_that_an_object_file_defines() {
    let pack = small();
    let names = |defined: &[&str]| -> Vec<String> {
        let functions = functions(&pack, &|name| defined.contains(&name));
        functions.into_iter().map(|(name, ..)| name).collect()
    };
    assert!(names(&["small_new", "small_open"]).is_empty(), "a mark is missing");
    assert_eq!(names(&["small_new", "small_free", "main"]), ["small_new", "small_free"]);
    assert_eq!(
        names(&["small_new", "small_new_ex", "small_free", "small_set"]),
        ["small_new_ex", "small_free", "small_set"]
    );
    let functions = functions(&pack, &|_| true);
    assert_eq!(functions.len(), pack.rules.len());
    let throwing = functions.iter().filter(|(_, _, throws, _)| *throws);
    assert_eq!(throwing.map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["small_new_ex"]);
    let opened = functions.iter().find(|(name, ..)| name == "small_open").unwrap();
    assert_eq!((&*opened.3.kind(0).name, &*opened.3.kind(1).name), ("thing", "other"));
}

#[test]
fn conditions_distinguish_versions() {
    let text = r#"
name = "two"
title = "a library of two versions"
marks = ["two_new"]
only_if = { lacks = ["three_new"] }

[[kind]]
name = "thing"
sentence = "a thing"
created_by = [
  { function = "two_new", fd = 1, only_if = { defines = ["two_version"] } },
  { function = "two_new", fd = 2 },
]
layouts = [
  { size = 24, fd = { offset = 8, bytes = 4 }, only_if = { build_id = ["0123456789ab"] } },
  { size = 24, fd = { offset = 16, bytes = 4 }, only_if = { defines = ["two_version"] } },
  { size = 32, fd = { offset = 20, bytes = 4 } },
]
"#;
    let pack = Pack::parse("two.toml", text).unwrap();
    let inside = |names: &[&str], build_id: Option<&str>| {
        let file = ObjectFile { defines: &|name| names.contains(&name), build_id };
        let functions = pack.functions(&file);
        let [(name, _, _, used)] = functions.as_slice() else { return None };
        assert_eq!(name, "two_new");
        let field = |size| Some(used.kind(0).layout(size)?.fields.first()?.offset);
        Some((used.function.fd, field(24), field(32)))
    };
    assert_eq!(inside(&["two_new", "two_version"], None), Some((1, Some(16), Some(20))));
    assert_eq!(inside(&["two_new"], None), Some((2, None, Some(20))));
    let build_id = Some("0123456789abcdef");
    assert_eq!(inside(&["two_new", "two_version"], build_id), Some((1, Some(8), Some(20))));
    assert_eq!(inside(&["two_new"], build_id), Some((2, Some(8), Some(20))));
    assert_eq!(inside(&["two_new", "three_new"], build_id), None);
    // A layout that depends on an unknown version is not used.
    assert_eq!(pack.kinds[0].layout(24), None);
    // Without a condition, the earlier entry would always apply.
    let twice = text.replace(", only_if = { defines = [\"two_version\"] } },\n  {", " },\n  {");
    let fault = Pack::parse("two.toml", &twice).unwrap_err();
    assert!(fault.text.starts_with("two.toml:12: function `two_new` is named twice"), "{fault:?}");
}

#[test]
fn libraries_are_identified_in_every_form() {
    let packs = compiled_in();
    let found = |name: &str, defined: &[&str]| {
        let pack = packs.iter().find(|pack| &*pack.name == name).unwrap();
        functions(pack, &|name| defined.contains(&name)).len()
    };
    let core = ["event_base_new_with_config", "event_assign", "event_base_loop", "event_new"];
    assert_eq!(found("libevent", &core), 3);
    assert_eq!(found("libevent", &["evhttp_request_new", "evhttp_uri_new"]), 2);
    let tls = ["bufferevent_openssl_socket_new", "bufferevent_openssl_filter_new"];
    assert_eq!(found("libevent", &tls), 2);
    assert_eq!(found("libevent", &["event_new", "event_add"]), 0);
    assert_eq!(found("openssl", &["SSL_new", "SSL_dup", "SSL_set_ssl_method", "SSL_CTX_new"]), 2);
    assert_eq!(found("openssl", &["CRYPTO_zalloc", "BIO_new", "BIO_new_ex", "EVP_MD_CTX_new"]), 2);
    assert_eq!(found("openssl", &["SSL_new", "SSL_free", "BIO_new", "EVP_MD_CTX_new"]), 0);
    assert_eq!(found("usockets", &["us_create_timer", "us_timer_close", "us_loop_free"]), 3);
}

#[test]
fn both_halves_of_a_pair_are_objects() {
    let packs = compiled_in();
    let libevent = packs.iter().find(|pack| &*pack.name == "libevent").unwrap();
    let pair: Vec<_> = functions(libevent, &|_| true)
        .into_iter()
        .filter(|(name, ..)| name == "bufferevent_pair_new")
        .map(|(_, shape, _, used)| (shape, used.function.handle, used.function.through))
        .collect();
    assert_eq!(pair, [(Shape::Construct, 2, 2)]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a row for each mistake")]
fn errors_name_their_line() {
    let head = "name = \"x\"\ntitle = \"x\"\nmarks = [\"f\"]\n";
    let kind = "[[kind]]\nname = \"k\"\nsentence = \"s\"\n";
    let good = "created_by = [\"f\"]\n";
    for (text, message) in [
        (format!("{head}colour = 1\n{kind}{good}"), "x.toml:4: unknown field `colour`"),
        (format!("{head}{kind}{good}colour = 1\n"), "x.toml:8: unknown field `colour`"),
        (
            format!(
                "{head}{kind}created_by = [\n  {{ function = \"f\" }},\n  {{ function = \"g\", fdd = 1 }},\n]\n"
            ),
            "x.toml:9: unknown field `fdd`",
        ),
        (
            format!("{head}{kind}created_by = [{{ function = \"f\", fd = 6 }}]\n"),
            "x.toml:7: arguments are numbered 0 to 5",
        ),
        (
            format!("{head}{kind}created_by = [{{ function = \"f\", fd = -1 }}]\n"),
            "x.toml:7: arguments are numbered 0 to 5",
        ),
        (
            format!("{head}{kind}created_by = [{{ fd = 1 }}]\n"),
            "x.toml:7: missing field `function`",
        ),
        (
            format!("{head}{kind}created_by = [7]\n"),
            "x.toml:7: invalid type: integer `7`, expected a function's name",
        ),
        (format!("{head}{kind}created_by = [\"\"]\n"), "x.toml:7: a function has no name"),
        (
            format!(
                "{head}{kind}created_by = [{{ function = \"f\", second = {{ kind = \"z\", argument = 1, mask = 1 }} }}]\n"
            ),
            "x.toml:7: there is no kind `z`",
        ),
        (
            format!("{head}{kind}{good}released_by = [\"f\"]\n"),
            "x.toml:8: function `f` is named twice",
        ),
        (format!("{head}{kind}released_by = [\"g\"]\n"), "x.toml:5: nothing creates a `k`"),
        (format!("{head}{kind}"), "x.toml:5: nothing creates a `k`"),
        (head.to_owned(), "x.toml:1: the pack has no kind"),
        (
            format!("{head}{kind}{good}{kind}created_by = [\"g\"]\n"),
            "x.toml:9: there are two kinds named `k`",
        ),
        (
            format!("name = \"x\"\ntitle = \"x\"\nmarks = []\n{kind}{good}"),
            "x.toml:3: there are no marks",
        ),
        (
            format!("name = \"x\"\ntitle = \"x\"\nmarks = [[]]\n{kind}{good}"),
            "x.toml:3: there are no marks",
        ),
        (
            format!("name = \"x\"\ntitle = \"x\"\nmarks = 3\n{kind}{good}"),
            "x.toml:3: expected names of functions",
        ),
        (format!("name = \"x\"\ntitle = \"x\"\n{kind}{good}"), "missing field `marks`"),
        (
            format!("name = \"\"\ntitle = \"x\"\nmarks = [\"f\"]\n{kind}{good}"),
            "x.toml:1: `` is not a valid name for a pack",
        ),
        (
            format!("{head}[[kind]]\nname = \"a kind\"\nsentence = \"s\"\n{good}"),
            "x.toml:5: `a kind` is not a valid name for a kind",
        ),
        (
            format!("{head}{kind}created_by = [{{ function = \"f\", handle = 1 }}]\n"),
            "x.toml:7: `handle` is not allowed in `created_by`",
        ),
        (
            format!("{head}{kind}created_by = [{{ function = \"f\", offset = 8 }}]\n"),
            "x.toml:7: `offset` needs `handle_at`",
        ),
        (
            format!(
                "{head}{kind}created_by = [{{ function = \"f\", handle_at = 1, handles = 3 }}]\n"
            ),
            "x.toml:7: `handles` is only for a function that stores two handles",
        ),
        (
            format!(
                "{head}{kind}created_by = [{{ function = \"f\", handle_at = 1, first_allocation = true }}]\n"
            ),
            "x.toml:7: `first_allocation` needs `created_by`, without `handle_at` and `first_block`",
        ),
        (
            format!("{head}{kind}created_by = [{{ function = \"f\", success = \"zero\" }}]\n"),
            "x.toml:7: `success` needs `created_by` with `handle_at`",
        ),
        (
            format!("{head}{kind}created_by = [{{ function = \"f\", callback = 1, type = 2 }}]\n"),
            "x.toml:7: kind `k` has a `callback` and a `type`",
        ),
        (
            format!("{head}{kind}{good}released_by = [{{ function = \"g\", fd = 1 }}]\n"),
            "x.toml:8: a destructor gives no information about the object",
        ),
        (
            format!(
                "{head}{kind}{good}released_by = [{{ function = \"g\", handle = 1, handle_at = 1 }}]\n"
            ),
            "x.toml:8: `handle` and `handle_at` exclude each other",
        ),
        (
            format!("{head}{kind}{good}updated_by = [\"g\"]\n"),
            "x.toml:8: the function updates nothing",
        ),
        (
            format!("{head}{kind}{good}destroyed_by = [\"g\"]\n"),
            "x.toml:8: `destroyed_by` is only for caller-allocated objects",
        ),
        (
            format!("{head}{kind}initialized_by = [\"f\"]\n"),
            "x.toml:5: nothing destroys a `k`, which is caller-allocated",
        ),
        (
            format!(
                "{head}{kind}initialized_by = [\"f\"]\ndestroyed_by = [\"g\"]\ncreated_by = [\"h\"]\n"
            ),
            "x.toml:9: a kind has `created_by` and `initialized_by`",
        ),
        (
            format!(
                "{head}{kind}initialized_by = [{{ function = \"f\", handle_at = 1 }}]\ndestroyed_by = [\"g\"]\n"
            ),
            "x.toml:7: `handle_at` is not allowed in `initialized_by`",
        ),
        (
            format!(
                "{head}{kind}{good}layouts = [{{ size = 8, fd = {{ offset = 0, bytes = 3 }} }}]\n"
            ),
            "x.toml:8: a field has 1, 2, 4 or 8 bytes, not 3",
        ),
        (
            format!(
                "{head}{kind}{good}layouts = [{{ size = 8, fd = {{ offset = 6, bytes = 4 }} }}]\n"
            ),
            "x.toml:8: a field at 6 is outside of an object of 8 bytes",
        ),
        (
            format!("{head}{kind}{good}layouts = [{{ size = 8 }}, {{ size = 8 }}]\n"),
            "x.toml:8: there are two layouts for 8 bytes",
        ),
        (
            format!(
                "{head}{kind}created_by = [{{ function = \"f\", type = 1 }}]\ntypes = {{ one = \"ONE\" }}\n"
            ),
            "x.toml:8: `one` is not a type number",
        ),
        (
            format!("{head}only_if = {{ has = [\"f\"] }}\n{kind}{good}"),
            "x.toml:4: unknown field `has`",
        ),
        (format!("{head}only_if = {{}}\n{kind}{good}"), "x.toml:4: `only_if` is empty"),
        (
            format!("{head}only_if = {{ lacks = [\"\"] }}\n{kind}{good}"),
            "x.toml:4: a function has no name",
        ),
        (
            format!(
                "{head}{kind}created_by = [{{ function = \"f\", only_if = {{ build_id = [\"12ab\"] }} }}]\n"
            ),
            "x.toml:7: `12ab` is not a build ID",
        ),
        (
            format!(
                "{head}{kind}{good}layouts = [{{ size = 8, only_if = {{ build_id = [\"libx.so.12\"] }} }}]\n"
            ),
            "x.toml:8: `libx.so.12` is not a build ID",
        ),
        (
            format!(
                "{head}{kind}initialized_by = [\"f\"]\nalive_while = \"pending\"\nlayouts = [{{ size = 8, pending = {{ offset = 0, bytes = 1 }}, only_if = {{ lacks = [\"h\"] }} }}]\n"
            ),
            "x.toml:8: `alive_while` needs the field `pending`",
        ),
        (format!("{head}{kind}created_by = [\"f\"\n"), "x.toml:7: "),
    ] {
        let fault = Pack::parse("x.toml", &text).unwrap_err();
        assert!(fault.text.contains(message), "{}\nwanted: {message}\n{text}", fault.text);
        assert!(!fault.text.contains('\n') && !fault.help.is_empty() && !fault.help.contains('\n'));
    }
}

#[test]
fn a_users_pack_replaces_a_compiled_in_one_and_a_bad_one_is_reported() {
    let folder = std::env::temp_dir().join(format!("leaktrace-packs-{}", std::process::id()));
    fs::create_dir_all(folder.join("directory.toml")).unwrap();
    fs::write(folder.join("b.toml"), SMALL.replace("\"small\"", "\"libzmq\"")).unwrap();
    fs::write(folder.join("a.toml"), "name = 3\n").unwrap();
    fs::write(folder.join("readme.txt"), "no pack").unwrap();
    fs::write(folder.join("named"), SMALL).unwrap();
    let files = vec![folder.join("named"), folder.join("missing")];
    let loaded = Sources { usual: true, folder: Some(folder.clone()), files }.load();
    let names: Vec<&str> = loaded.packs.iter().map(|pack| &*pack.name).collect();
    assert_eq!(names, ["libevent", "openssl", "usockets", "libzmq", "small"]);
    let zmq = loaded.packs.iter().find(|pack| &*pack.name == "libzmq").unwrap();
    assert_eq!(zmq.title, "a small library");
    let faults: Vec<&str> = loaded.faults.iter().map(|fault| fault.text.as_str()).collect();
    let [bad, missing] = faults.as_slice() else { panic!("{faults:?}") };
    assert!(bad.contains("a.toml:1: invalid type: integer `3`, expected a string"), "{bad}");
    assert!(missing.contains("missing: could not read the pack: No such file"), "{missing}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_is_too_long_is_not_a_pack() {
    let path = std::env::temp_dir().join(format!("leaktrace-long-pack-{}", std::process::id()));
    fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    let loaded = Sources { files: vec![path.clone()], ..Sources::default() }.load();
    assert!(loaded.faults.first().unwrap().text.contains("it has more than 1048576 bytes"));
    fs::remove_file(path).unwrap();
}
