//! The state of the view: the list shown, its order, and the cursor.
//!
//! Takes reports, returns what `rows` needs besides them. The cursor stays on an item's identity, never on a row
//! number, so it stays on its call site when the order changes. Each list has its own cursor, order and filter. Only
//! `update` changes the state, and scrolls to the cursor afterwards; no terminal, no clock.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{
    columns::TableContext,
    lists::{Id, List, with_items},
    model::{Baseline, ColumnId, SortOrder},
    order,
    summary::{self, Summary},
};
use crate::report::{Finding, Report, Site, VerdictClass};

/// The size of the screen, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// The content of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// The table.
    Table,
    /// The table and, below, the selected call site.
    Split,
    /// The selected call site alone, with full names.
    Detail,
}

/// A page that covers the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Keys, columns and words.
    Help,
    /// Memory of the targets and their limits.
    Limits,
}

/// The position in a list.
#[derive(Clone, Debug)]
pub struct Place {
    /// Indexes in the report of the items that pass the filter, in the selected order.
    pub order: Vec<usize>,
    /// The item that the cursor stays on; `None` until the user moves it: then it is on the first row.
    pub selected: Option<Id>,
    /// Index into `order` of the cursor.
    pub cursor: usize,
    /// Index into `order` of the first visible row.
    pub top: usize,
    /// The sorting column.
    pub sort: SortOrder,
    /// Shows only items with these words.
    pub filter: String,
    /// The content of the body.
    pub pane: Pane,
}

impl Place {
    const fn new(list: List, size: Size) -> Self {
        Self {
            order: Vec::new(),
            selected: None,
            cursor: 0,
            top: 0,
            sort: list.first_sort(),
            filter: String::new(),
            pane: Pane::first(list, size),
        }
    }
}

impl Pane {
    /// The pane that a list starts with, and returns to. Findings are few and their details say most; other lists need
    /// their rows on a small screen.
    pub const fn first(list: List, size: Size) -> Self {
        let least = if matches!(list, List::Findings) { 20 } else { 30 };
        if size.rows >= least { Self::Split } else { Self::Table }
    }
}

/// One line about the last action, until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The text.
    pub text: String,
    /// Whether the action failed.
    pub failed: bool,
    /// How many more reports it survives; `None` if only a key removes it.
    pub reports_left: Option<u8>,
}

/// Reports after which a passing remark makes way for the hints that it covers: two to three seconds.
const PASSING: u8 = 3;

impl Remark {
    /// The result of an action.
    pub fn done(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: false, reports_left: None }
    }

    /// An action that failed.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: true, reports_left: None }
    }

    /// Says that a key had no effect, for a moment.
    pub fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: false, reports_left: Some(PASSING) }
    }
}

/// What the open details show once their item is no longer in the report.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Tracing duration of the first report without it, seconds.
    pub since_s: f64,
    /// The view of the last report with it.
    pub last: Box<ViewState>,
}

/// All view state that is not in the report.
#[derive(Clone, Debug)]
pub struct ViewState {
    /// The size of the screen.
    pub size: Size,
    /// The report that is shown.
    pub shown: Option<Arc<Report>>,
    /// The newest report that came while paused.
    pub waiting: Option<Arc<Report>>,
    /// Whether the view is frozen.
    pub paused: bool,
    /// Summary of the report that is shown.
    pub summary: Summary,
    /// Which list is shown.
    pub list: List,
    /// The position in it.
    pub at: Place,
    /// The positions in the other lists. Their orders are computed when they are shown again.
    elsewhere: BTreeMap<List, Place>,
    /// The previous filter, while a new one is typed.
    pub typing: Option<String>,
    /// The baseline.
    pub baseline: Option<Baseline>,
    /// Whether the user wants findings that grow without being suspected listed, too; `None` until a key says so.
    pub growing_wanted: Option<bool>,
    /// The list to go back to from a filtered one.
    pub came_from: Option<List>,
    /// The suppression that the next press of the same key confirms.
    pub suppression: Option<String>,
    /// First visible line of the details or of a page.
    pub scroll: usize,
    /// The page that is open.
    pub page: Option<Page>,
    /// The result of the last action.
    pub remark: Option<Remark>,
    /// Whether full tracing is being prepared while light tracing continues.
    pub switching: bool,
    /// Set while the details are open and their item is gone.
    pub gone: Option<Gone>,
}

impl ViewState {
    /// The view before the first report.
    pub fn new(size: Size) -> Self {
        Self {
            size,
            shown: None,
            waiting: None,
            paused: false,
            summary: Summary::default(),
            list: List::Findings,
            at: Place::new(List::Findings, size),
            elsewhere: BTreeMap::new(),
            typing: None,
            baseline: None,
            growing_wanted: None,
            came_from: None,
            suppression: None,
            scroll: 0,
            page: None,
            remark: None,
            switching: false,
            gone: None,
        }
    }

    /// Whether the shown figures are those of light tracing, which can switch to full tracing.
    pub fn is_light(&self) -> bool {
        self.shown.as_deref().is_some_and(|report| report.light.is_some())
    }

    /// Whether the user may request the switch to full tracing now.
    pub fn may_switch_to_full(&self) -> bool {
        self.is_light() && !self.switching
    }

    /// Receives a new report. While paused, only stores it; returns whether the view changed.
    pub fn receive(&mut self, report: Arc<Report>) -> bool {
        if self.paused {
            self.waiting = Some(report);
            return false;
        }
        // Without findings to come, the call sites say more.
        let sites_first = self.shown.is_none() && summary::judges_nothing(&report);
        let since_s = report.window.duration_s;
        let before = (self.at.pane == Pane::Detail && self.gone.is_none())
            .then(|| Box::new(Self { gone: None, waiting: None, ..self.clone() }));
        let mut summary = Summary::of(&report);
        summary.keep_columns_of(&self.summary);
        self.summary = summary;
        self.shown = Some(report);
        if !(sites_first && self.go(List::Sites)) {
            self.arrange();
        }
        if !self.is_missing() {
            self.gone = None;
        } else if let Some(last) = before {
            self.gone = Some(Gone { since_s, last });
        }
        self.age_remark();
        true
    }

    /// Whether the item whose details are open is not in the list.
    fn is_missing(&self) -> bool {
        let Some(context) = self.context() else { return false };
        let selected = self.at.selected.as_ref().filter(|_| self.at.pane == Pane::Detail);
        selected.is_some_and(|id| self.list.find(&context, &self.at.order, id).is_none())
    }

    /// Removes a passing remark when its time is over.
    fn age_remark(&mut self) {
        let Some(left) = self.remark.as_mut().and_then(|remark| remark.reports_left.as_mut())
        else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.remark = None;
        }
    }

    /// Closes the details. The cursor stays on their item, or near it if it is gone.
    pub fn close_details(&mut self) {
        if self.at.pane == Pane::Detail {
            self.at.pane = Pane::first(self.list, self.size);
            self.gone = None;
            self.put_cursor(self.at.cursor);
        }
    }

    /// Freezes the view, or resumes with the newest report; returns whether there is one.
    pub fn toggle_pause(&mut self) -> bool {
        self.paused = !self.paused;
        self.waiting.take().is_some_and(|report| self.receive(report))
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
            // Only lists whose first order is that of the verdict have such columns.
            if matches!(place.sort.by, ColumnId::BytesChange | ColumnId::CountChange) {
                place.sort = List::Sites.first_sort();
            }
        }
        self.arrange();
    }

    /// Switches to another list, at its last position; returns whether it is another one.
    pub fn go(&mut self, list: List) -> bool {
        if list == self.list {
            return false;
        }
        let there = self.elsewhere.remove(&list).unwrap_or_else(|| Place::new(list, self.size));
        let here = mem::replace(&mut self.at, there);
        self.elsewhere.insert(self.list, here);
        self.list = list;
        self.arrange();
        true
    }

    /// The shown report with its context.
    pub fn context(&self) -> Option<TableContext<'_>> {
        let report = self.shown.as_deref()?;
        Some(TableContext { report, summary: &self.summary, baseline: self.baseline.as_ref() })
    }

    /// Filters and sorts again, and puts the cursor back on its item.
    pub fn arrange(&mut self) {
        let Some(context) = self.context() else { return };
        let Place { sort, filter, selected, .. } = &self.at;
        let mut order = with_items!(self.list, Item => order::of::<Item>(&context, *sort, filter));
        // A search looks everywhere, and what the user reads does not fold away.
        let read = selected.as_ref().filter(|_| self.at.pane == Pane::Detail);
        if !self.shows_growing() && filter.is_empty() {
            order.retain(|at| {
                !self.list.is_folded(&context, *at)
                    || read.is_some_and(|id| self.list.find(&context, &[*at], id).is_some())
            });
        }
        let found = selected.as_ref().map(|id| self.list.find(&context, &order, id));
        let on_screen = self.at.cursor.saturating_sub(self.at.top);
        self.at.order = order;
        match found {
            None => self.at.cursor = 0,
            Some(Some(row)) => self.at.cursor = row,
            // Open details stay about their item.
            Some(None) if self.at.pane == Pane::Detail => {
                self.at.cursor = self.at.cursor.min(self.at.order.len().saturating_sub(1));
            }
            Some(None) => self.put_cursor(self.at.cursor),
        }
        self.at.top = self.at.cursor.saturating_sub(on_screen);
    }

    /// Whether findings that grow without being suspected are listed: at first only while it is too early to suspect any.
    pub fn shows_growing(&self) -> bool {
        let early = || {
            let answer = self.shown.as_deref().map(|report| &report.answer);
            answer.is_some_and(|answer| {
                answer.class == Some(VerdictClass::Growing) && answer.smallest_leak_per_s.is_none()
            })
        };
        self.growing_wanted.unwrap_or_else(early)
    }

    /// Puts the cursor on a row and keeps it on the item there.
    pub fn put_cursor(&mut self, row: usize) {
        self.at.cursor = row.min(self.at.order.len().saturating_sub(1));
        // An empty table keeps the selection, so that it returns with its item.
        if let Some(id) = self.id() {
            self.at.selected = Some(id);
        }
    }

    /// The finding under the cursor; none while the details are of one that is gone.
    pub fn finding(&self) -> Option<&Finding> {
        if self.gone.is_some() {
            return None;
        }
        let at = *self.at.order.get(self.at.cursor)?;
        self.shown.as_deref()?.findings.get(at).filter(|_| self.list == List::Findings)
    }

    /// The call site under the cursor, or the one of the item there.
    pub fn site(&self) -> Option<&Site> {
        let context = self.context().filter(|_| self.gone.is_none())?;
        self.list.site(&context, *self.at.order.get(self.at.cursor)?)
    }

    /// The title of the item under the cursor, shown above its call site; `None` for a call site.
    pub fn label(&self) -> Option<String> {
        self.list.label(&self.context()?, *self.at.order.get(self.at.cursor)?)
    }

    /// The identity of the item under the cursor.
    pub fn id(&self) -> Option<Id> {
        self.list.id(&self.context()?, *self.at.order.get(self.at.cursor)?)
    }

    /// Keeps the cursor's row on a page of the table.
    pub fn scroll_to_cursor(&mut self, page: usize) {
        let page = page.max(1);
        let at = &mut self.at;
        let lowest = at.cursor.saturating_sub(page - 1);
        let last_full = at.order.len().saturating_sub(page);
        at.top = at.top.min(last_full).clamp(lowest, at.cursor);
    }
}
