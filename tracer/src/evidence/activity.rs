//! Whether the targets work at all: what is judged while nothing happens would only forget what was seen before. Pure.
//!
//! Work shows in releases. A program that acquires all it needs at its start, and nothing more, has not become idle.

/// A rate of releases below this share of the usual one is no load.
const IDLE: f64 = 0.05;
/// Time without load that is no mere pause, seconds: shorter than any rule takes to call a call site steady.
const PAUSE_S: f64 = 4.0;

/// How much the targets release, and since when they do not.
#[derive(Debug, Default)]
pub struct Activity {
    /// Time of the last snapshot, seconds, and releases by then.
    last: Option<(f64, u64)>,
    /// Seconds with load, and releases in them.
    busy: (f64, f64),
    /// When the load ended, seconds.
    idle_since_s: Option<f64>,
}

impl Activity {
    /// Adds the releases at all call sites until a snapshot.
    pub fn push(&mut self, at_s: f64, released: u64) {
        let Some((last_s, before)) = self.last.replace((at_s, released)) else { return };
        let (seconds, more) = (at_s - last_s, released.saturating_sub(before) as f64);
        let (busy_s, busy) = self.busy;
        if busy > 0.0 && more / seconds.max(1e-9) < IDLE * busy / busy_s.max(1e-9) {
            self.idle_since_s.get_or_insert(last_s);
        } else {
            self.busy = (busy_s + seconds, busy + more);
            self.idle_since_s = None;
        }
    }

    /// When the load ended, if it has, seconds.
    pub fn idle_since_s(&self) -> Option<f64> {
        let (now_s, _) = self.last?;
        self.idle_since_s.filter(|since_s| now_s - since_s >= PAUSE_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_ends_is_noticed_and_a_pause_is_not() {
        let mut activity = Activity::default();
        let mut released = 0;
        for second in 0_u32..60 {
            // A pause of three seconds in each minute.
            released += if (30..33).contains(&second) { 0 } else { 1_000 };
            activity.push(second.into(), released);
            assert_eq!(activity.idle_since_s(), None, "{second}");
        }
        for second in 60_u32..70 {
            released += 3;
            activity.push(second.into(), released);
        }
        assert_eq!(activity.idle_since_s(), Some(59.0));
        activity.push(70.0, released + 1_000);
        assert_eq!(activity.idle_since_s(), None);
    }

    #[test]
    fn without_any_load_there_is_none_that_ended() {
        let mut activity = Activity::default();
        (0_u32..60).for_each(|second| activity.push(second.into(), 0));
        assert_eq!(activity.idle_since_s(), None);
    }
}
