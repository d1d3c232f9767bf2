//! A simulated program: what it acquires at one call site, its load, and the truth.

/// One resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resource {
    pub(super) at_s: f64,
    pub(super) lives_s: f64,
    pub(super) size: u64,
}

/// What is true of the call site at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Truth {
    /// It leaks, for so long.
    Leaks { for_s: f64 },
    /// It grows without a leak: fills up, or follows the load.
    Grows,
    /// It keeps its level, or changes around it.
    Flat,
}

/// The load at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Whether connections are traced.
    pub(super) traced: bool,
    pub(super) open: u64,
    pub(super) closed: u64,
    /// The share of closed connections that left something behind.
    pub(super) leaving: f64,
    pub(super) unknown_blocks: u64,
}

/// A simulated program.
pub(super) struct Program {
    pub(super) resources: Vec<Resource>,
    /// Resources that died young, beside those in `resources`, until a time.
    pub(super) young: Box<dyn Fn(f64) -> u64>,
    pub(super) load: Box<dyn Fn(f64) -> Load>,
    pub(super) truth: Box<dyn Fn(f64) -> Truth>,
    /// Seconds from the attach to the time that the moments of judgment count from.
    pub(super) begins_s: f64,
}

impl Program {
    /// A program that never leaks, and is flat from `level_s` on.
    pub(super) fn healthy(resources: Vec<Resource>, level_s: f64) -> Self {
        Self {
            resources,
            young: Box::new(|_| 0),
            load: Box::new(|_| Load::default()),
            // What has just reached its level may still be said to grow.
            truth: Box::new(
                move |now_s| if now_s < level_s + 15.0 { Truth::Grows } else { Truth::Flat },
            ),
            begins_s: 0.0,
        }
    }

    /// A program that leaks from `began_s` on.
    pub(super) fn leaking(resources: Vec<Resource>, began_s: f64) -> Self {
        Self {
            truth: Box::new(move |now_s| {
                if now_s > began_s { Truth::Leaks { for_s: now_s - began_s } } else { Truth::Grows }
            }),
            ..Self::healthy(resources, 0.0)
        }
    }

    pub(super) fn with_load(self, load: impl Fn(f64) -> Load + 'static) -> Self {
        Self { load: Box::new(load), ..self }
    }

    pub(super) fn with_young(self, per_s: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Self { young: Box::new(move |now_s| (now_s * per_s as f64) as u64), ..self }
    }
}
