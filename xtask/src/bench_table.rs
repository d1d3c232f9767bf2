//! The bench's figures as tables for a page: medians, and numbers as text. Pure.

use std::fmt::{self, Write as _};

use crate::{
    bench_run::Sample,
    bench_variant::{Tracer, Variant},
};

/// The row of one variant under one load: medians, and losses.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Figures {
    /// In the load's unit.
    pub figure: Option<f64>,
    /// CPU time of the tracer, percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Peak memory in any round, KiB.
    pub peak_kib: Option<f64>,
    /// Losses of all rounds.
    pub lost: Option<f64>,
    /// Run time of the tracer's programs, nanoseconds per hit.
    pub kernel_ns: Option<f64>,
}

impl Figures {
    /// Combines all rounds; the kernel's run time is measured separately.
    pub(crate) fn of(samples: &[Sample], kernel_ns: Option<f64>) -> Self {
        Self {
            figure: median(samples, |one| Some(one.figure)),
            cpu_percent: median(samples, |one| one.cpu_percent),
            peak_kib: samples.iter().filter_map(|one| one.peak_kib).reduce(f64::max),
            lost: samples.iter().filter_map(|one| one.lost).reduce(|a, b| a + b),
            kernel_ns,
        }
    }
}

/// A variant under the three loads of the main table.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// The tracer on the target.
    pub variant: &'a Variant,
    /// Loop, server, cross.
    pub by_load: [Figures; 3],
}

/// The table of tracing costs.
pub(crate) fn main_table(rows: &[Row]) -> Result<String, fmt::Error> {
    let mut text = "| variant | loop, ns/pair | server, req/s | cross, pairs/s | kernel work, ns/hit (loop / server / cross) | collector work, CPU % (loop / server / cross) | peak memory | lost |\n".to_owned();
    text += "|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for Row { variant, by_load } in rows {
        let [in_loop, server, cross] = by_load.map(|of| show(of.figure));
        let kernel = by_load.map(|of| show(of.kernel_ns)).join(" / ");
        let cpu = by_load.map(|of| show(of.cpu_percent)).join(" / ");
        let peak = mib(by_load.iter().filter_map(|of| of.peak_kib).reduce(f64::max));
        let lost = show(by_load.iter().filter_map(|of| of.lost).reduce(|a, b| a + b));
        let name = &variant.name;
        writeln!(
            text,
            "| {name} | {in_loop} | {server} | {cross} | {kernel} | {cpu} | {peak} | {lost} |"
        )?;
    }
    for Row { variant, .. } in rows {
        if let Tracer::Peer(line) = &variant.tracer {
            writeln!(text, "\n{}: `{line}`", variant.name)?;
        }
    }
    Ok(text)
}

/// The table of stack costs: the second variant records the caller only.
pub(crate) fn stack_table(rows: &[(&Variant, Figures)]) -> Result<String, fmt::Error> {
    let mut text =
        "| variant | ns/pair | more than the caller only | lost |\n|---|--:|--:|--:|\n".to_owned();
    let caller = rows.get(1).and_then(|(_, of)| of.figure);
    for (variant, of) in rows {
        let more = of.figure.zip(caller).map(|(here, caller)| here - caller);
        let more = more.filter(|more| *more > 0.0);
        let (here, more, lost) = (show(of.figure), show(more), show(of.lost));
        writeln!(text, "| {} | {here} | {more} | {lost} |", variant.name)?;
    }
    Ok(text)
}

/// The remaining share of the first variant's requests: the median of each round's own share, since a slow minute of
/// the machine affects all variants of a round.
pub(crate) fn gentle_table(rows: &[(&Variant, &[Sample])]) -> Result<String, fmt::Error> {
    let mut text = "| variant | req/s | of untraced, % | from – to | collector work, CPU % | lost |\n|---|--:|--:|--:|--:|--:|\n".to_owned();
    let first = rows.first().map_or(&[][..], |(_, samples)| samples);
    for (variant, samples) in rows {
        let shares =
            samples.iter().zip(first).map(|(one, first)| 100.0 * one.figure / first.figure);
        let shares: Vec<f64> = shares.collect();
        let least = shares.iter().copied().reduce(f64::min);
        let most = shares.iter().copied().reduce(f64::max);
        let Figures { figure, cpu_percent, lost, .. } = Figures::of(samples, None);
        let [figure, share, least, most] = [figure, middle(shares), least, most].map(show);
        let (cpu, lost) = (show(cpu_percent), show(lost));
        writeln!(
            text,
            "| {} | {figure} | {share} | {least} – {most} | {cpu} | {lost} |",
            variant.name
        )?;
    }
    Ok(text)
}

fn median(samples: &[Sample], figure: fn(&Sample) -> Option<f64>) -> Option<f64> {
    middle(samples.iter().filter_map(figure).collect())
}

pub(crate) fn middle(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = figures.get(figures.len() / 2)?;
    let lower = figures.get((figures.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// Whole numbers with separators; a dash for `None`.
pub(crate) fn show(figure: Option<f64>) -> String {
    let Some(figure) = figure else { return "–".to_owned() };
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Memory, from KiB; a dash for `None`.
pub(crate) fn mib(kib: Option<f64>) -> String {
    kib.map_or("–".to_owned(), |kib| format!("{:.1} MiB", kib / 1024.0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench_variant::{GENTLE, MAIN, STACKS};

    /// Rows whose figures are all different.
    pub(crate) fn rows(variants: &[Variant]) -> Vec<Row<'_>> {
        let figures = |at: f64, load: f64| Figures {
            figure: Some(1000.0 * at + load),
            cpu_percent: (at > 0.0).then_some(at),
            peak_kib: (at > 0.0).then_some(1024.0 * (at + load)),
            lost: (at > 0.0).then_some(0.0),
            kernel_ns: (at > 0.0).then_some(100.0 * at + load),
        };
        let row = |(variant, at)| Row {
            variant,
            by_load: [figures(at, 1.0), figures(at, 2.0), figures(at, 3.0)],
        };
        variants.iter().zip([0.0, 1.0, 2.0, 3.0, 4.0]).map(row).collect()
    }

    #[test]
    fn shares_are_of_the_same_round() {
        let round = |figure| Sample { figure, ..Sample::default() };
        let (untraced, light) =
            ([round(100.0), round(50.0), round(200.0)], [round(98.0), round(50.0), round(190.0)]);
        let rows = [(&GENTLE[0], &untraced[..]), (&GENTLE[1], &light[..])];
        let text = gentle_table(&rows).unwrap();
        assert!(text.ends_with("| untraced | 100 | 100 | 100 – 100 | – | – |\n| --light | 98 | 98 | 95 – 100 | – | – |\n"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let samples = [4.0, 1.0, 2.0, 9.0].map(|figure| Sample { figure, ..Sample::default() });
        assert_eq!(show(median(&samples, |one| Some(one.figure * 1000.0))), "3,000");
        assert_eq!(show(median(&[], |one| Some(one.figure))), "–");
    }

    #[test]
    fn memory_is_the_most_of_all_rounds_and_losses_are_their_sum() {
        let sample =
            |peak, lost| Sample { peak_kib: Some(peak), lost: Some(lost), ..Sample::default() };
        let of = Figures::of(&[sample(5.0, 1.0), sample(9.0, 0.0), sample(7.0, 2.0)], Some(3.0));
        assert_eq!((of.peak_kib, of.lost, of.kernel_ns), (Some(9.0), Some(3.0), Some(3.0)));
        assert_eq!(of.cpu_percent, None);
    }

    #[test]
    fn the_main_table_has_a_row_per_variant_and_a_line_per_other_tool() -> fmt::Result {
        let peer =
            Variant { name: "other".into(), tracer: Tracer::Peer("other -p {pid}".to_owned()) };
        let variants = [&MAIN[..], &[peer]].concat();
        let text = main_table(&rows(&variants))?;
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| untraced | 1 | 2 | 3 | – / – / – | – / – / – | – | – |",
                "| bare traps | 1,001 | 1,002 | 1,003 | 101 / 102 / 103 | 1 / 1 / 1 | 4.0 MiB | 0 |",
                "| leaktrace, heap only | 2,001 | 2,002 | 2,003 | 201 / 202 / 203 | 2 / 2 / 2 | 5.0 MiB | 0 |",
                "| leaktrace, everything on | 3,001 | 3,002 | 3,003 | 301 / 302 / 303 | 3 / 3 / 3 | 6.0 MiB | 0 |",
                "| other | 4,001 | 4,002 | 4,003 | 401 / 402 / 403 | 4 / 4 / 4 | 7.0 MiB | 0 |",
                "",
                "other: `other -p {pid}`",
            ]
        );
        Ok(())
    }

    #[test]
    fn stacks_are_compared_with_the_caller_only() -> fmt::Result {
        let figures = |figure| Figures { figure: Some(figure), ..Figures::default() };
        let rows = [(&STACKS[0], figures(900.0)), (&STACKS[1], figures(1000.0))];
        let text = stack_table(&[rows[0], rows[1], (&STACKS[2], figures(1234.0))])?;
        assert!(text.ends_with(
            "| bare traps | 900 | – | – |\n| caller only | 1,000 | – | – |\n\
             | 21 frames, remembered | 1,234 | 234 | – |\n"
        ));
        Ok(())
    }
}
