//! The screen: reports in, cells out, keys on the side.
//!
//! Takes [`Report`]s from a channel where the newest wins, hands on nothing but the wish to leave. A key
//! changes the view only: tracing never waits for the screen. Knows neither probes nor processes.

pub mod columns;
pub mod digest;
pub mod draw;
pub mod figures;
pub mod keys;
pub mod layout;
pub mod names;
pub mod order;
pub mod rows;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod screens;
pub mod state;
pub mod terminal;
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

/// Everything the screen needs from outside.
#[derive(Debug)]
pub struct Feed {
    /// The newest report; `None` until there is one. When the sender is gone the last one stays.
    pub reports: watch::Receiver<Option<Arc<Report>>>,
    /// Set to true when all is over: leave without a key.
    pub stop: watch::Receiver<bool>,
}

/// Why the screen was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// A key asked for it, or the terminal is gone.
    Quit,
    /// [`Feed::stop`] was set.
    Stopped,
}

/// Shows reports until someone leaves. `save` stores the shown report and returns where, or why not.
pub async fn run(
    mut feed: Feed,
    mut save: impl FnMut(&Report) -> Result<PathBuf, String>,
) -> io::Result<Leave> {
    let theme = Theme::chosen(std::env::var_os("NO_COLOR").as_deref());
    let mut guard = Guard::enter()?;
    let mut events = EventStream::new();
    let mut state = ViewState::new(size(&guard)?);
    let mut dirty = true;
    let mut reports_come = true;
    let mut stop_comes = true;
    // A report may be there before the first wait.
    feed.reports.mark_changed();
    feed.stop.mark_changed();
    loop {
        if guard.is_down() {
            return Err(io::Error::other("a part of leaktrace has panicked"));
        }
        if dirty {
            guard.terminal.draw(|frame| draw::screen::draw(&state, theme, frame.buffer_mut()))?;
            dirty = false;
        }
        tokio::select! {
            changed = feed.stop.changed(), if stop_comes => {
                stop_comes = changed.is_ok();
                if *feed.stop.borrow_and_update() {
                    return Ok(Leave::Stopped);
                }
            }
            changed = feed.reports.changed(), if reports_come => {
                reports_come = changed.is_ok();
                if reports_come && let Some(report) = feed.reports.borrow_and_update().clone() {
                    dirty = state.receive(report);
                }
            }
            event = events.next() => {
                let Some(event) = event else { return Ok(Leave::Quit) };
                let mut next = event?;
                // A pasted text or a held key is many events: one drawing for all of them. They are
                // not taken from the stream: polled without waiting, it would keep that poll's
                // waker, and the next key would wake nobody.
                loop {
                    match react(&mut state, &next, &mut save) {
                        Effect::Quit => return Ok(Leave::Quit),
                        Effect::Repaint => {
                            guard.terminal.clear()?;
                            dirty = true;
                        }
                        Effect::None => {}
                        Effect::Redraw | Effect::Save => dirty = true,
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

fn size(guard: &Guard) -> io::Result<Size> {
    let size = guard.terminal.size()?;
    Ok(Size { columns: size.width, rows: size.height })
}

/// What an event does to the state; saving happens here.
fn react(
    state: &mut ViewState,
    event: &Event,
    save: &mut impl FnMut(&Report) -> Result<PathBuf, String>,
) -> Effect {
    let effect = match event {
        Event::Key(key) => match keys::decode(key, state.typing.is_some()) {
            Some(key) => update::update(state, key),
            None => Effect::None,
        },
        Event::Resize(columns, rows) => {
            state.resize(Size { columns: *columns, rows: *rows });
            Effect::Redraw
        }
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => Effect::None,
    };
    if effect == Effect::Save
        && let Some(report) = state.shown.as_deref()
    {
        let remark = match save(report) {
            Ok(path) => Remark { text: format!("saved {}", path.display()), failed: false },
            Err(error) => Remark { text: format!("not saved: {error}"), failed: true },
        };
        state.remark = Some(remark);
    }
    effect
}
