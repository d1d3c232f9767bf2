//! The lists of the screen, and what a table needs from an item.
//!
//! Pure. Call sites, open descriptors, connections and clients are items of one widget: their differences are data,
//! here and in `columns`.

mod findings;
mod objects;

use std::collections::HashSet;

use super::{
    columns::{self, Column, Entry, TableContext},
    model::{ColumnId, SortOrder},
};
use crate::report::{Address, Client, Connection, Fd, Leaving, Named, Report, Site, Word};

/// Which list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// What leaks, or may, by cause.
    Findings,
    /// Call sites.
    Sites,
    /// Open file descriptors, below a summary by type.
    Fds,
    /// Connections, open and recently closed.
    Connections,
    /// Connections summed by remote address.
    Clients,
    /// Resources that closed connections left behind, by the acquiring function.
    Leaving,
    /// Library objects, by type.
    ObjectTypes,
    /// Single library objects.
    Objects,
}

/// The identity of an item, independent of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// Of a finding: its own identity, the same in every run.
    Finding(String),
    /// Of a call site.
    Site(u32),
    /// Of a descriptor: its process and number.
    Fd(u32, u32),
    /// Of a connection.
    Connection(u64),
    /// Of a client: its address.
    Client(String),
    /// Of a function whose resources were left behind: one of its call sites.
    Leaving(u32),
    /// Of a type of objects: its name.
    ObjectType(String),
    /// Of an object: its process, call site and address.
    Object(u32, u32, Address),
    /// Of an item without a cursor.
    None,
}

/// An item that a table can show as a row.
pub trait Listed: Sized + 'static {
    /// Its columns.
    const COLUMNS: &'static [Column<Self>];

    /// Number of items.
    fn number(context: &TableContext<'_>) -> usize;

    /// The item at an index of the report.
    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self>;

    /// Its identity.
    fn id(&self) -> Id;

    /// Whether this is its identity.
    fn is(&self, id: &Id) -> bool {
        self.id() == *id
    }

    /// Number of the call site that belongs to it.
    fn site(&self) -> Option<u32>;

    /// Whether one of these call sites belongs to it.
    fn is_of(&self, sites: &HashSet<u32>) -> bool {
        self.site().is_some_and(|site| sites.contains(&site))
    }

    /// Its title above its call site; `None` for a call site, or for an item without a title.
    fn label(&self) -> Option<String> {
        None
    }

    /// Whether it is hidden unless requested: nothing to look at first.
    fn is_folded(&self) -> bool {
        false
    }

    /// Its object type, or the one that it is about; `None` if only its call site has it.
    fn type_name(&self) -> Option<&str> {
        None
    }

    /// Whether one of its own texts contains a lower-case word; texts of its call site are checked elsewhere.
    fn has(&self, word: &str) -> bool;
}

impl Listed for Site {
    const COLUMNS: &'static [Column<Self>] = columns::SITES;

    fn number(context: &TableContext<'_>) -> usize {
        context.report.sites.len()
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.report.sites.get(at)
    }

    fn id(&self) -> Id {
        Id::Site(self.id)
    }

    fn site(&self) -> Option<u32> {
        Some(self.id)
    }

    fn has(&self, _: &str) -> bool {
        false
    }
}

impl Listed for Fd {
    const COLUMNS: &'static [Column<Self>] = columns::FDS;

    fn number(context: &TableContext<'_>) -> usize {
        context.report.fds.as_ref().map_or(0, |fds| fds.table.len())
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.report.fds.as_ref()?.table.get(at)
    }

    fn id(&self) -> Id {
        Id::Fd(self.pid, self.fd)
    }

    fn site(&self) -> Option<u32> {
        self.site
    }

    fn label(&self) -> Option<String> {
        Some(format!("fd {}", self.fd))
    }

    fn has(&self, word: &str) -> bool {
        contains(self.fd_type.name(), word)
            || any([&self.what, &self.peer, &self.local], word)
            || is_named(self.acquired_by.as_ref(), word)
            || is_named(self.state.as_ref(), word)
    }
}

impl Listed for Connection {
    const COLUMNS: &'static [Column<Self>] = columns::CONNECTIONS;

    fn number(context: &TableContext<'_>) -> usize {
        let all = context.report.connections.as_ref();
        all.map_or(0, |all| all.table.len() + all.recently_closed.len())
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        let all = context.report.connections.as_ref()?;
        match at.checked_sub(all.table.len()) {
            None => all.table.get(at),
            Some(at) => all.recently_closed.get(at),
        }
    }

    fn id(&self) -> Id {
        Id::Connection(self.id)
    }

    fn site(&self) -> Option<u32> {
        self.site
    }

    fn label(&self) -> Option<String> {
        self.peer.clone().or_else(|| Some(format!("connection {}", self.id)))
    }

    fn has(&self, word: &str) -> bool {
        contains(self.protocol.name(), word)
            || any([&self.local, &self.peer], word)
            || is_named(self.state.as_ref(), word)
            || is_named(self.closed_by.as_ref(), word)
    }
}

impl Listed for Client {
    const COLUMNS: &'static [Column<Self>] = columns::CLIENTS;

    fn number(context: &TableContext<'_>) -> usize {
        context.report.connections.as_ref().map_or(0, |all| all.clients.len())
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.report.connections.as_ref()?.clients.get(at)
    }

    fn id(&self) -> Id {
        Id::Client(self.address.clone())
    }

    fn is(&self, id: &Id) -> bool {
        matches!(id, Id::Client(address) if *address == self.address)
    }

    fn site(&self) -> Option<u32> {
        None
    }

    fn has(&self, word: &str) -> bool {
        contains(&self.address, word)
    }
}

impl Listed for Leaving {
    const COLUMNS: &'static [Column<Self>] = columns::LEAVING;

    fn number(context: &TableContext<'_>) -> usize {
        context.summary.leaving.len()
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.summary.leaving.get(at)
    }

    fn id(&self) -> Id {
        self.site().map_or(Id::None, Id::Leaving)
    }

    // The worst of its call sites may change.
    fn is(&self, id: &Id) -> bool {
        matches!(id, Id::Leaving(site) if self.sites.contains(site))
    }

    fn site(&self) -> Option<u32> {
        self.sites.first().copied()
    }

    fn is_of(&self, sites: &HashSet<u32>) -> bool {
        self.sites.iter().any(|site| sites.contains(site))
    }

    fn has(&self, _: &str) -> bool {
        false
    }
}

impl Listed for super::summary::TypeRow {
    const COLUMNS: &'static [Column<Self>] = columns::TYPES;

    fn number(context: &TableContext<'_>) -> usize {
        context.summary.types.len()
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.summary.types.get(at)
    }

    fn id(&self) -> Id {
        Id::None
    }

    fn site(&self) -> Option<u32> {
        None
    }

    fn has(&self, word: &str) -> bool {
        contains(self.fd_type.name(), word)
    }
}

/// The column of a table; `None` if the table lacks it.
pub fn column<T: Listed>(by: ColumnId) -> Option<&'static Column<T>> {
    T::COLUMNS.iter().find(|column| column.by == by)
}

/// Runs the same code for the given list: `$item` is the item type there.
macro_rules! with_items {
    ($list:expr, $item:ident => $work:expr) => {
        match $list {
            $crate::tui::lists::List::Findings => {
                type $item = $crate::report::Finding;
                $work
            }
            $crate::tui::lists::List::Sites => {
                type $item = $crate::report::Site;
                $work
            }
            $crate::tui::lists::List::Fds => {
                type $item = $crate::report::Fd;
                $work
            }
            $crate::tui::lists::List::Connections => {
                type $item = $crate::report::Connection;
                $work
            }
            $crate::tui::lists::List::Clients => {
                type $item = $crate::report::Client;
                $work
            }
            $crate::tui::lists::List::Leaving => {
                type $item = $crate::report::Leaving;
                $work
            }
            $crate::tui::lists::List::ObjectTypes => {
                type $item = $crate::report::ObjectType;
                $work
            }
            $crate::tui::lists::List::Objects => {
                type $item = $crate::report::LibraryObject;
                $work
            }
        }
    };
}
pub(crate) use with_items;

impl List {
    /// The initial order: worst first, or the report's own.
    pub const fn first_sort(self) -> SortOrder {
        let by = match self {
            Self::Findings | Self::Sites => ColumnId::Verdict,
            Self::Fds => ColumnId::Fd,
            Self::Connections | Self::Clients => ColumnId::Orphans,
            Self::Leaving => ColumnId::Leaving,
            Self::ObjectTypes => ColumnId::Owned,
            Self::Objects => ColumnId::Age,
        };
        SortOrder { by, reversed: false }
    }

    /// Whether it is a list of connections.
    pub const fn is_of_connections(self) -> bool {
        matches!(self, Self::Connections | Self::Clients | Self::Leaving)
    }

    /// Whether it is a list of library objects.
    pub const fn is_of_objects(self) -> bool {
        matches!(self, Self::ObjectTypes | Self::Objects)
    }

    /// Number of items, whether they pass the filter or not.
    pub fn number(self, context: &TableContext<'_>) -> usize {
        with_items!(self, Item => Item::number(context))
    }

    /// Columns by which it may be sorted now.
    pub fn sortable(self, context: &TableContext<'_>) -> Vec<ColumnId> {
        with_items!(self, Item => {
            let there = Item::COLUMNS.iter().filter(|column| column.may_sort(context));
            there.map(|column| column.by).collect()
        })
    }

    /// The identity of the item at an index of the report.
    pub fn id(self, context: &TableContext<'_>, at: usize) -> Option<Id> {
        with_items!(self, Item => Item::get(context, at).map(Listed::id))
    }

    /// The position of this item in an order of indexes.
    pub fn find(self, context: &TableContext<'_>, order: &[usize], id: &Id) -> Option<usize> {
        with_items!(self, Item => {
            order.iter().position(|at| Item::get(context, *at).is_some_and(|item| item.is(id)))
        })
    }

    /// Whether the item at an index of the report is hidden unless requested.
    pub fn is_folded(self, context: &TableContext<'_>, at: usize) -> bool {
        with_items!(self, Item => Item::get(context, at).is_some_and(Listed::is_folded))
    }

    /// The title of the item at an index of the report, shown above its call site.
    pub fn label(self, context: &TableContext<'_>, at: usize) -> Option<String> {
        with_items!(self, Item => Item::get(context, at).and_then(Listed::label))
    }

    /// The call site of the item at an index of the report.
    pub fn site<'a>(self, context: &TableContext<'a>, at: usize) -> Option<&'a Site> {
        with_items!(self, Item => context.site(Item::get(context, at)?.site()?))
    }
}

impl<'a> TableContext<'a> {
    /// The call site with this number.
    pub fn site(&self, number: u32) -> Option<&'a Site> {
        self.report.sites.get(*self.summary.site_at.get(&number)?)
    }

    /// An item with its context.
    pub fn entry<T: Listed>(&self, at: usize) -> Option<Entry<'a, T>> {
        Some(Entry { item: T::get(self, at)?, at, context: *self })
    }
}

/// Whether there are connections, descriptors or objects to list beside findings and call sites.
pub fn has_other_lists(report: &Report) -> bool {
    report.connections.is_some()
        || report.fds.is_some() && report.light.is_none()
        || report.objects.as_ref().is_some_and(|objects| !objects.types.is_empty())
}

fn any<const N: usize>(texts: [&Option<String>; N], word: &str) -> bool {
    texts.into_iter().flatten().any(|text| contains(text, word))
}

fn is_named<T: Named>(name: Option<&Word<T>>, word: &str) -> bool {
    name.is_some_and(|name| contains(name.name(), word))
}

/// Whether `text` contains the lower-case `word`, ignoring case in `text`.
pub fn contains(text: &str, word: &str) -> bool {
    let (Some(first), true) = (word.bytes().next(), word.is_ascii()) else {
        return word.is_empty() || text.to_lowercase().contains(word);
    };
    let upper = first.to_ascii_uppercase();
    let text = text.as_bytes();
    let starts = text.len().saturating_sub(word.len() - 1);
    text.iter().take(starts).enumerate().any(|(at, byte)| {
        (*byte == first || *byte == upper)
            && text
                .get(at..at + word.len())
                .is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    })
}
