//! Whether code has unwind information: without it, a debugger guesses.

use std::{collections::HashMap, fs};

use anyhow::{Context as _, Result};
use gimli::{BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, UnwindSection as _};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};

/// The executable mappings of a process, with a cache of the files that were read.
#[derive(Debug)]
pub struct Code {
    pid: u32,
    maps: String,
    files: HashMap<String, Vec<u8>>,
}

impl Code {
    /// Reads the current mappings.
    pub fn of(pid: u32) -> Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        Ok(Self { pid, maps, files: HashMap::new() })
    }

    /// Whether a frame description covers `address`.
    pub fn describes(&mut self, address: u64) -> Result<bool> {
        for line in self.maps.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [range, _, offset, _, _, path] = fields.as_slice() else { continue };
            let (start, end) = range.split_once('-').context("a range of addresses")?;
            let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
            if !(start..end).contains(&address) || !path.starts_with('/') {
                continue;
            }
            let offset = address - start + u64::from_str_radix(offset, 16)?;
            if !self.files.contains_key(*path) {
                let bytes = fs::read(format!("/proc/{}/root{path}", self.pid))?;
                self.files.insert((*path).to_owned(), bytes);
            }
            let bytes = self.files.get(*path).context("just read")?;
            return described(bytes, offset);
        }
        // Code that was generated at run time has no file.
        Ok(false)
    }
}

/// Whether a frame description covers the byte at `offset` of an object file.
fn described(bytes: &[u8], offset: u64) -> Result<bool> {
    let file = object::File::parse(bytes)?;
    let address = file.segments().find_map(|segment| {
        let (start, size) = segment.file_range();
        (start..start + size).contains(&offset).then(|| segment.address() + offset - start)
    });
    let (Some(address), Some(index), Some(frames)) =
        (address, file.section_by_name(".eh_frame_hdr"), file.section_by_name(".eh_frame"))
    else {
        return Ok(false);
    };
    let bases =
        BaseAddresses::default().set_eh_frame_hdr(index.address()).set_eh_frame(frames.address());
    let index = EhFrameHdr::new(index.data()?, LittleEndian).parse(&bases, 8)?;
    let frames = EhFrame::new(frames.data()?, LittleEndian);
    let Some(table) = index.table() else { return Ok(false) };
    Ok(table.fde_for_address(&frames, &bases, address, EhFrame::cie_from_offset).is_ok())
}
