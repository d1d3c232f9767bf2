//! Whether what a pack says can be: each function in its list, and all of them together.
//!
//! Takes tables and rules, hands on what is wrong. Pure.

use std::{ops::Range, sync::Arc};

use toml::Spanned;
use tracer_common::object;

use super::{
    FieldRole, ObjectType, Rule,
    parse::{CallTable, KindTable, Wrong},
};

/// What a list of functions is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// `made_by`
    Made,
    /// `placed_by`
    Placed,
    /// `released_by`
    Released,
    /// `ended_by`
    Ended,
    /// `told_by`
    Told,
}

/// Whether a function's keys make sense in its list: else what is wrong, and what helps.
pub(super) fn fits(
    list: List,
    call: &CallTable,
    table: &KindTable,
) -> Result<(), (String, &'static str)> {
    let says =
        [call.fd, call.callback, call.number, call.owner, call.text].iter().any(Option::is_some);
    let wrong = |what: &str, help| Err((what.to_owned(), help));
    match list {
        List::Made if call.handle.is_some() => wrong(
            "what makes an object has no `handle`",
            "leave it out when the handle is returned; use handle_at when it is stored through an argument",
        ),
        _ if call.untold
            && (list != List::Made || call.handle_at.is_some() || call.first_block) =>
        {
            wrong(
                "`untold` is there where the handle is told, or none is made",
                "it stands alone, in made_by, where neither what is returned nor an argument leads to the object",
            )
        }
        List::Placed if call.handle_at.is_some() => wrong(
            "what places an object has no `handle_at`",
            "name with `handle` the argument that is the object's address",
        ),
        List::Released | List::Ended if says || call.second.is_some() => wrong(
            "what releases or ends an object tells nothing of it",
            "keep `function`, `handle` and `handle_at`",
        ),
        List::Told if !says => wrong(
            "nothing is told of the object",
            "say which argument is its fd, callback, type, owner or text",
        ),
        List::Told if call.second.is_some() => {
            wrong("only what makes an object chooses between kinds", "leave out `second`")
        }
        _ if call.handle.is_some() && call.handle_at.is_some() => wrong(
            "`handle` and `handle_at` are both there",
            "keep `handle` for the handle itself, `handle_at` for a pointer to it",
        ),
        _ if call
            .handles
            .is_some_and(|count| count != 2 || list != List::Made || call.handle_at.is_none()) =>
        {
            wrong(
                "`handles` is for what stores two of them",
                "write `handles = 2`, in made_by, with handle_at",
            )
        }
        _ if call.offset != 0 && call.handle_at.is_none() => wrong(
            "`offset` is there without `handle_at`",
            "it counts from where handle_at points to",
        ),
        _ if call.success.is_some() && (list != List::Made || call.handle_at.is_none()) => wrong(
            "`success` is there where no success is looked for",
            "it is for made_by with handle_at: else a handle that is not 0 says it",
        ),
        _ if call.callback.is_some() && call.number.is_some() => wrong(
            "`callback` and `type` are both there",
            "one of them is kept: leave out the other",
        ),
        List::Made if !table.placed_by.is_empty() => {
            wrong("a kind is made or placed, not both", "make two kinds of it")
        }
        List::Ended if table.there_while.is_some() => wrong(
            "a kind has `ended_by` and `there_while`",
            "keep `ended_by` where a function ends each of them, `there_while` where only their fields tell",
        ),
        List::Ended if table.placed_by.is_empty() => wrong(
            "only what is placed in memory of its caller's is ended by a function",
            "use released_by: what was made ends with its heap block",
        ),
        _ => Ok(()),
    }
}

/// Whether its function is named here for the first time, or was so for some versions only, or does the same to objects of
/// another kind: handles that are all ended by one function.
pub(super) fn once(rule: &Rule, earlier: &[Rule], span: Range<usize>) -> Result<(), Wrong> {
    let ends = matches!(rule.function.does, object::REQUEST_RELEASE | object::END);
    let differs = |other: &Rule| {
        let same = (&other.names, other.function) == (&rule.names, rule.function);
        other.only_if.is_none() && (!ends || !same || other.kind == rule.kind)
    };
    for name in &rule.names {
        let mut others = earlier.iter().filter(|other| other.names.contains(name));
        if others.any(differs) {
            let what = format!("function `{name}` is named twice");
            let help = "a function does one thing, to one kind, unless the earlier one has `only_if`; but what releases or ends objects may do so to several kinds";
            return Err(Wrong::at(span, what, help));
        }
    }
    let mut own = rule.names.iter().enumerate();
    match own.find(|(at, name)| rule.names.iter().take(*at).any(|one| one == *name)) {
        Some((_, name)) => {
            Err(Wrong::at(span, format!("function `{name}` is named twice"), "leave one out"))
        }
        None => Ok(()),
    }
}

/// Whether anything makes a kind, and what is placed has an end.
pub(super) fn made(
    table: &Spanned<KindTable>,
    kind: &Arc<ObjectType>,
    rules: &[Rule],
) -> Result<(), Wrong> {
    let mut makers = rules.iter().filter(|rule| rule.function.makes());
    let name = &table.get_ref().name;
    if kind.blocks.is_empty()
        && !makers.any(|rule| rule.kind == *kind || rule.second.as_ref() == Some(kind))
    {
        let what = format!("nothing makes a `{}`", name.get_ref());
        return Err(Wrong::at(
            name.span(),
            what,
            "add made_by, or placed_by for objects in memory of their caller's",
        ));
    }
    let table = table.get_ref();
    if let Some(there_while) = &table.there_while
        && (table.placed_by.is_empty()
            || kind.only(FieldRole::Pending).is_none()
            || kind.layouts.iter().any(|layout| !layout.only_if.is_none()))
    {
        return Err(Wrong::at(
            there_while.span(),
            "nothing says where `pending` is".to_owned(),
            "there_while is for placed_by, with one layout, for all versions, that has the field `pending`",
        ));
    }
    if !table.placed_by.is_empty() && table.ended_by.is_empty() && table.there_while.is_none() {
        let what =
            format!("nothing ends a `{}`, which lies in memory of its caller's", name.get_ref());
        return Err(Wrong::at(name.span(), what, "add ended_by, or there_while"));
    }
    Ok(())
}
