//! The collector's options, from the user's settings.

use crate::{
    collector::options::CollectOptions,
    settings::{Settings, Share},
};

/// The options of the collector.
pub(super) fn collect_options(settings: &Settings) -> CollectOptions {
    CollectOptions {
        min_age: settings.min_age,
        children: settings.children,
        frames: settings.test_options.frames,
        light: settings.light,
        objects: settings.traces_objects(),
        live: settings.shows_all(),
        descriptors: settings.traces_descriptors(),
        budget: settings.max_overhead.map(Share::fraction),
        forget: settings.test_options.forget,
    }
}
