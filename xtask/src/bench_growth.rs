//! `bench --growth`: how the cost grows with one dial at a time, as tables.

use std::fmt::{self, Write as _};

use anyhow::Result;

use crate::{
    bench_run::{Figure, Job, Load, in_rounds},
    bench_table::{Figures, mib, show},
    bench_variant::GROWTH,
};

/// A dial, and the cost at each of its sizes.
#[derive(Debug)]
pub(crate) struct Grown {
    /// The quantity that grows, with its unit if it is no plain number.
    pub what: &'static str,
    /// From the smallest size to the largest.
    pub rows: Vec<GrownRow>,
}

/// The cost at one size.
#[derive(Debug)]
pub(crate) struct GrownRow {
    /// The size.
    pub size: String,
    /// By the variants of [`GROWTH`].
    pub figures: [Figures; GROWTH.len()],
}

/// A dial of `tests/victims/growth.c`, and its settings.
struct Dial {
    /// The quantity that grows.
    what: &'static str,
    /// The option's name.
    name: &'static str,
    /// The settings, and their labels in the table.
    sizes: &'static [(u32, &'static str)],
}

const DIALS: [Dial; 5] = [
    Dial { what: "threads", name: "threads", sizes: &[(1, "1"), (2, "2"), (4, "4"), (8, "8")] },
    Dial {
        what: "outstanding blocks",
        name: "held",
        sizes: &[
            (0, "0"),
            (10_000, "10 k"),
            (100_000, "100 k"),
            (1_000_000, "1 M"),
            (10_000_000, "10 M"),
        ],
    },
    Dial {
        what: "call sites",
        name: "sites",
        sizes: &[(1, "1"), (100, "100"), (10_000, "10 k"), (50_000, "50 k")],
    },
    Dial {
        what: "frames of the stack",
        name: "depth",
        sizes: &[(1, "1"), (4, "4"), (16, "16"), (64, "64"), (120, "120")],
    },
    Dial {
        what: "functions probed",
        name: FUNCTIONS,
        sizes: &[(0, "default"), (25, "+ 25"), (50, "+ 50"), (100, "+ 100")],
    },
];

/// The dial that also needs options of leaktrace.
const FUNCTIONS: &str = "functions";

/// The measurement at one setting.
struct Point {
    name: String,
    dials: [String; 1],
    options: Vec<String>,
}

impl Point {
    fn new(dial: &Dial, size: u32) -> Self {
        let name = format!("{}={size}", dial.name);
        let options = if dial.name == FUNCTIONS { probing(size) } else { Vec::new() };
        Self { dials: [name.clone()], name, options }
    }

    fn load(&self) -> Load<'_> {
        Load {
            name: &self.name,
            program: "growth",
            dials: &self.dials,
            options: &self.options,
            figure: Figure::Said("ns_per_pair"),
            sets_up: true,
        }
    }
}

/// Options that make leaktrace probe this many functions of the victim; if the number is odd, one more acquiring
/// function.
fn probing(functions: u32) -> Vec<String> {
    let gives = functions / 2;
    let take = |number| ["--alloc".to_owned(), format!("take_{number}:size@0")];
    let give = |number| ["--free".to_owned(), format!("give_{number}")];
    (0..functions - gives).flat_map(take).chain((0..gives).flat_map(give)).collect()
}

/// Measures everything.
pub(crate) fn measure(rounds: u32, seconds: u32) -> Result<Vec<Grown>> {
    let points = DIALS.map(|dial| {
        let point = |(size, _): &(u32, &str)| Point::new(&dial, *size);
        dial.sizes.iter().map(point).collect::<Vec<_>>()
    });
    let at = |point| GROWTH.each_ref().map(|variant| Job { variant, load: Point::load(point) });
    let jobs: Vec<Job> = points.iter().flatten().flat_map(at).collect();
    let samples = in_rounds(&jobs, rounds, seconds)?;
    let (by_size, _) = samples.as_chunks::<{ GROWTH.len() }>();
    let mut by_size = by_size.iter();
    let grown = DIALS.map(|dial| Grown {
        what: dial.what,
        // Each dial is measured as many times as it has settings.
        rows: dial
            .sizes
            .iter()
            .zip(&mut by_size)
            .map(|((_, size), samples)| GrownRow {
                size: (*size).to_owned(),
                figures: samples.each_ref().map(|samples| Figures::of(samples, None)),
            })
            .collect(),
    });
    Ok(grown.into())
}

/// A table for each dial.
pub(crate) fn tables(all: &[Grown]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for Grown { what, rows } in all {
        let [untraced, bare, traced] = GROWTH.each_ref().map(|variant| &variant.name);
        writeln!(
            text,
            "| {what} | {untraced}, ns/pair | {bare}, ns/pair | {traced}, ns/pair | times {bare} | collector work, CPU % | peak memory | lost |"
        )?;
        text += "|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        for GrownRow { size, figures: [untraced, bare, traced] } in rows {
            let times = traced.figure.zip(bare.figure).map(|(traced, bare)| traced / bare);
            let times = times.map_or("–".to_owned(), |times| format!("{times:.2}"));
            writeln!(
                text,
                "| {size} | {} | {} | {} | {times} | {} | {} | {} |",
                show(untraced.figure),
                show(bare.figure),
                show(traced.figure),
                show(traced.cpu_percent),
                mib(traced.peak_kib),
                show(traced.lost),
            )?;
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every dial with figures that grow.
    pub(crate) fn grown() -> Vec<Grown> {
        let figures = |at: u32, times: f64| Figures {
            figure: Some(f64::from(at + 1) * 100.0 * times),
            cpu_percent: Some(f64::from(at)),
            peak_kib: Some(f64::from(at + 1) * 10_240.0),
            lost: Some(0.0),
            kernel_ns: None,
        };
        let row = |((_, size), at): (&(u32, &str), u32)| GrownRow {
            size: (*size).to_owned(),
            figures: [figures(at, 0.1), figures(at, 10.0), figures(at, 15.0)],
        };
        let of = |dial: Dial| Grown {
            what: dial.what,
            rows: dial.sizes.iter().zip(0..).map(row).collect(),
        };
        DIALS.map(of).into()
    }

    #[test]
    fn each_dial_has_a_table_and_each_size_a_row() -> fmt::Result {
        let text = tables(&grown())?;
        assert_eq!(text.matches("times bare traps").count(), DIALS.len());
        let rows = text.lines().filter(|line| line.ends_with("| 0 |")).count();
        assert_eq!(rows, DIALS.iter().map(|dial| dial.sizes.len()).sum::<usize>());
        let of_threads = "| 8 | 40 | 4,000 | 6,000 | 1.50 | 3 | 40.0 MiB | 0 |\n";
        assert!(text.contains(of_threads), "{text}");
        Ok(())
    }

    #[test]
    fn an_odd_number_of_functions_is_probed_to_the_last_one() {
        assert_eq!(
            probing(3),
            ["--alloc", "take_0:size@0", "--alloc", "take_1:size@0", "--free", "give_0"]
        );
        assert_eq!(probing(100).len(), 200);
        assert_eq!(probing(0).len(), 0);
    }
}
