//! Finds the extents of functions, from their symbols and from the object's unwind information, which also covers
//! functions without a symbol and separate parts of functions.
//!
//! Takes a parsed object, passes on ranges of addresses. Pure.

use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, LittleEndian, UnwindSection as _};
use object::{Object as _, ObjectSection as _};

/// Ranges of code of one object.
#[derive(Debug, Default)]
pub(super) struct Extents {
    /// Start and end of functions whose symbol has a size, ascending.
    named: Vec<(u64, u64)>,
    /// Start and end of code with unwind information, ascending.
    unwound: Vec<(u64, u64)>,
}

impl Extents {
    /// The extents in `file`; `symbols` are address and size of its functions.
    pub(super) fn of(file: &object::File<'_>, symbols: impl Iterator<Item = (u64, u64)>) -> Self {
        let sized = symbols.filter(|(_, size)| *size > 0);
        let named = sized.filter_map(|(start, size)| Some((start, start.checked_add(size)?)));
        Self { named: in_order(named.collect()), unwound: in_order(unwound(file)) }
    }

    /// The range that contains `address`.
    pub(super) fn around(&self, address: u64) -> Option<(u64, u64)> {
        let within = |ranges: &[(u64, u64)]| {
            let next = ranges.partition_point(|(start, _)| *start <= address);
            let (start, end) = *ranges.get(next.checked_sub(1)?)?;
            (address < end).then_some((start, end))
        };
        within(&self.named).or_else(|| within(&self.unwound))
    }
}

fn in_order(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    ranges
}

/// The ranges that `.eh_frame` describes, up to the first damaged entry.
fn unwound(file: &object::File<'_>) -> Vec<(u64, u64)> {
    let Some(section) = file.section_by_name(".eh_frame") else { return Vec::new() };
    let Ok(bytes) = section.data() else { return Vec::new() };
    let mut frames = EhFrame::from(EndianSlice::new(bytes, LittleEndian));
    frames.set_address_size(8);
    let address = |name| file.section_by_name(name).map_or(0, |section| section.address());
    let bases = BaseAddresses::default()
        .set_eh_frame(section.address())
        .set_text(address(".text"))
        .set_got(address(".got"));
    let mut ranges = Vec::new();
    let mut entries = frames.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
        // The linker sets the start of functions that it drops to 0.
        if fde.initial_address() != 0 && fde.end_address() > fde.initial_address() {
            ranges.push((fde.initial_address(), fde.end_address()));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_take_precedence_over_unwind_information() {
        let extents = Extents {
            named: vec![(0x1000, 0x1010), (0x1020, 0x1030)],
            unwound: vec![(0x1000, 0x1018), (0x2000, 0x2008)],
        };
        assert_eq!(extents.around(0x100f), Some((0x1000, 0x1010)));
        assert_eq!(extents.around(0x1010), Some((0x1000, 0x1018)));
        assert_eq!(extents.around(0x2000), Some((0x2000, 0x2008)));
        assert_eq!((extents.around(0x2008), extents.around(0xfff)), (None, None));
    }
}
