//! The bench's figures as charts: figures to SVG text. Pure. White background, so that they are readable on a dark
//! page, too.

use std::error::Error;

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    bench_growth::{Grown, GrownRow},
    bench_table::{Figures, Row, show},
    bench_variant::{BARE, GROWTH},
};

type Area<'svg> = DrawingArea<SVGBackend<'svg>, Shift>;

/// Colors that people with color blindness can distinguish (Okabe and Ito, 2008), in the order of variants.
const COLORS: [RGBColor; 8] = [
    RGBColor(153, 153, 153),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Width in pixels: GitHub shows it without scaling down.
const WIDTH: u32 = 880;
const TITLE: u32 = 30;
/// Height above and below the bars of a panel, and of one bar with its gap.
const ABOVE: u32 = 28;
const BELOW: u32 = 56;
const BAR: u32 = 30;
/// A row of small charts.
const SMALL: u32 = 185;

/// A figure of the main table, drawn as bars.
struct Bars {
    title: &'static str,
    unit: &'static str,
    figure: fn(&Row) -> Option<f64>,
}

const BARS: [Bars; 2] = [
    Bars {
        title: "loop: time per pair of malloc and free (shorter is better)",
        unit: "ns",
        figure: |row| of_load(row, 0),
    },
    Bars {
        title: "server: requests per second (longer is better)",
        unit: "req/s",
        figure: |row| of_load(row, 1),
    },
];

fn of_load(row: &Row, load: usize) -> Option<f64> {
    row.by_load.get(load)?.figure
}

/// A figure of the growth tables, drawn as lines.
struct Lines {
    title: &'static str,
    /// Whether each variant has a line; otherwise only the last one.
    of_all: bool,
    /// The axis extends at least to this value: smaller differences are noise.
    least: f64,
    figure: fn(&Figures) -> Option<f64>,
}

const LINES: [Lines; 3] = [
    Lines { title: "ns per pair", of_all: true, least: 10.0, figure: |of| of.figure },
    Lines {
        title: "collector work, CPU %",
        of_all: false,
        least: 10.0,
        figure: |of| of.cpu_percent,
    },
    Lines {
        title: "leaktrace's peak memory, MiB",
        of_all: false,
        least: 10.0,
        figure: |of| of.peak_kib.map(|kib| kib / 1024.0),
    },
];

/// The main table: each variant's figures as multiples of those of bare traps.
pub(crate) fn overhead(rows: &[Row]) -> Result<String> {
    let bars = u32::try_from(rows.len())?;
    let panel = ABOVE + BELOW + BAR * bars;
    let panels = u32::try_from(BARS.len())?;
    drawn(TITLE + panels * panel, |area| {
        let (title, rest) = area.split_vertically(TITLE);
        title.draw(&Text::new(
            "What tracing costs, as a multiple of what bare traps cost",
            (12, 10),
            text(17),
        ))?;
        for (area, of) in rest.split_evenly((BARS.len(), 1)).iter().zip(&BARS) {
            draw_bars(area, of, rows)?;
        }
        Ok(())
    })
}

fn draw_bars(area: &Area, of: &Bars, rows: &[Row]) -> Result<()> {
    let figure = of.figure;
    let bare = rows.iter().find(|row| row.variant.name == BARE.name).and_then(figure);
    let bare = bare.filter(|bare| *bare > 0.0).ok_or_else(|| anyhow!("no figure of bare traps"))?;
    let times = |row: &Row| figure(row).map(|figure| figure / bare);
    let most = rows.iter().filter_map(times).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(of.title, text(14))
        .margin_left(190)
        .margin_right(20)
        .margin_bottom(12)
        .x_label_area_size(38)
        // Space for the label of the longest bar.
        .build_cartesian_2d(0.0..most * 1.35, 0.0..rows.len() as f64)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_labels(8)
        .x_desc("times bare traps")
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(text(12))
        .draw()
        .map_err(owned)?;
    for ((at, row), color) in rows.iter().rev().enumerate().zip(colors_from_behind(rows.len())) {
        let (low, high) = (at as f64 + 0.18, at as f64 + 0.82);
        let middle = at as f64 + 0.5;
        let long = times(row).unwrap_or(0.0);
        let bar = Rectangle::new([(0.0, low), (long, high)], color.filled());
        chart.draw_series([bar]).map_err(owned)?;
        let said = match (times(row), figure(row)) {
            (Some(times), Some(figure)) => {
                format!("{} × ({} {})", short(times), show(Some(figure)), of.unit)
            }
            _ => "not measured".to_owned(),
        };
        let (x, y) = chart.backend_coord(&(long, middle));
        let (left, _) = chart.backend_coord(&(0.0, middle));
        // Coordinates refer to the whole picture, but an area draws from its own origin.
        let (corner_x, corner_y) = area.get_base_pixel();
        let at_end = text(12).pos(Pos::new(HPos::Left, VPos::Center));
        let before = text(13).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(said, (x - corner_x + 6, y - corner_y), at_end))?;
        let name = row.variant.name.clone();
        area.draw(&Text::new(name, (left - corner_x - 8, y - corner_y), before))?;
    }
    Ok(())
}

/// Colors for this many variants, the last one's first.
fn colors_from_behind(count: usize) -> impl Iterator<Item = RGBColor> {
    (0..count).rev().map(color)
}

fn color(number: usize) -> RGBColor {
    COLORS.iter().cycle().nth(number).copied().unwrap_or(BLACK)
}

/// A row of small charts for each dial.
pub(crate) fn growth(all: &[Grown]) -> Result<String> {
    let height = 2 * TITLE + SMALL * u32::try_from(all.len())?;
    drawn(height, |area| {
        let (head, rest) = area.split_vertically(2 * TITLE);
        head.draw(&Text::new("How the cost grows", (12, 10), text(17)))?;
        for (at, variant) in (0_i32..).zip(&GROWTH) {
            let x = 14 + 130 * at;
            let number = usize::try_from(at)?;
            head.draw(&Rectangle::new([(x, 38), (x + 22, 42)], line_color(number).filled()))?;
            head.draw(&Text::new(variant.name.clone(), (x + 28, 33), text(13)))?;
        }
        let cells = rest.split_evenly((all.len(), LINES.len()));
        for (cells, grown) in cells.chunks(LINES.len()).zip(all) {
            for (cell, lines) in cells.iter().zip(&LINES) {
                draw_lines(cell, lines, grown)?;
            }
        }
        Ok(())
    })
}

/// Among the variants of the growth charts, leaktrace has the same color as among the bars.
fn line_color(number: usize) -> RGBColor {
    if number + 1 == GROWTH.len() { color(3) } else { color(number) }
}

fn draw_lines(area: &Area, lines: &Lines, grown: &Grown) -> Result<()> {
    let shown = if lines.of_all { 0 } else { GROWTH.len() - 1 };
    let at = |row: &GrownRow, variant: usize| row.figures.get(variant).and_then(lines.figure);
    let most = grown.rows.iter().flat_map(|row| &row.figures).filter_map(lines.figure);
    let most = most.fold(0.0, f64::max);
    let sizes: Vec<&str> = grown.rows.iter().map(|row| row.size.as_str()).collect();
    // The sizes are placed at 0, 1, 2 ...: they are far apart, and one of them is 0.
    let right = sizes.len() as f64 - 0.7;
    let mut chart = ChartBuilder::on(area)
        .caption(lines.title, text(12))
        .margin_right(10)
        .margin_bottom(6)
        .y_label_area_size(56)
        .x_label_area_size(34)
        .build_cartesian_2d(-0.3..right, 0.0..(most * 1.1).max(lines.least))
        .map_err(owned)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        // One label at each size, below.
        .x_labels(0)
        .x_desc(grown.what)
        .y_labels(4)
        .y_label_formatter(&|figure| show(Some(*figure)))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(text(11))
        .draw()
        .map_err(owned)?;
    let (corner_x, corner_y) = area.get_base_pixel();
    for (place, size) in sizes.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(place as f64, 0.0));
        let below = text(11).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(*size, (x - corner_x, y - corner_y + 5), below))?;
    }
    for variant in shown..GROWTH.len() {
        let color = line_color(variant);
        let point = |(place, row): (usize, &GrownRow)| Some((place as f64, at(row, variant)?));
        let points: Vec<(f64, f64)> = grown.rows.iter().enumerate().filter_map(point).collect();
        let line = LineSeries::new(points, color.stroke_width(2)).point_size(3);
        chart.draw_series(line).map_err(owned)?;
    }
    Ok(())
}

/// A factor: more digits for small values.
fn short(times: f64) -> String {
    let digits = if times < 0.1 { 3 } else { 2 };
    format!("{times:.digits$}")
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// An empty picture of this height.
fn drawn(height: u32, draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Converts an error of the drawing library, some of which are not `Sync`.
fn owned(error: impl Error) -> anyhow::Error {
    anyhow!("could not draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench_growth, bench_table, bench_variant::MAIN};

    /// Number of occurrences of an element in the picture.
    fn count(svg: &str, element: &str) -> usize {
        svg.matches(&format!("<{element} ")).count()
    }

    #[test]
    fn every_variant_has_a_bar_with_its_name_and_figure_in_both_panels() -> Result<()> {
        let svg = overhead(&bench_table::tests::rows(&MAIN))?;
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for variant in &MAIN {
            assert_eq!(svg.matches(&format!("\n{}\n", variant.name)).count(), BARS.len(), "{svg}");
        }
        // The background, and the bars.
        assert_eq!(count(&svg, "rect"), 1 + BARS.len() * MAIN.len());
        for said in ["1.00 × (1,001 ns)", "3.00 × (3,001 ns)", "0.002 × (2 req/s)"] {
            assert_eq!(svg.matches(said).count(), 1, "{said} in {svg}");
        }
        Ok(())
    }

    #[test]
    fn without_bare_traps_there_is_nothing_to_compare_with() {
        assert!(overhead(&bench_table::tests::rows(&MAIN[..1])).is_err());
    }

    #[test]
    fn each_dial_has_three_charts_with_all_its_sizes() -> Result<()> {
        let all = bench_growth::tests::grown();
        let svg = growth(&all)?;
        for grown in &all {
            assert_eq!(svg.matches(&format!("\n{}\n", grown.what)).count(), LINES.len(), "{svg}");
        }
        assert_eq!(svg.matches("\n10 M\n").count(), LINES.len());
        // A point for each size: three variants' nanoseconds, and leaktrace's collector and memory.
        let sizes: usize = all.iter().map(|grown| grown.rows.len()).sum();
        assert_eq!(count(&svg, "circle"), sizes * (GROWTH.len() + 2));
        Ok(())
    }

    #[test]
    fn unknown_figures_are_omitted_or_marked() -> Result<()> {
        let mut all = bench_growth::tests::grown();
        let points = count(&growth(&all)?, "circle");
        all[0].rows[0].figures[0].figure = None;
        assert_eq!(count(&growth(&all)?, "circle"), points - 1);
        let mut rows = bench_table::tests::rows(&MAIN);
        rows[2].by_load[1].figure = None;
        assert_eq!(overhead(&rows)?.matches("not measured").count(), 1);
        Ok(())
    }
}
