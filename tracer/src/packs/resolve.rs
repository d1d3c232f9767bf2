//! Turns a parsed file into object types and rules, and checks that they are consistent.
//!
//! Takes a [`File`], passes on a [`Pack`]. Pure.

use std::sync::Arc;

use toml::Spanned;
use tracer_common::{attach::Shape, object};

use super::{
    Condition, Field, FieldRole, Layout, ObjectType, Origin, Pack, Rule, Word,
    check::{List, complete, fits, once},
    parse::{Argument, Call, FieldTable, File, KindTable, LayoutTable, Marks, Success, Wrong},
};

/// The pack that a file describes.
pub(super) fn pack(file: &File) -> Result<Pack, Wrong> {
    let name: Arc<str> = named(&file.name, "pack")?.into();
    let kinds = file
        .kind
        .iter()
        .map(|table| kind(&name, table.get_ref(), &file.kind).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    if kinds.is_empty() {
        let help = "add a table [[kind]] with its name, a sentence and created_by";
        return Err(Wrong::at(file.name.span(), "the pack has no kind".to_owned(), help));
    }
    let mut seen = Vec::new();
    for table in &file.kind {
        let name = &table.get_ref().name;
        if seen.contains(&name.get_ref()) {
            let what = format!("there are two kinds named `{}`", name.get_ref());
            return Err(Wrong::at(
                name.span(),
                what,
                "give them different names, or merge their tables",
            ));
        }
        seen.push(name.get_ref());
    }
    let mut rules = Vec::new();
    for (table, kind) in file.kind.iter().zip(&kinds) {
        let table = table.get_ref();
        for (list, calls) in lists(table) {
            for call in calls {
                let rule = rule(list, call, table, kind, &kinds)?;
                once(&rule, &rules, call.span())?;
                rules.push(rule);
            }
        }
    }
    for (table, kind) in file.kind.iter().zip(&kinds) {
        complete(table, kind, &rules)?;
    }
    Ok(Pack {
        name,
        title: file.title.clone(),
        marks: marks(&file.marks)?,
        only_if: condition(file.only_if.as_ref())?,
        kinds,
        rules,
        file: "".into(),
        origin: Origin::default(),
    })
}

/// Checks a condition; without one, everything applies to all versions.
fn condition(only_if: Option<&Spanned<Condition>>) -> Result<Condition, Wrong> {
    let Some(only_if) = only_if else { return Ok(Condition::default()) };
    match only_if.get_ref().fault() {
        Some((what, help)) => Err(Wrong::at(only_if.span(), what, help)),
        None => Ok(only_if.get_ref().clone()),
    }
}

/// The lists of functions of a kind.
fn lists(table: &KindTable) -> [(List, &[Spanned<Call>]); 5] {
    [
        (List::Created, &table.created_by),
        (List::Initialized, &table.initialized_by),
        (List::Released, &table.released_by),
        (List::Destroyed, &table.destroyed_by),
        (List::Updated, &table.updated_by),
    ]
}

/// Checks a name that reports and filters use.
fn named<'a>(name: &'a Spanned<String>, of: &str) -> Result<&'a str, Wrong> {
    let text = name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text);
    }
    let what = format!("`{text}` is not a valid name for a {of}");
    Err(Wrong::at(name.span(), what, "use letters, digits, `_` and `-`"))
}

/// Checks the lists of marks.
fn marks(marks: &Spanned<Marks>) -> Result<Vec<Vec<String>>, Wrong> {
    let lists = match marks.get_ref() {
        Marks::All(names) => vec![names.clone()],
        Marks::AnyOf(lists) => lists.clone(),
    };
    if lists.is_empty()
        || lists.iter().any(|names| names.is_empty() || names.iter().any(String::is_empty))
    {
        let help =
            "name two or three functions that every copy of the library defines, and nothing else";
        return Err(Wrong::at(
            marks.span(),
            "there are no marks to identify the library".to_owned(),
            help,
        ));
    }
    Ok(lists)
}

/// An object type, without its functions.
fn kind(
    library: &Arc<str>,
    table: &KindTable,
    all: &[Spanned<KindTable>],
) -> Result<ObjectType, Wrong> {
    let mut layouts = Vec::<Layout>::new();
    for one in &table.layouts {
        let layout = layout(one)?;
        if layouts.iter().any(|other| other.size == layout.size && other.only_if.is_none()) {
            let what = format!("there are two layouts for {} bytes", layout.size);
            return Err(Wrong::at(
                one.span(),
                what,
                "distinguish versions with `only_if` in the earlier one, or leave out their fields",
            ));
        }
        layouts.push(layout);
    }
    Ok(ObjectType {
        name: named(&table.name, "kind")?.into(),
        library: Arc::clone(library),
        sentence: table.sentence.clone(),
        fd_is: table.fd_is,
        word: word(table, all)?,
        is_asked: has_destructor(table, all),
        layouts,
        blocks: table.blocks.clone(),
        owns_within: table.owns_within,
        queue: table.queue,
    })
}

/// Whether the pack names a destructor. A kind that a constructor of another kind creates shares its destructors.
fn has_destructor(table: &KindTable, all: &[Spanned<KindTable>]) -> bool {
    let creates = |call: &Spanned<Call>| {
        let second = call.get_ref().0.second.as_ref();
        second.is_some_and(|second| &second.get_ref().kind == table.name.get_ref())
    };
    let mut others =
        all.iter().map(Spanned::get_ref).filter(|one| one.created_by.iter().any(creates));
    !table.released_by.is_empty() || others.any(|one| !one.released_by.is_empty())
}

/// What the recorded word of a kind's objects is. All constructors and updating functions must agree on it.
fn word(table: &KindTable, all: &[Spanned<KindTable>]) -> Result<Word, Wrong> {
    let own = lists(table).into_iter().flat_map(|(_, calls)| calls);
    let is_second = |call: &&Spanned<Call>| {
        let second = call.get_ref().0.second.as_ref();
        second.is_some_and(|second| &second.get_ref().kind == table.name.get_ref())
    };
    let others = all.iter().flat_map(|other| &other.get_ref().created_by).filter(is_second);
    let calls: Vec<_> = own.chain(others).collect();
    let callback = calls.iter().find(|call| call.get_ref().0.callback.is_some());
    let number = calls.iter().find(|call| call.get_ref().0.number.is_some());
    if let (Some(_), Some(call)) = (callback, number) {
        let what = format!("kind `{}` has a `callback` and a `type`", table.name.get_ref());
        return Err(Wrong::at(call.span(), what, "leaktrace records only one: leave one out"));
    }
    let mut names = Vec::new();
    for (number, name) in table.types.iter().flatten() {
        let Ok(parsed) = number.get_ref().parse() else {
            let what = format!("`{}` is not a type number", number.get_ref());
            return Err(Wrong::at(
                number.span(),
                what,
                "write types = { 0 = \"PAIR\", 1 = \"PUB\" }",
            ));
        };
        names.push((parsed, name.clone()));
    }
    names.sort();
    match (callback, number) {
        (Some(_), _) => Ok(Word::Function),
        (None, Some(_)) => Ok(Word::Number(names)),
        (None, None) => Ok(Word::None),
    }
}

/// The layout of one version.
fn layout(table: &Spanned<LayoutTable>) -> Result<Layout, Wrong> {
    let LayoutTable { size, only_if, fd, queued, references, pending, owner, callback } =
        table.get_ref();
    let roles = [
        (FieldRole::Fd, fd),
        (FieldRole::Queued, queued),
        (FieldRole::References, references),
        (FieldRole::Pending, pending),
        (FieldRole::Owner, owner),
        (FieldRole::Callback, callback),
    ];
    let mut fields = Vec::new();
    for (role, field) in roles {
        let Some(FieldTable { offset, bytes, mask }) = *field else { continue };
        let all = match bytes {
            1 | 2 | 4 => (1 << (u32::from(bytes) * 8)) - 1,
            8 => u64::MAX,
            _ => {
                let what = format!("a field has 1, 2, 4 or 8 bytes, not {bytes}");
                return Err(Wrong::at(
                    table.span(),
                    what,
                    "`bytes` is the size of the field's type",
                ));
            }
        };
        if u64::from(offset) + u64::from(bytes) > *size {
            let what = format!("a field at {offset} is outside of an object of {size} bytes");
            return Err(Wrong::at(
                table.span(),
                what,
                "`size` is the size of the object's whole block",
            ));
        }
        fields.push(Field { role, offset, bytes, mask: mask.unwrap_or(all) });
    }
    Ok(Layout { size: *size, fields, only_if: condition(only_if.as_ref())? })
}

/// The rule for one function.
fn rule(
    list: List,
    call: &Spanned<Call>,
    table: &KindTable,
    kind: &Arc<ObjectType>,
    kinds: &[Arc<ObjectType>],
) -> Result<Rule, Wrong> {
    let span = call.span();
    let call = &call.get_ref().0;
    if call.function.0.is_empty() || call.function.0.iter().any(String::is_empty) {
        let help = "write the function's symbol, as nm -D shows it";
        return Err(Wrong::at(span, "a function has no name".to_owned(), help));
    }
    fits(list, call, table).map_err(|(what, help)| Wrong::at(span.clone(), what, help))?;
    let second = call.second.as_ref().map(|second| {
        let found = kinds.iter().find(|kind| *kind.name == second.get_ref().kind);
        found.map(Arc::clone).ok_or_else(|| {
            let what = format!("there is no kind `{}`", second.get_ref().kind);
            Wrong::at(second.span(), what, "add a table [[kind]] with this name")
        })
    });
    let number = |argument: Option<Argument>| argument.map_or(object::NONE, |argument| argument.0);
    let handle = match (list, call.handle, call.handle_at) {
        (List::Created, _, at) => number(at),
        (_, handle, at) => handle.or(at).map_or(0, |argument| argument.0),
    };
    let (does, shape) = match list {
        List::Created if call.first_allocation => {
            (object::CONSTRUCT_MAYBE_FIRST_BLOCK, Shape::Construct)
        }
        List::Created if call.first_block => (object::CONSTRUCT_FIRST_BLOCK, Shape::Construct),
        List::Created => (object::CONSTRUCT, Shape::Construct),
        List::Initialized => (object::CONSTRUCT, Shape::ConstructInPlace),
        List::Released => (object::REQUEST_RELEASE, Shape::Note),
        List::Destroyed => (object::END, Shape::Note),
        List::Updated => (object::UPDATE, Shape::Note),
    };
    let test = call.second.as_ref().map(Spanned::get_ref);
    Ok(Rule {
        names: call.function.0.clone(),
        shape,
        function: object::Function {
            does,
            handle,
            through: call.handles.unwrap_or(call.handle_at.is_some().into()),
            own: match (table.initialized_by.is_empty(), &table.alive_while) {
                (true, _) => object::BLOCK,
                (false, None) => object::BY_FUNCTION,
                (false, Some(_)) => object::BY_MEMORY,
            },
            fd: number(call.fd),
            word: number(call.callback.or(call.number)),
            owner: number(call.owner),
            text: number(call.text),
            test: test.map_or(object::NONE, |test| test.argument.0),
            number: (call.success == Some(Success::NotNegative)).into(),
            offset: call.offset,
            mask: test.map_or(0, |test| test.mask),
        },
        throws: call.throws,
        only_if: condition(call.only_if.as_ref())?,
        kind: Arc::clone(kind),
        second: second.transpose()?,
        // A byte offset; `Pack::parse`, which has the text, turns it into a line number.
        line: span.start,
    })
}
