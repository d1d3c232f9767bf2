//! The view's state: what is shown, in which order, and where the cursor is.
//!
//! Takes reports, hands on what `rows` needs beside them. The cursor is kept by what tells an item from
//! others, never by row number, so it stays on its call site when the order changes. Each list has its own
//! cursor, order and filter. Changes come from `update` and from new reports only; no terminal, no clock.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use super::{
    columns::{By, SortOrder, TableContext},
    digest::Digest,
    layout,
    lists::{Id, List, with_items},
    order,
};
use crate::report::{Amount, Report, Site};

/// How large the screen is, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// From left to right.
    pub columns: u16,
    /// From top to bottom.
    pub rows: u16,
}

/// What the body of the screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// The table.
    Table,
    /// The table and, below, the selected call site.
    Split,
    /// The selected call site alone, names in full.
    Detail,
}

/// The figures remembered by `m`.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Seconds traced when it was marked.
    pub at_s: f64,
    /// What was outstanding, by call-site id. A call site that is not here began later, at nothing.
    outstanding: HashMap<u32, Amount>,
}

impl Baseline {
    fn of(report: &Report) -> Self {
        let amount =
            |site: &Site| Amount { count: site.outstanding_count, bytes: site.outstanding_bytes };
        let outstanding = report.sites.iter().map(|site| (site.id, amount(site))).collect();
        Self { at_s: report.window.duration_s, outstanding }
    }

    /// What this call site had outstanding when it was marked.
    pub fn amount(&self, id: u32) -> Amount {
        self.outstanding.get(&id).copied().unwrap_or(Amount { count: 0, bytes: 0 })
    }
}

/// Where one is in a list.
#[derive(Clone, Debug)]
pub struct Place {
    /// Places in the report of the items that pass the filter, in the chosen order.
    pub order: Vec<usize>,
    /// What the cursor stays on; `None` until someone moved: then the first row has it.
    pub selected: Option<Id>,
    /// Index into `order` of the cursor.
    pub cursor: usize,
    /// Index into `order` of the first visible row.
    pub top: usize,
    /// Which column orders the table.
    pub sort: SortOrder,
    /// Only items with these words.
    pub filter: String,
}

impl Place {
    const fn new(list: List) -> Self {
        Self {
            order: Vec::new(),
            selected: None,
            cursor: 0,
            top: 0,
            sort: list.first_sort(),
            filter: String::new(),
        }
    }
}

/// One line about something that was just done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The text.
    pub text: String,
    /// Whether it went wrong.
    pub failed: bool,
}

/// Everything about the view that is not in the report.
#[derive(Clone, Debug)]
pub struct ViewState {
    /// How large the screen is.
    pub size: Size,
    /// The report that is shown.
    pub shown: Option<Arc<Report>>,
    /// The newest report that came while paused.
    pub waiting: Option<Arc<Report>>,
    /// Whether the view is frozen.
    pub paused: bool,
    /// Sums over the report that is shown.
    pub digest: Digest,
    /// Which list is shown.
    pub list: List,
    /// Where one is in it.
    pub at: Place,
    /// Where one was in the other lists. Their orders are made when they are shown again.
    elsewhere: BTreeMap<List, Place>,
    /// While the filter is typed: the one before.
    pub typing: Option<String>,
    /// The marked figures.
    pub baseline: Option<Baseline>,
    /// What the body shows.
    pub pane: Pane,
    /// First visible line of the details or of the help page.
    pub scroll: usize,
    /// Whether the help page is open.
    pub help: bool,
    /// What was just done.
    pub remark: Option<Remark>,
    /// Whether full tracing is being prepared while light goes on.
    pub going_over: bool,
}

impl ViewState {
    /// The view before the first report. A high screen starts with the details open.
    pub fn new(size: Size) -> Self {
        Self {
            size,
            shown: None,
            waiting: None,
            paused: false,
            digest: Digest::default(),
            list: List::Sites,
            at: Place::new(List::Sites),
            elsewhere: BTreeMap::new(),
            typing: None,
            baseline: None,
            pane: if size.rows >= 30 { Pane::Split } else { Pane::Table },
            scroll: 0,
            help: false,
            remark: None,
            going_over: false,
        }
    }

    /// Whether the shown figures are those of light tracing, which can be gone over from.
    pub fn is_light(&self) -> bool {
        self.shown.as_deref().is_some_and(|report| report.light.is_some())
    }

    /// Whether going over to full tracing may be asked for now.
    pub fn may_go_over(&self) -> bool {
        self.is_light() && !self.going_over
    }

    /// A new report. While paused it only waits; says whether the view changed.
    pub fn receive(&mut self, report: Arc<Report>) -> bool {
        if self.paused {
            self.waiting = Some(report);
            return false;
        }
        self.digest = Digest::of(&report);
        self.shown = Some(report);
        self.arrange();
        true
    }

    /// Freezes the view, or goes on with the newest report.
    pub fn toggle_pause(&mut self) {
        self.paused = !self.paused;
        if let Some(report) = self.waiting.take() {
            self.receive(report);
        }
    }

    /// Remembers the shown figures as the baseline.
    pub fn mark(&mut self) {
        self.baseline = self.shown.as_deref().map(Baseline::of);
        self.arrange();
    }

    /// Forgets the baseline.
    pub fn unmark(&mut self) {
        self.baseline = None;
        for place in self.elsewhere.values_mut().chain([&mut self.at]) {
            if matches!(place.sort.by, By::BytesChange | By::CountChange) {
                place.sort = List::Sites.first_sort();
            }
        }
        self.arrange();
    }

    /// Shows another list, where one left it.
    pub fn go(&mut self, list: List) {
        if list == self.list {
            return;
        }
        let there = self.elsewhere.remove(&list).unwrap_or_else(|| Place::new(list));
        let here = mem::replace(&mut self.at, there);
        self.elsewhere.insert(self.list, here);
        self.list = list;
        self.arrange();
    }

    /// Another size of the screen.
    pub fn resize(&mut self, size: Size) {
        self.size = size;
        self.keep_visible();
    }

    /// The shown report and what is around it.
    pub fn context(&self) -> Option<TableContext<'_>> {
        let report = self.shown.as_deref()?;
        Some(TableContext { report, digest: &self.digest, baseline: self.baseline.as_ref() })
    }

    /// Filters and orders anew, and puts the cursor back on its item.
    pub fn arrange(&mut self) {
        let Some(context) = self.context() else { return };
        let Place { sort, filter, selected, .. } = &self.at;
        let order = with_items!(self.list, Item => order::of::<Item>(&context, *sort, filter));
        let found = selected.as_ref().map(|id| self.list.find(&context, &order, id));
        let on_screen = self.at.cursor.saturating_sub(self.at.top);
        self.at.order = order;
        match found {
            None => self.at.cursor = 0,
            Some(Some(row)) => self.at.cursor = row,
            Some(None) => self.put_cursor(self.at.cursor),
        }
        self.at.top = self.at.cursor.saturating_sub(on_screen);
        self.keep_visible();
    }

    /// Puts the cursor on a row and keeps it on the item there.
    pub fn put_cursor(&mut self, row: usize) {
        self.at.cursor = row.min(self.at.order.len().saturating_sub(1));
        // An empty table leaves the selection, so that it returns with its item.
        if let Some(id) = self.id() {
            self.at.selected = Some(id);
        }
        self.keep_visible();
    }

    /// Keeps the cursor on the item it is on.
    pub fn hold_cursor(&mut self) {
        self.put_cursor(self.at.cursor);
    }

    /// The call site under the cursor, or that of the item there.
    pub fn site(&self) -> Option<&Site> {
        let context = self.context()?;
        self.list.site(&context, *self.at.order.get(self.at.cursor)?)
    }

    /// What stands for the item under the cursor above its call site, if it is not one itself.
    pub fn label(&self) -> Option<String> {
        self.list.label(&self.context()?, *self.at.order.get(self.at.cursor)?)
    }

    /// What tells the item under the cursor from others.
    pub fn id(&self) -> Option<Id> {
        self.list.id(&self.context()?, *self.at.order.get(self.at.cursor)?)
    }

    /// Rows of the table that are visible at once.
    pub fn page(&self) -> usize {
        layout::of(self).table_rows()
    }

    fn keep_visible(&mut self) {
        let page = self.page().max(1);
        let at = &mut self.at;
        let lowest = at.cursor.saturating_sub(page - 1);
        let last_full = at.order.len().saturating_sub(page);
        at.top = at.top.min(last_full).clamp(lowest, at.cursor);
    }
}
