//! The report as JSON, as `docs/report.schema.json` describes it.
//!
//! Takes a [`Report`], hands on text for programs, and takes it back. Adds and judges nothing.

use std::io::{Read, Write};

use super::{Report, SCHEMA};

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or keys are missing or of another type.
    #[error("could not read the report")]
    Malformed(#[from] serde_json::Error),
    /// A report of another format.
    #[error("could not read the report: its format is `{0}`, not `{SCHEMA}`")]
    OtherFormat(String),
}

/// Writes the report, indented, with a final newline.
pub fn write(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    out.write_all(b"\n")
}

/// Reads a report; keys that this version does not know are passed over.
pub fn read(from: &mut impl Read) -> Result<Report, Unreadable> {
    // The format is looked at first: of another one, no key is to be trusted.
    let value: serde_json::Value = serde_json::from_reader(from)?;
    match value.get("schema").and_then(serde_json::Value::as_str) {
        Some(SCHEMA) | None => Ok(serde_json::from_value(value)?),
        Some(other) => Err(Unreadable::OtherFormat(crate::format::printable(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_report_comes_back_as_it_went() {
        for report in [sample::sample(), sample::lossy(), sample::empty(), sample::objects()] {
            let mut text = Vec::new();
            write(&report, &mut text).unwrap();
            assert!(text.ends_with(b"}\n"));
            assert_eq!(read(&mut text.as_slice()).unwrap(), report);
        }
    }

    #[test]
    fn another_format_is_told_from_a_damaged_report() {
        let refusal = |text: &str| read(&mut text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"schema": "leaktrace/2"}"#),
            "could not read the report: its format is `leaktrace/2`, not `leaktrace/1`"
        );
        assert_eq!(refusal(r#"{"schema": "leaktrace/1"}"#), "could not read the report");
        assert_eq!(refusal("no"), "could not read the report");
    }
}
