//! The allowed dependencies between folders of `tracer`: the table of `tidy`.

/// A folder or file of `tracer/src`, and the modules that its `use crate::` lines may name.
pub(crate) const EDGES: [(&str, &[&str]); 28] = [
    ("cli", &["format", "options", "packs", "probes", "report", "settings"]),
    ("settings", &["cli", "error", "format", "packs", "probes"]),
    ("error", &["format"]),
    ("format", &[]),
    ("options", &[]),
    ("output", &["error", "format", "report"]),
    ("preflight", &["error", "format", "kernel", "probes", "target"]),
    ("doctor", &["error", "format", "kernel", "preflight", "target"]),
    ("target", &["error", "format", "tape"]),
    ("packs", &["error", "format", "tape"]),
    ("probes", &["error", "format", "packs", "tape", "target"]),
    ("kernel", &["error", "format", "options", "probes", "target"]),
    ("unwind", &["error", "format", "kernel", "tape", "target"]),
    ("ledger", &["target"]),
    ("tape", &["error"]),
    ("source", &["kernel", "options", "tape", "target", "unwind"]),
    ("reconcile", &["ledger", "source", "tape", "target"]),
    ("lib_objects", &["ledger", "packs", "reconcile", "source", "target"]),
    ("snapshot", &["ledger", "lib_objects", "reconcile", "target", "unwind"]),
    (
        "collector",
        &[
            "kernel",
            "ledger",
            "lib_objects",
            "options",
            "reconcile",
            "snapshot",
            "source",
            "tape",
            "target",
        ],
    ),
    ("analyze", &["format", "ledger", "report", "snapshot"]),
    ("symbolize", &["analyze", "format", "probes", "report", "target"]),
    ("report", &["format"]),
    (
        "assemble",
        &[
            "analyze",
            "format",
            "ledger",
            "lib_objects",
            "packs",
            "probes",
            "reconcile",
            "report",
            "snapshot",
            "symbolize",
            "tape",
            "target",
        ],
    ),
    ("tui", &["format", "report"]),
    // These assemble the pipeline: they may use every stage.
    ("run", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// A dependency that only one folder may use.
pub(crate) const FENCES: [(&str, &str); 4] =
    [("aya", "kernel"), ("blazesym", "symbolize"), ("ratatui", "tui"), ("crossterm", "tui")];
