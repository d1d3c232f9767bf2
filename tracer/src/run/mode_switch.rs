//! From light to full tracing, when a key asks for it: another line on the same targets, made while the
//! light one goes on.
//!
//! Takes what the light line was started with, hands on the full line, or why there is none. On a thread of
//! its own: attaching takes tenths of a second, and the screen must not stand still.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{
    choose,
    line::{self, Line},
};
use crate::{
    error::Failure,
    preflight::Facts,
    settings::Settings,
    target::{Identity, identify},
};

/// A full line that is being made.
pub(super) struct Going(oneshot::Receiver<anyhow::Result<Line>>);

/// Begins to make the full line.
pub(super) fn begin(settings: &Settings, facts: &Facts, light: &Line) -> anyhow::Result<Going> {
    let begun = Instant::now();
    let (settings, facts, targets) = (settings.clone(), facts.clone(), light.targets().to_vec());
    let (done, going) = oneshot::channel();
    // Not joined: whoever leaves meanwhile does not wait, and its probes go with the process.
    line::spawn("going over", move || {
        let full =
            living(&targets).and_then(|pids| super::start(&settings.full(pids), &facts, begun));
        drop(done.send(full));
    })?;
    Ok(Going(going))
}

/// Leaves the light line: its programs go in the background, 0.1 s or so.
pub(super) fn retire(light: Line) {
    // Without a thread, they go here.
    drop(line::spawn("light's end", move || drop(light.leave())));
}

impl Going {
    /// The full line once it runs; never, when none is being made.
    pub(super) async fn there(going: &mut Option<Self>) -> anyhow::Result<Line> {
        let Some(Self(line)) = going else { return std::future::pending().await };
        let made = line.await;
        *going = None;
        made.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of leaktrace failed")))
    }
}

/// Those of the targets that still run: they, and not others that were given their ids since.
fn living(targets: &[Identity]) -> anyhow::Result<Vec<u32>> {
    let mut living = Vec::with_capacity(targets.len());
    let mut why = None;
    for target in targets {
        match identify(target.pid) {
            Ok(now) if now.start_time == target.start_time => living.push(target.pid.0),
            Ok(_) => why = why.or(Some(Failure::Ended { pid: target.pid.0 }.into())),
            Err(error) => why = why.or_else(|| Some(choose::explain_late(target.pid, error))),
        }
    }
    match why {
        Some(why) if living.is_empty() => Err(why),
        _ => Ok(living),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Pid;

    #[test]
    fn a_target_is_told_from_another_with_its_id() {
        let own = identify(Pid::own()).unwrap();
        let other = Identity { start_time: own.start_time + 1, ..own.clone() };
        assert_eq!(
            living(&[other.clone(), own.clone()]).unwrap(),
            [own.pid.0],
            "who runs is traced"
        );
        let line = crate::error::line(&living(&[other]).unwrap_err());
        assert_eq!(line, format!("could not attach to process `{}`: it ended meanwhile", own.pid));
    }
}
