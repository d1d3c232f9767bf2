//! Verdicts: whether a call site leaks, in one word, and why.

use serde::{Deserialize, Serialize};

use super::words::names;

/// The verdict on a call site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The verdict in one word.
    pub class: VerdictClass,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// The reasons, a sentence each.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// No rule has given a verdict.
    pub const fn unknown() -> Self {
        Self { class: VerdictClass::Unknown, confidence: 0.0, reasons: Vec::new() }
    }
}

names! {
    /// A verdict in one word.
    pub enum VerdictClass {
        /// Proven.
        Leak = "leak",
        /// Likely a leak.
        Suspect = "suspect",
        /// Grows; too early to say more.
        Growing = "growing",
        /// Outstanding and flat.
        Steady = "steady",
        /// Shrinking toward a stable level.
        Settling = "settling",
        /// No rule has given a verdict.
        Unknown = "unknown",
    }
}

impl VerdictClass {
    /// Its meaning, for a help text.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Leak => "proven",
            Self::Suspect => "likely a leak; the details say why",
            Self::Growing => "grows; too early to say more",
            Self::Steady => "outstanding and flat",
            Self::Settling => "shrinking toward a level",
            Self::Unknown => "no rule has spoken",
        }
    }
}
