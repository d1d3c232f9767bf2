//! The allowed dependencies between folders of `tracer`: the table of `tidy`.

/// A folder or file of `tracer/src`, and the modules that its `use crate::` lines may name.
pub(crate) const EDGES: [(&str, &[&str]); 29] = [
    ("arch", &[]),
    ("cli", &["format", "options", "packs", "probes", "report", "settings"]),
    ("settings", &["cli", "error", "format", "options", "packs", "probes"]),
    ("error", &["arch", "format"]),
    ("format", &[]),
    ("options", &[]),
    ("output", &["error", "format", "report"]),
    ("preflight", &["arch", "error", "format", "kernel", "probes", "target"]),
    ("doctor", &["error", "format", "kernel", "preflight", "target"]),
    ("target", &["error", "format"]),
    ("packs", &["arch", "error", "format"]),
    ("probes", &["arch", "error", "format", "packs", "target"]),
    ("kernel", &["arch", "error", "format", "options", "probes", "target"]),
    ("unwind", &["arch", "error", "format", "kernel", "target"]),
    ("ledger", &["target"]),
    ("reconcile", &["kernel", "ledger", "target"]),
    ("lib_objects", &["kernel", "ledger", "packs", "reconcile", "target"]),
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
            "target",
            "unwind",
        ],
    ),
    ("analyze", &["format", "ledger", "report", "snapshot"]),
    ("evidence", &["ledger", "snapshot"]),
    ("verdict", &["evidence", "format", "report", "snapshot"]),
    ("symbolize", &["analyze", "arch", "format", "probes", "report", "target"]),
    ("report", &["format"]),
    (
        "assemble",
        &[
            "analyze",
            "format",
            "ledger",
            "lib_objects",
            "options",
            "packs",
            "probes",
            "reconcile",
            "report",
            "snapshot",
            "symbolize",
            "target",
            "verdict",
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
