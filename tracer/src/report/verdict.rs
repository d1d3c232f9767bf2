//! Verdicts: whether a call site leaks, in one word, and why.

use serde::{Deserialize, Serialize};

use super::words::names;

/// The judgement on a call site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// In one word.
    pub class: VerdictClass,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// No rule has spoken.
    pub const fn unknown() -> Self {
        Self { class: VerdictClass::Unknown, confidence: 0.0, reasons: Vec::new() }
    }
}

names! {
    /// A judgement in one word.
    pub enum VerdictClass {
        /// Proven.
        Leak = "leak",
        /// Likely a leak.
        Suspect = "suspect",
        /// Grows; too early to say more.
        Growing = "growing",
        /// Outstanding and flat.
        Steady = "steady",
        /// Shrinking towards a level.
        Settling = "settling",
        /// No rule has spoken.
        Unknown = "unknown",
    }
}

impl VerdictClass {
    /// What it means, for a help text.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Leak => "proven",
            Self::Suspect => "likely a leak; the details say why",
            Self::Growing => "grows; too early to say more",
            Self::Steady => "outstanding and flat",
            Self::Settling => "shrinking towards a level",
            Self::Unknown => "no rule has spoken",
        }
    }
}
