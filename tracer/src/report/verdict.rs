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
    /// Since when, seconds after tracing began; `null` when that is not known.
    #[serde(default)]
    pub since: Option<f64>,
}

impl Verdict {
    /// No rule has given a verdict.
    pub const fn unknown() -> Self {
        Self { class: VerdictClass::Unknown, confidence: 0.0, reasons: Vec::new(), since: None }
    }
}

names! {
    /// A verdict in one word.
    pub enum VerdictClass {
        /// Never released, beyond doubt.
        Leak = "leak",
        /// Likely a leak.
        Suspect = "suspect",
        /// Grows; follows the load, or too early to say more.
        Growing = "growing",
        /// Outstanding and flat.
        Steady = "steady",
        /// Approaching a level.
        Settling = "settling",
        /// Too little was seen.
        Unknown = "unknown",
    }
}

impl VerdictClass {
    /// Its place in the order of call sites: what leaks comes first, all others by size.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Leak => 0,
            Self::Suspect => 1,
            Self::Growing | Self::Steady | Self::Settling | Self::Unknown => 2,
        }
    }

    /// Whether it says that something leaks, or seems to.
    pub const fn is_accusation(self) -> bool {
        matches!(self, Self::Leak | Self::Suspect)
    }

    /// Whether what has it is a finding: it leaks, or seems to, or grows.
    pub const fn is_finding(self) -> bool {
        matches!(self, Self::Leak | Self::Suspect | Self::Growing)
    }

    /// Its meaning, for a help text.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Leak => "never released, beyond doubt",
            Self::Suspect => "likely a leak; the details say why",
            Self::Growing => "grows; follows the load, or it is too early to say more",
            Self::Steady => "outstanding and flat",
            Self::Settling => "approaching a level: rises ever more slowly, or falls",
            Self::Unknown => "too little was seen",
        }
    }
}
