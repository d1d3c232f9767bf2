//! The functions at one place in a file: blazesym's symbols as our own type.
//!
//! Takes blazesym's symbols, returns [`Level`]s, innermost first. Pure.

use std::{borrow::Cow, sync::Arc};

use blazesym::symbolize::{CodeInfo, Sym};

use super::mangled;

/// One function at a place: there are several when functions were inlined there, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) symbol: Option<Arc<str>>,
    /// From the function's start to the return address.
    pub(super) offset: Option<u64>,
    pub(super) file: Option<Arc<str>>,
    pub(super) line: Option<u32>,
    pub(super) inlined: bool,
    pub(super) why_unnamed: Option<Cow<'static, str>>,
}

impl Level {
    /// A level without a name, and why.
    pub(super) fn unnamed(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why_unnamed: Some(why.into()), ..Self::default() }
    }

    fn named(name: &str, place: Option<&CodeInfo<'_>>) -> Self {
        let name = without_clone(name);
        let readable = mangled::readable(name);
        Self {
            symbol: (!name.is_empty()).then(|| readable.as_deref().unwrap_or(name).into()),
            file: place.map(|place| place.to_path().to_string_lossy().into()),
            line: place.and_then(|place| place.line),
            why_unnamed: name.is_empty().then_some(Cow::Borrowed("the function has no name")),
            ..Self::default()
        }
    }
}

/// Debug information may have only a function's last name (`-g1`, line tables only, functions local to a C++ file),
/// where the symbol table has the full name: namespaces, class, parameters.
pub(super) fn qualify(level: &mut Level, whole: &str) {
    let whole = without_clone(whole);
    if let Some(last) = level.symbol.as_deref() {
        let function = format!("{last}(");
        if whole.ends_with(&format!("::{last}"))
            || whole.contains(&format!("::{function}"))
            || whole.starts_with(&function)
        {
            level.symbol = Some(whole.into());
        }
    }
}

/// A demangled name without the compiler's clone suffix: the reader of the source sees the same function.
fn without_clone(name: &str) -> &str {
    name.split_once(" [clone ").map_or(name, |(function, _)| function)
}

/// The inlined functions, innermost first, then the real one. blazesym gives each level the source position reached
/// in it: for an outer one, that of the inlined call.
pub(super) fn read(sym: &Sym<'_>) -> Vec<Level> {
    let inlined = sym.inlined.iter().rev().map(|function| Level {
        inlined: true,
        ..Level::named(&function.name, function.code_info.as_ref())
    });
    // The start of a function whose code is split into several parts may be unknown.
    let known_start = sym.addr != 0 && sym.size.is_none_or(|size| sym.offset < size);
    let real = Level {
        // From the call's last byte to the return address.
        offset: u64::try_from(sym.offset).ok().filter(|_| known_start).map(|offset| offset + 1),
        ..Level::named(&sym.name, sym.code_info.as_deref())
    };
    inlined.chain([real]).collect()
}
