//! Switches a running session from light to full tracing: builds a second pipeline on the same targets, then retires
//! the first.
//!
//! Takes the settings of the light pipeline, passes on the full pipeline, or why there is none. Uses a thread of its
//! own: attaching takes tenths of a second, and the screen must not freeze.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{choose, pipeline::Pipeline, threads::spawn};
use crate::{
    error::Failure,
    preflight::Facts,
    settings::Settings,
    tape::TapeWriter,
    target::{Identity, identify},
};

/// A full pipeline that is being built.
pub(super) struct Switch(oneshot::Receiver<anyhow::Result<Pipeline>>);

/// Starts to build the full pipeline.
pub(super) fn begin(
    settings: &Settings,
    facts: &Facts,
    light: &Pipeline,
    tape: Option<&Arc<TapeWriter>>,
) -> anyhow::Result<Switch> {
    let begun = Instant::now();
    let (settings, facts, targets) = (settings.clone(), facts.clone(), light.targets().to_vec());
    let tape = tape.map(Arc::clone);
    let (done, built) = oneshot::channel();
    // Not joined: a user who quits meanwhile does not wait, and its probes end with the process.
    spawn("mode switch", move || {
        let full = living(&targets)
            .and_then(|pids| super::start(&settings.full(pids), &facts, begun, tape.as_deref()));
        drop(done.send(full));
    })?;
    Ok(Switch(built))
}

/// Stops the light pipeline. Its programs are detached in the background, which takes about 0.1 s.
pub(super) fn retire(light: Pipeline) {
    // If the thread cannot start, this detaches them here.
    drop(spawn("light shutdown", move || drop(light.leave())));
}

impl Switch {
    /// The full pipeline once it runs; never returns if none is being built.
    pub(super) async fn finished(switch: &mut Option<Self>) -> anyhow::Result<Pipeline> {
        let Some(Self(receiver)) = switch else { return std::future::pending().await };
        let full = receiver.await;
        *switch = None;
        full.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of leaktrace failed")))
    }
}

/// The targets that still run, without processes that have reused a target's id.
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
    fn a_process_that_reuses_a_targets_id_is_not_a_target() {
        let own = identify(Pid::own()).unwrap();
        let other = Identity { start_time: own.start_time + 1, ..own.clone() };
        assert_eq!(
            living(&[other.clone(), own.clone()]).unwrap(),
            [own.pid.0],
            "a running target is traced"
        );
        let line = crate::error::line(&living(&[other]).unwrap_err());
        assert_eq!(line, format!("could not attach to process `{}`: it ended meanwhile", own.pid));
    }
}
