//! Which folder of `tracer` may know which: the table behind `tidy`.

/// A folder or file of `tracer/src`, and what its `use crate::` lines may name.
pub(crate) const EDGES: [(&str, &[&str]); 20] = [
    ("cli", &["report", "settings"]),
    ("settings", &["cli", "error", "format"]),
    ("error", &[]),
    ("format", &[]),
    ("target", &["error", "format"]),
    ("probes", &["target", "error"]),
    ("kernel", &["probes", "target", "error"]),
    ("collect", &["kernel", "probes", "target", "error"]),
    ("analyze", &["collect", "format"]),
    ("symbolize", &["analyze", "collect", "probes", "report", "target"]),
    ("report", &["format"]),
    ("export", &["report", "format"]),
    ("tui", &["report", "format"]),
    ("assemble", &["analyze", "collect", "probes", "report", "symbolize", "target"]),
    ("doctor", &["error", "format", "kernel", "target"]),
    // These build the line: they may know every station.
    ("run", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
    ("unwind", &["collect", "target", "error"]),
    ("bin", &["*"]),
];

/// A dependency that only one folder may name.
pub(crate) const FENCES: [(&str, &str); 4] =
    [("aya", "kernel"), ("blazesym", "symbolize"), ("ratatui", "tui"), ("crossterm", "tui")];
