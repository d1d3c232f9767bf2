//! The history of amounts that the kernel counts, and estimates from sampling windows.
//!
//! Takes figures in order, returns rates, times to limits and whole figures. Pure: time comes with the figures. Knows no names and
//! does not judge. The history of call sites is in `evidence`.

pub mod estimate;
pub mod limit;
pub mod quiet;
pub mod time_series;
pub mod unexplained;

/// Samples kept of an amount: one minute at the default interval.
pub const HISTORY: usize = 60;
/// Shortest time over which growth is reported, seconds: below it, a single burst would look like a slope.
const LEAST_SPAN_S: f64 = 2.0;

/// The slope of the least-squares line through points: ascending times in seconds, values. `None` when they are too
/// few, or span too little time.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let (first_s, _) = points.clone().next()?;
    let (last_s, _) = points.clone().last()?;
    let number = points.clone().count();
    if number < 3 || last_s - first_s < LEAST_SPAN_S {
        return None;
    }
    let count = number as f64;
    let mean_time = points.clone().map(|(at_s, _)| at_s).sum::<f64>() / count;
    let mean_value = points.clone().map(|(_, value)| value).sum::<f64>() / count;
    let (mut shared, mut spread) = (0.0, 0.0);
    for (at_s, value) in points {
        let time = at_s - mean_time;
        shared += time * (value - mean_value);
        spread += time * time;
    }
    Some(if spread > 0.0 { shared / spread } else { 0.0 })
}
