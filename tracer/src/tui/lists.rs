//! What the screen can list, and what a table has to know of an item.
//!
//! Pure. Call sites, open descriptors, connections and clients are items of one widget: what differs is here and
//! in `columns`, as data.

mod objects;

use std::collections::HashSet;

use super::columns::{self, By, Column, Entry, SortOrder, TableContext};
use crate::report::{Address, Client, Connection, Fd, Leaving, Named, Report, Site, Word};

/// Which list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Call sites.
    Sites,
    /// Open file descriptors, below a summary by type.
    Fds,
    /// Connections, open and lately closed.
    Connections,
    /// Connections summed by the address on the other side.
    Clients,
    /// What closed connections left behind, by the function that acquired it.
    Leaving,
    /// Objects of libraries, by type.
    ObjectTypes,
    /// The same one by one.
    Objects,
}

/// What an item keeps when the order changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
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
    /// Of what has no cursor.
    None,
}

/// An item that a table can have a row of.
pub trait Listed: Sized + 'static {
    /// Its columns.
    const COLUMNS: &'static [Column<Self>];

    /// How many there are.
    fn number(context: &TableContext<'_>) -> usize;

    /// The one at a place of the report.
    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self>;

    /// What tells it from others.
    fn id(&self) -> Id;

    /// Whether it is this one.
    fn is(&self, id: &Id) -> bool {
        self.id() == *id
    }

    /// Number of the call site that belongs to it.
    fn site(&self) -> Option<u32>;

    /// Whether one of these call sites belongs to it.
    fn is_of(&self, sites: &HashSet<u32>) -> bool {
        self.site().is_some_and(|site| sites.contains(&site))
    }

    /// What stands for it above its call site; `None` for one that is a call site, or has none.
    fn label(&self) -> Option<String> {
        None
    }

    /// The type of object that it is, or is about; `None` where only its call site tells.
    fn type_name(&self) -> Option<&str> {
        None
    }

    /// Whether a lower-case word is in one of its own texts; those of its call site are looked at elsewhere.
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
        context.digest.leaving.len()
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.digest.leaving.get(at)
    }

    fn id(&self) -> Id {
        self.site().map_or(Id::None, Id::Leaving)
    }

    // Which of its call sites is the worst may change.
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

impl Listed for super::digest::TypeRow {
    const COLUMNS: &'static [Column<Self>] = columns::TYPES;

    fn number(context: &TableContext<'_>) -> usize {
        context.digest.types.len()
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.digest.types.get(at)
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

/// The same work for whichever list: `$item` is its type there.
macro_rules! with_items {
    ($list:expr, $item:ident => $work:expr) => {
        match $list {
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
    /// How it is ordered at first: what is worst, or as the report has it.
    pub const fn first_sort(self) -> SortOrder {
        let by = match self {
            Self::Sites => By::Verdict,
            Self::Fds => By::Fd,
            Self::Connections | Self::Clients => By::Orphans,
            Self::Leaving => By::Leaving,
            Self::ObjectTypes => By::Owned,
            Self::Objects => By::Age,
        };
        SortOrder { by, reversed: false }
    }

    /// Whether it is one of those about connections.
    pub const fn is_of_connections(self) -> bool {
        matches!(self, Self::Connections | Self::Clients | Self::Leaving)
    }

    /// Whether it is one of those about objects of libraries.
    pub const fn is_of_objects(self) -> bool {
        matches!(self, Self::ObjectTypes | Self::Objects)
    }

    /// Items there are, whether they pass the filter or not.
    pub fn number(self, context: &TableContext<'_>) -> usize {
        with_items!(self, Item => Item::number(context))
    }

    /// Columns by which it may be ordered now.
    pub fn sortable(self, context: &TableContext<'_>) -> Vec<By> {
        with_items!(self, Item => {
            let there = Item::COLUMNS.iter().filter(|column| column.may_sort(context));
            there.map(|column| column.by).collect()
        })
    }

    /// What tells the item at a place of the report from others.
    pub fn id(self, context: &TableContext<'_>, at: usize) -> Option<Id> {
        with_items!(self, Item => Item::get(context, at).map(Listed::id))
    }

    /// Where in an order of places this item is.
    pub fn find(self, context: &TableContext<'_>, order: &[usize], id: &Id) -> Option<usize> {
        with_items!(self, Item => {
            order.iter().position(|at| Item::get(context, *at).is_some_and(|item| item.is(id)))
        })
    }

    /// What stands for the item at a place of the report above its call site.
    pub fn label(self, context: &TableContext<'_>, at: usize) -> Option<String> {
        with_items!(self, Item => Item::get(context, at).and_then(Listed::label))
    }

    /// The call site that belongs to the item at a place of the report.
    pub fn site<'a>(self, context: &TableContext<'a>, at: usize) -> Option<&'a Site> {
        with_items!(self, Item => context.site(Item::get(context, at)?.site()?))
    }
}

impl<'a> TableContext<'a> {
    /// The call site with this number.
    pub fn site(&self, number: u32) -> Option<&'a Site> {
        self.report.sites.get(*self.digest.site_at.get(&number)?)
    }

    /// An item and what is around it.
    pub fn entry<T: Listed>(&self, at: usize) -> Option<Entry<'a, T>> {
        Some(Entry { item: T::get(self, at)?, at, context: *self })
    }
}

/// Whether there are connections, descriptors or objects to list, so that the reader must be told how to get there.
pub fn are_many(report: &Report) -> bool {
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

/// Whether `text` contains the lower-case `word`, whatever the case in `text`.
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
