//! Shows the screen with a simulated server that leaks: for looking at it without root.
//!
//! `cargo run --example screen [SITES] [quiet|suspects|lossy|exits|stops|panics|waits|serves]`; with `time` as the
//! scenario it measures receiving, sorting, filtering and drawing, and exits.

#![expect(clippy::print_stdout, reason = "a tool for developers, never shipped")]

mod findings;
#[path = "../../tests/fixtures/mod.rs"]
#[expect(dead_code, reason = "tests need more of them")]
mod fixtures;
mod server;

use std::{path::PathBuf, sync::Arc, time::Duration};

use leaktrace::{
    report::Report,
    tui::{self, Actions, Screen},
};
use tokio::sync::watch;

use server::Server;

fn measure(sites: usize) {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;
    use tui::{draw::screen, keys::Key, state, theme::Theme, update};
    let mut server = Server::new(sites, "time");
    for _ in 0..60 {
        server.report();
    }
    let report = Arc::new(server.report());
    let mut view = state::ViewState::new(state::Size { columns: 120, rows: 40 });
    let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 40));
    let time = |what: &str, runs: u32, work: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        (0..runs).for_each(|_| work());
        println!("{what:<34} {:>9.3} ms", start.elapsed().as_secs_f64() * 1e3 / f64::from(runs));
    };
    time("receive a report, worst first", 20, &mut || {
        update::receive(&mut view, Arc::clone(&report));
    });
    time("draw 120x40", 200, &mut || screen::draw(&view, Theme::Colored, &mut buffer));
    time("next sort column", 14, &mut || {
        update::update(&mut view, Key::SortRight);
    });
    time("cursor down", 200, &mut || {
        update::update(&mut view, Key::Down);
    });
    time("mark", 5, &mut || {
        update::update(&mut view, Key::Mark);
    });
    update::update(&mut view, Key::Filter);
    for letter in "expand".chars() {
        time(&format!("filter letter {letter}"), 1, &mut || {
            update::update(&mut view, Key::Typed(letter));
        });
    }
    time("receive a report, filtered", 5, &mut || {
        update::receive(&mut view, Arc::clone(&report));
    });
    update::update(&mut view, Key::Accept);
    for (name, list) in [("descriptors", Key::Fds), ("connections", Key::Connections)] {
        update::update(&mut view, list);
        time(&format!("{name}: receive a report"), 5, &mut || {
            update::receive(&mut view, Arc::clone(&report));
        });
        time(&format!("{name}: next sort column"), 14, &mut || {
            update::update(&mut view, Key::SortRight);
        });
        time(&format!("{name}: page down"), 200, &mut || {
            update::update(&mut view, Key::PageDown);
        });
        time(&format!("{name}: draw 120x40"), 200, &mut || {
            screen::draw(&view, Theme::Colored, &mut buffer);
        });
    }
}

/// Pretends to write files.
struct Pretended;

impl Actions for Pretended {
    fn save(&mut self, report: &Report) -> Result<PathBuf, String> {
        let fits = report.window.duration_s <= 30.0;
        fits.then(|| PathBuf::from("leaktrace-4121.json")).ok_or_else(|| "disk full".to_owned())
    }

    fn suppress(&mut self, _: &str) -> Result<PathBuf, String> {
        Ok(PathBuf::from("leaktrace.supp"))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let sites = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    let scenario = arguments.next().unwrap_or_default();
    if scenario == "time" {
        measure(sites);
        return Ok(());
    }
    let (send, reports) = watch::channel(None);
    let (halt, mut stop) = watch::channel(false);
    std::thread::spawn(move || {
        let mut server = Server::new(sites, &scenario);
        let pause = Duration::from_millis(if scenario == "waits" { 600_000 } else { 1000 });
        std::thread::sleep(pause);
        loop {
            let report = server.report();
            assert!(!(scenario == "panics" && server.tick > 3), "simulated panic");
            let last = report.window.duration_s > 20.0 && scenario == "stops";
            if send.send(Some(Arc::new(report))).is_err() || last && halt.send(true).is_err() {
                return;
            }
            std::thread::sleep(pause);
        }
    });
    let mut screen = Screen::enter()?;
    let mut actions = Pretended;
    let shown = screen.show(reports, &mut actions);
    let left =
        tokio::select! { left = shown => Some(left?), _ = stop.wait_for(|stop| *stop) => None };
    drop(screen);
    println!("left: {left:?}");
    Ok(())
}
