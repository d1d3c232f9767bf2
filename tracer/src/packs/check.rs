//! Checks a pack: the keys of each function in its list, and all rules together.
//!
//! Takes tables and rules, passes on what is wrong with them. Pure.

use std::{ops::Range, sync::Arc};

use toml::Spanned;
use tracer_common::object;

use super::{
    FieldRole, ObjectType, Rule,
    parse::{CallTable, KindTable, Wrong},
};

/// The lists of functions that a kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// `created_by`
    Created,
    /// `initialized_by`
    Initialized,
    /// `released_by`
    Released,
    /// `destroyed_by`
    Destroyed,
    /// `updated_by`
    Updated,
}

/// Checks the keys of a function in its list. An error is what is wrong, and how to fix it.
pub(super) fn fits(
    list: List,
    call: &CallTable,
    table: &KindTable,
) -> Result<(), (String, &'static str)> {
    let informs =
        [call.fd, call.callback, call.number, call.owner, call.text].iter().any(Option::is_some);
    let wrong = |what: &str, help| Err((what.to_owned(), help));
    match list {
        List::Created if call.handle.is_some() => wrong(
            "`handle` is not allowed in `created_by`",
            "leave it out if the function returns the handle; use handle_at if it stores it through an argument",
        ),
        _ if call.first_allocation
            && (list != List::Created || call.handle_at.is_some() || call.first_block) =>
        {
            wrong(
                "`first_allocation` needs `created_by`, without `handle_at` and `first_block`",
                "use it only where neither the return value nor an argument leads to the object",
            )
        }
        List::Initialized if call.handle_at.is_some() => wrong(
            "`handle_at` is not allowed in `initialized_by`",
            "use `handle` for the argument that is the object's address",
        ),
        List::Released | List::Destroyed if informs || call.second.is_some() => wrong(
            "a destructor gives no information about the object",
            "keep only `function`, `handle` and `handle_at`",
        ),
        List::Updated if !informs => wrong(
            "the function updates nothing",
            "give the argument that is the object's fd, callback, type, owner or text",
        ),
        List::Updated if call.second.is_some() => {
            wrong("only a constructor can choose between kinds", "leave out `second`")
        }
        _ if call.handle.is_some() && call.handle_at.is_some() => wrong(
            "`handle` and `handle_at` exclude each other",
            "keep `handle` for the handle itself, `handle_at` for a pointer to it",
        ),
        _ if call.handles.is_some_and(|count| {
            count != 2 || list != List::Created || call.handle_at.is_none()
        }) =>
        {
            wrong(
                "`handles` is only for a function that stores two handles",
                "write `handles = 2`, in created_by, with handle_at",
            )
        }
        _ if call.offset != 0 && call.handle_at.is_none() => wrong(
            "`offset` needs `handle_at`",
            "it counts from the address that handle_at points to",
        ),
        _ if call.success.is_some() && (list != List::Created || call.handle_at.is_none()) => {
            wrong(
                "`success` needs `created_by` with `handle_at`",
                "leave it out: a function that returns the handle succeeds if that is not 0",
            )
        }
        _ if call.callback.is_some() && call.number.is_some() => wrong(
            "`callback` and `type` exclude each other",
            "leaktrace records only one: leave one out",
        ),
        List::Created if !table.initialized_by.is_empty() => {
            wrong("a kind has `created_by` and `initialized_by`", "split it into two kinds")
        }
        List::Destroyed if table.alive_while.is_some() => wrong(
            "a kind has `destroyed_by` and `alive_while`",
            "keep `destroyed_by` if a function destroys each object, `alive_while` if only a field shows it",
        ),
        List::Destroyed if table.initialized_by.is_empty() => wrong(
            "`destroyed_by` is only for caller-allocated objects",
            "use released_by: an object that a constructor returns ends with its heap block",
        ),
        _ => Ok(()),
    }
}

/// Checks that the pack names a function once. A function may appear again if the earlier rule has a condition, or if
/// it is a destructor that does the same to objects of another kind.
pub(super) fn once(rule: &Rule, earlier: &[Rule], span: Range<usize>) -> Result<(), Wrong> {
    let is_destructor = matches!(rule.function.does, object::REQUEST_RELEASE | object::END);
    let differs = |other: &Rule| {
        let same = (&other.names, other.function) == (&rule.names, rule.function);
        other.only_if.is_none() && (!is_destructor || !same || other.kind == rule.kind)
    };
    for name in &rule.names {
        let mut others = earlier.iter().filter(|other| other.names.contains(name));
        if others.any(differs) {
            let what = format!("function `{name}` is named twice");
            let help = "name a function once, unless the earlier entry has `only_if`; a destructor may appear in several kinds, with the same entry";
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

/// Checks that a kind has a constructor and, if its objects are caller-allocated, an end.
pub(super) fn complete(
    table: &Spanned<KindTable>,
    kind: &Arc<ObjectType>,
    rules: &[Rule],
) -> Result<(), Wrong> {
    let mut constructors = rules.iter().filter(|rule| rule.function.makes());
    let name = &table.get_ref().name;
    if kind.blocks.is_empty()
        && !constructors.any(|rule| rule.kind == *kind || rule.second.as_ref() == Some(kind))
    {
        let what = format!("nothing creates a `{}`", name.get_ref());
        return Err(Wrong::at(
            name.span(),
            what,
            "add created_by, or initialized_by for caller-allocated objects",
        ));
    }
    let table = table.get_ref();
    if let Some(alive_while) = &table.alive_while
        && (table.initialized_by.is_empty()
            || kind.only(FieldRole::Pending).is_none()
            || kind.layouts.iter().any(|layout| !layout.only_if.is_none()))
    {
        return Err(Wrong::at(
            alive_while.span(),
            "`alive_while` needs the field `pending`".to_owned(),
            "use it with initialized_by and one layout, for all versions, that has the field `pending`",
        ));
    }
    if !table.initialized_by.is_empty()
        && table.destroyed_by.is_empty()
        && table.alive_while.is_none()
    {
        let what = format!("nothing destroys a `{}`, which is caller-allocated", name.get_ref());
        return Err(Wrong::at(name.span(), what, "add destroyed_by, or alive_while"));
    }
    Ok(())
}
