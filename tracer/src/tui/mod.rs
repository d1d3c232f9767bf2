//! The screen: reports in, cells out, keys on the side.
//!
//! Takes [`Report`]s from a channel in which the newest wins, returns only the request to leave, or to switch from
//! light to full tracing. A key changes the view only: tracing never waits for the screen. Knows neither probes nor
//! processes.

pub mod alike;
pub mod columns;
pub mod draw;
pub mod figures;
pub mod keys;
pub mod layout;
pub mod lists;
pub mod model;
pub mod names;
pub mod order;
pub mod rows;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod screens;
pub mod state;
pub mod summary;
pub mod terminal;
pub mod text;
pub mod theme;
pub mod update;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use crossterm::event::{self, Event, EventStream};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use self::{
    state::{Remark, Size, ViewState},
    terminal::Guard,
    theme::Theme,
    update::Effect,
};
use crate::report::Report;

/// Why the screen returned control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// A key requested the end, or the input has ended.
    Quit,
    /// A key requested full tracing instead of light.
    Full,
}

/// What keys cause outside the screen, which does no I/O of its own.
pub trait Actions {
    /// Stores the report and returns its path, or the error.
    fn save(&mut self, report: &Report) -> Result<PathBuf, String>;

    /// Appends a line to the user's suppressions, which apply from the next report on, and returns the path of the
    /// file, or the error.
    fn suppress(&mut self, line: &str) -> Result<PathBuf, String>;
}

/// The terminal, taken over until this is dropped, and the view on it.
pub struct Screen {
    guard: Guard,
    events: EventStream,
    state: ViewState,
    theme: Theme,
}

impl Screen {
    /// Takes the terminal over.
    pub fn enter() -> io::Result<Self> {
        let theme = Theme::chosen(std::env::var_os("NO_COLOR").as_deref());
        let guard = Guard::enter()?;
        let state = ViewState::new(size(&guard)?);
        Ok(Self { guard, events: EventStream::new(), state, theme })
    }

    /// Shows a line until the next key.
    pub fn remark(&mut self, text: &str) {
        self.state.remark = Some(Remark::done(text));
    }

    /// Shows that full tracing is being prepared, until one of the next two is called.
    pub const fn show_switching(&mut self) {
        self.state.switching = true;
    }

    /// Resets the view: full tracing has begun, and its figures are unrelated to those shown so far.
    pub fn reset(&mut self) {
        self.state = ViewState::new(self.state.size);
    }

    /// Full tracing could not begin: shows why, and continues as before.
    pub fn stay(&mut self, why: &str) {
        self.state.switching = false;
        self.state.remark = Some(Remark::failed(format!("stays light: {why}")));
    }

    /// Shows reports, of which the newest wins, until a key requests something that the caller must do; when their
    /// sender is gone, the last one stays. `actions` are what keys cause outside the screen. May be dropped at any time,
    /// and called again.
    pub async fn show(
        &mut self,
        mut reports: watch::Receiver<Option<Arc<Report>>>,
        actions: &mut impl Actions,
    ) -> io::Result<Leave> {
        let Self { guard, events, state, theme } = self;
        let mut dirty = true;
        let mut reports_come = true;
        // A report may exist before the first wait.
        reports.mark_changed();
        loop {
            if guard.is_down() {
                return Err(io::Error::other("a part of leaktrace has panicked"));
            }
            if dirty {
                guard
                    .terminal
                    .draw(|frame| draw::screen::draw(state, *theme, frame.buffer_mut()))?;
                dirty = false;
            }
            tokio::select! {
                changed = reports.changed(), if reports_come => {
                    reports_come = changed.is_ok();
                    if reports_come && let Some(report) = reports.borrow_and_update().clone() {
                        dirty = update::receive(state, report);
                    }
                }
                event = events.next() => {
                    let Some(event) = event else { return Ok(Leave::Quit) };
                    let mut next = event?;
                    // Pasted text or a held key is many events: one drawing for all of them. They are not taken from
                    // the stream: polled without waiting, it would keep that poll's waker, and the next key would
                    // wake nobody.
                    loop {
                        match react(state, &next, actions) {
                            Effect::Quit => return Ok(Leave::Quit),
                            Effect::Full => return Ok(Leave::Full),
                            Effect::Repaint => {
                                guard.terminal.clear()?;
                                dirty = true;
                            }
                            Effect::None => {}
                            Effect::Redraw | Effect::Save | Effect::Suppress => dirty = true,
                        }
                        if !event::poll(Duration::ZERO)? {
                            break;
                        }
                        next = event::read()?;
                    }
                }
            }
        }
    }
}

fn size(guard: &Guard) -> io::Result<Size> {
    let size = guard.terminal.size()?;
    Ok(Size { columns: size.width, rows: size.height })
}

/// Applies an event to the state; what a key causes outside the screen happens here.
fn react(state: &mut ViewState, event: &Event, actions: &mut impl Actions) -> Effect {
    let effect = match event {
        Event::Key(key) => match keys::decode(key, state.typing.is_some()) {
            Some(key) => update::update(state, key),
            None => update::unknown(state, key),
        },
        Event::Resize(columns, rows) => {
            update::resize(state, Size { columns: *columns, rows: *rows });
            Effect::Redraw
        }
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => Effect::None,
    };
    if effect == Effect::Save
        && let Some(report) = state.shown.as_deref()
    {
        let remark = match actions.save(report) {
            Ok(path) => Remark::done(format!("saved {}", path.display())),
            Err(error) => Remark::failed(format!("not saved: {error}")),
        };
        state.remark = Some(remark);
    }
    if effect == Effect::Suppress
        && let Some(pattern) = state.suppression.take()
    {
        let remark = match actions.suppress(&pattern) {
            Ok(path) => {
                Remark::done(format!("suppressed by a line in {}: {pattern}", path.display()))
            }
            Err(error) => Remark::failed(format!("not suppressed: {error}")),
        };
        state.remark = Some(remark);
    }
    effect
}
