//! The cost of tracing library objects in addition to heap: on a TLS server, whose every connection and request creates
//! many, and on a program that maps no library with a pack.

use std::{
    fmt::Write as _,
    fs,
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bench_run::{Job, LOOP, end, in_rounds, lost},
    bench_table::{middle, show},
    bench_variant::{OBJECTS, Variant},
    process::{Background, note, output, target_dir},
};

/// Requests per connection of the load with short connections.
const FEW: u32 = 20;

/// One measurement of a server under load.
#[derive(Clone, Copy)]
struct Slice {
    /// The server's CPU time per request, microseconds.
    us_per_request: f64,
    /// Losses in leaktrace's report.
    lost: f64,
}

/// nginx with TLS on a free port; its files are in `folder`.
fn nginx(requests: u32) -> Result<(Background, u16)> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let folder = target_dir().join("bench-nginx");
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(folder)?;
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    if !certificate.exists() {
        output(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
                .args(["-subj", "/CN=localhost", "-keyout"])
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        )?;
    }
    let file = folder.join("nginx.conf");
    let (place, key, certificate) = (folder.display(), key.display(), certificate.display());
    fs::write(
        &file,
        format!(
            "daemon off; master_process off; pid {place}/nginx.pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl;\n\
             keepalive_requests {requests}; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             location / {{ return 200 'hello'; }} }} }}\n"
        ),
    )?;
    let server = Background::start(Command::new("nginx").arg("-c").arg(&file))?;
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(10), "nginx does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    Ok((server, port))
}

/// CPU time of a process with one thread, nanoseconds: `/proc/PID/schedstat`, first number.
fn ran_ns(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    Ok(text.split(' ').next().context("a number")?.parse()?)
}

fn slice(variant: &Variant, requests: u32, seconds: u32) -> Result<Slice> {
    let (server, port) = nginx(requests)?;
    let path = target_dir().join(format!("bench-objects-{}.json", std::process::id()));
    let mut tracer = variant.attach(server.pid(), path.to_str().context("UTF-8")?, &[])?;
    let before = ran_ns(server.pid())?;
    let url = format!("https://127.0.0.1:{port}/");
    let text = output(Command::new("wrk").args(["-t1", "-c16", &format!("-d{seconds}s"), &url]))?;
    let spent = ran_ns(server.pid())? - before;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("wrong answers under load:\n{text}");
    }
    // `  12345 requests in 3.00s, …`
    let line = text.lines().find(|line| line.contains(" requests in "));
    let answered = line.and_then(|line| line.split_whitespace().next()).context("requests")?;
    let mut said = 0.0;
    if let Some(tracer) = &mut tracer {
        end(tracer)?;
        said = lost(&serde_json::from_str(&fs::read_to_string(&path)?)?).unwrap_or(0.0);
        fs::remove_file(&path)?;
    }
    Ok(Slice { us_per_request: spent / 1000.0 / answered.parse::<f64>()?, lost: said })
}

/// Measures; returns a table and a line of text.
pub(crate) fn table(rounds: u32, seconds: u32) -> Result<String> {
    let jobs = OBJECTS.each_ref().map(|variant| Job { variant, load: LOOP });
    let mut text = "| load | untraced | heap alone | heap and objects | objects add to what heap costs | lost |\n|---|--:|--:|--:|--:|--:|\n".to_owned();
    for (name, requests) in
        [("one request each", 1), ("20 requests each", FEW), ("kept open", u32::MAX >> 1)]
    {
        let mut slices: [Vec<Slice>; 3] = Default::default();
        for round in 1..=rounds {
            for (variant, of) in OBJECTS.iter().zip(&mut slices) {
                let slice = slice(variant, requests, seconds)?;
                let us = slice.us_per_request;
                note(&format!("{round}/{rounds} nginx TLS {name} {}: {us:.1} us", variant.name));
                of.push(slice);
            }
        }
        let lost: f64 = slices.iter().flatten().map(|slice| slice.lost).sum();
        let figures =
            slices.map(|of| middle(of.iter().map(|slice| slice.us_per_request).collect()));
        row(
            &mut text,
            &format!("nginx with TLS, connections {name}: µs of its processor time per request"),
            figures,
            lost,
        )?;
    }
    let samples = in_rounds(&jobs, rounds, seconds)?;
    let mut figures = samples.iter().map(|of| middle(of.iter().map(|one| one.figure).collect()));
    let mut next = || figures.next().flatten();
    let figures = [next(), next(), next()];
    let lost = samples.iter().flatten().filter_map(|one| one.lost).sum();
    row(&mut text, "a loop of malloc and free, no library mapped: ns per pair", figures, lost)?;
    Ok(text)
}

fn row(text: &mut String, name: &str, figures: [Option<f64>; 3], lost: f64) -> Result<()> {
    let [untraced, heap, all] = figures;
    let of = |one: Option<f64>| one.zip(untraced).map(|(one, none)| one - none);
    let more = of(all).zip(of(heap)).map(|(all, heap)| (all / heap - 1.0) * 100.0);
    let more = more.map_or_else(|| "?".to_owned(), |more| format!("{more:.0} %"));
    let tenth = |one: Option<f64>| one.map_or_else(|| show(one), |one| format!("{one:.1}"));
    writeln!(
        text,
        "| {name} | {} | {} | {} | {more} | {} |",
        tenth(untraced),
        tenth(heap),
        tenth(all),
        show(Some(lost))
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_that_objects_add_is_a_share_of_the_heap_cost() -> Result<()> {
        let mut text = String::new();
        row(&mut text, "x", [Some(100.0), Some(200.0), Some(220.0)], 0.0)?;
        assert_eq!(text, "| x | 100.0 | 200.0 | 220.0 | 20 % | 0 |\n");
        Ok(())
    }
}
