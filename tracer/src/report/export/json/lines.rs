//! Line breaks of the JSON report: a line for each key of the report and of its parts, and for each element of a list.
//!
//! Tells the serializer where to break lines. Indentation takes a third of a report of hundreds of call sites with deep
//! stacks, and nobody reads them like that; with one call site per line, `grep`, `diff` and `less` work.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// Depth down to which an object has a line for each key: the report, and its parts such as `accounting`.
const OBJECTS: usize = 2;
/// Depth down to which a list has a line for each element: also the lists of parts, such as `fds.table`.
const LISTS: usize = 3;

/// The state of a report that is being written.
#[derive(Debug, Default)]
pub(super) struct Lines {
    depth: usize,
    /// Whether the innermost object or list that has ended had anything in it.
    has_value: bool,
}

impl Lines {
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(&[bracket])
    }

    fn end<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        bracket: u8,
        most: usize,
    ) -> io::Result<()> {
        let breaks = self.has_value && self.depth <= most;
        self.depth -= 1;
        self.has_value = true;
        if breaks {
            self.break_line(writer)?;
        }
        writer.write_all(&[bracket])
    }

    fn separate<W: ?Sized + Write>(
        &self,
        writer: &mut W,
        first: bool,
        most: usize,
    ) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        if self.depth <= most { self.break_line(writer) } else { Ok(()) }
    }

    fn break_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b" "))
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b'[')
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b']', LISTS)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first, LISTS)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b'{')
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b'}', OBJECTS)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first, OBJECTS)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.depth <= OBJECTS { b": " } else { b":" })
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize as _;
    use serde_json::{Serializer, json};

    use super::*;

    #[test]
    fn parts_and_elements_of_lists_have_a_line_each() {
        let report = json!({
            "a": { "table": [{ "x": 1, "y": [1, 2] }, {}], "z": {} },
            "b": [{ "frames": [{ "c": null }, { "d": [] }] }],
            "e": [],
        });
        let mut text = Vec::new();
        report.serialize(&mut Serializer::with_formatter(&mut text, Lines::default())).unwrap();
        let expected = r#"{
 "a": {
  "table": [
   {"x":1,"y":[1,2]},
   {}
  ],
  "z": {}
 },
 "b": [
  {"frames":[{"c":null},{"d":[]}]}
 ],
 "e": []
}"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
