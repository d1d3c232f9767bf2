//! Exporters: the formats in which a finished report is written.
//!
//! Takes a [`Report`], returns its bytes in a [`Format`]. A format is a file with a function `write`, and a row of the
//! table below. Exporters add and judge nothing.

pub mod brief;
pub mod census;
pub mod json;
pub mod text;

use std::io::{self, Write};

use super::Report;

/// How much to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum number of call sites; all when `None`.
    pub top: Option<usize>,
    /// Column at which lines are wrapped, and table rows cut with `…`; no limit when `None`, as in a file.
    pub width: Option<usize>,
    /// Whether to list what suppressions hide, rather than only count it.
    pub show_suppressed: bool,
}

/// Defines the formats from rows of a variant, its name and description on the command line, and its writer.
macro_rules! formats {
    ($($(#[$about:meta])* $format:ident => ($name:literal, $sentence:literal, $write:path),)+) => {
        /// The format of a written report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Format {
            $($(#[$about])* $format,)+
        }

        impl Format {
            /// Every format, in the order of the help.
            pub const ALL: &'static [Self] = &[$(Self::$format,)+];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$format => $name,)+
                }
            }

            /// Its description in the help.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$format => $sentence,)+
                }
            }
        }

        /// Writes the report in this format.
        pub fn write(
            format: Format,
            report: &Report,
            options: &Options,
            out: &mut impl Write,
        ) -> io::Result<()> {
            match format {
                $(Format::$format => $write(report, options, out),)+
            }
        }
    };
}

formats! {
    /// For people.
    Text => ("text", "Plain text, once, at the end", text::write),
    /// For programs.
    Json => ("json", "JSON, described by docs/report.schema.json", json::write),
    /// For scripts and assistants.
    Brief => ("brief", "The findings in one line of JSON of at most 4 KiB, described by docs/brief.schema.json", brief::write),
}

/// The answer; without one, why nothing is judged.
fn answer(report: &Report) -> &str {
    match report.answer.sentence.as_str() {
        "" if report.light.is_some() => {
            "nothing is judged with --light: it sees what makes memory grow, not what is released"
        }
        sentence => sentence,
    }
}
