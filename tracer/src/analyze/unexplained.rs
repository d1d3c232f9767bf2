//! Which part of the growth of resident memory no traced call asked for, and in which kind of memory it is.
//!
//! Takes rates per second, returns rates per second. Mapped memory need not be resident, so what was asked for is the most
//! that it can explain: what is left over is memory that no traced call asked for. Pure.

/// How resident memory grows, bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Growth {
    /// Anonymous memory.
    pub anonymous: f64,
    /// Memory of files.
    pub file: f64,
    /// Shared memory: of memory files too.
    pub shared: f64,
}

/// How the memory grows that was asked for, bytes per second, by what is behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    /// Blocks, and private mappings without a file.
    pub anonymous: f64,
    /// Private mappings of files: pages are the file's until they are written, then anonymous.
    pub private_file: f64,
    /// Shared mappings of files, of which those of memory files count as shared memory.
    pub shared_file: f64,
    /// Shared mappings without a file.
    pub shared: f64,
}

impl Asked {
    /// What is left of `growth` when all that was asked for is resident. A mapping that may be resident in two ways counts
    /// once: first where nothing else explains the growth.
    pub fn leaves_of(self, growth: Growth) -> Growth {
        let mut left = growth;
        take(&mut left.shared, self.shared);
        let shared_file = take(&mut left.shared, self.shared_file);
        take(&mut left.file, shared_file);
        let private_file = take(&mut left.file, self.private_file);
        take(&mut left.anonymous, self.anonymous);
        take(&mut left.anonymous, private_file);
        Growth {
            anonymous: left.anonymous.max(0.0),
            file: left.file.max(0.0),
            shared: left.shared.max(0.0),
        }
    }
}

/// Takes up to `asked` from `growth`; returns what is left of `asked`.
fn take(growth: &mut f64, asked: f64) -> f64 {
    let taken = asked.max(0.0).min(growth.max(0.0));
    *growth -= taken;
    asked.max(0.0) - taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One unit a second by each way that there is, and one of anonymous memory by a system call.
    const GROWTH: Growth = Growth { anonymous: 4.0, file: 1.0, shared: 2.0 };
    const ASKED: Asked = Asked { anonymous: 2.0, private_file: 1.0, shared_file: 2.0, shared: 1.0 };

    #[test]
    fn what_no_call_asked_for_is_left_where_it_is() {
        let left = Growth { anonymous: 1.0, ..Growth::default() };
        assert_eq!(ASKED.leaves_of(GROWTH), left);
        assert_eq!(Asked::default().leaves_of(GROWTH), GROWTH);
    }

    #[test]
    fn a_mapping_explains_growth_of_one_kind_only() {
        // A private mapping that is only read.
        let asked = Asked { private_file: 1.0, ..Asked::default() };
        let growth = Growth { anonymous: 1.0, file: 1.0, shared: 0.0 };
        assert_eq!(asked.leaves_of(growth), Growth { anonymous: 1.0, ..Growth::default() });
    }

    #[test]
    fn mappings_that_nobody_touches_explain_no_more_than_there_is() {
        let asked = Asked { anonymous: 9.0, shared_file: 9.0, ..Asked::default() };
        let left = Growth { anonymous: 0.0, file: 0.0, shared: 0.0 };
        assert_eq!(asked.leaves_of(GROWTH), left);
        let shrinking = Growth { anonymous: -1.0, file: -1.0, shared: -1.0 };
        assert_eq!(ASKED.leaves_of(shrinking), left);
        assert_eq!(Asked { anonymous: -3.0, ..Asked::default() }.leaves_of(GROWTH), GROWTH);
    }
}
