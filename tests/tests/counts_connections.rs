//! The report and the connection log contain as many opened and closed connections as the client made: 20,000 that live
//! for milliseconds, or the number in `LEAKTRACE_CONNECTIONS`.

use std::{
    collections::BTreeMap, env, fs, io::Write as _, net::TcpStream, process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;
use tests::{
    Service, Trace,
    child::Running,
    churn::{churn, finish, start},
    compile::victim,
    scratch, wait_until,
};

/// Default number of connections.
const CONNECTIONS: &str = "20000";

fn counts(service: &Service, name: &str) -> Result<()> {
    let wanted = env::var("LEAKTRACE_CONNECTIONS").unwrap_or_else(|_| CONNECTIONS.to_owned());
    churn(service, &["--connections", "130"])?.check()?;
    let log = scratch(&format!("connections-{name}.log"))?;
    let path = log.to_str().context("a path of text")?;
    let trace = Trace::attach(
        service.pid(),
        &["--kind", "fd,socket", "--min-age", "1s", "--log-connections", path],
    )?;
    let ways = ["--ways", "polite,we-first,keep-alive,reset,mid-request,connect-close"];
    let options =
        [&ways[..], &["--connections", &wanted, "--at-once", "50", "--seconds", "59"]].concat();
    let churned = finish(start(service, &options)?)?;
    churned.check()?;
    let connected = churned.number("/total/connected")?;
    let logged = wait_until("all are closed in the log", Duration::from_secs(20), || {
        Ok(lines(&fs::read_to_string(&log)?)?.get("closed") == Some(&connected))
    });
    let report = trace.stop()?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    logged.with_context(|| {
        let figure = |name: &str| report.at(name).map(Value::to_string).unwrap_or_default();
        format!(
            "{connected} connected; {} opened, {} closed, {} open; log {}",
            figure("/connections/opened"),
            figure("/connections/closed"),
            figure("/connections/open"),
            figure("/accounting/connections_log")
        )
    })?;
    ensure!(connected.to_string() == wanted, "{connected} of {wanted} connected in time");
    for (figure, number) in [("opened", connected), ("closed", connected), ("open", 0)] {
        let found = report.number(&format!("/connections/{figure}"))?;
        ensure!(found == number, "{figure}: {found} reported, {number} true");
    }
    // The connections of all clients, with all kinds of ends.
    let sources = churned.0.get("sources").and_then(Value::as_object).context("sources")?;
    let clients = report.list("/connections/clients")?;
    ensure!(clients.len() == sources.len(), "{} of {} clients", clients.len(), sources.len());
    for client in clients {
        let address = client.get("address").and_then(Value::as_str).context("an address")?;
        let of = |name: &str| client.get(name).and_then(Value::as_u64);
        let true_count = churned.number(&format!("/sources/{address}/connected"))?;
        ensure!(
            (of("opened"), of("closed"), of("open"))
                == (Some(true_count), Some(true_count), Some(0)),
            "{address}: {true_count} true, {client}"
        );
    }
    let ends = report.at("/connections/by_end")?.as_object().context("ends")?;
    let ended: u64 = ends.values().filter_map(Value::as_u64).sum();
    ensure!(ended == connected, "{ends:?} of {connected}");
    let logged = lines(&fs::read_to_string(&log)?)?;
    let expected =
        BTreeMap::from([("opened".to_owned(), connected), ("closed".to_owned(), connected)]);
    ensure!(logged == expected, "{logged:?} in the log, {expected:?} true");
    Ok(())
}

/// Complete lines of the log, by event.
fn lines(text: &str) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    // The last line may be incomplete.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("a line `{line}`"))?;
        let event = line.get("event").and_then(Value::as_str).context("an event")?;
        *counts.entry(event.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

#[test]
fn of_a_server_on_libevent() -> Result<()> {
    counts(&Service::http_server(&[])?, "libevent")
}

#[test]
fn of_a_server_on_uwebsockets() -> Result<()> {
    counts(&Service::uws_server(&[])?, "uwebsockets")
}

#[test]
fn of_a_server_with_a_pool_of_threads() -> Result<()> {
    counts(&Service::pool_server(&[])?, "pool")
}

/// A client's request: 28 bytes, after which it keeps the connection open.
const CLIENT: &str = "exec 3<>/dev/tcp/127.0.0.1/$0; printf 'GET / HTTP/1.1\\r\\nHost: me\\r\\n\\r\\n' >&3; \
                      read -r line <&3; echo \"$line\"; sleep 60";

#[test]
fn of_a_server_in_a_network_of_its_own() -> Result<()> {
    let service = Service::that_says_its_port(
        Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" 0"])
            .arg(victim("pool_server")?),
    )?;
    let trace = Trace::attach(service.pid(), &["--kind", "fd,socket"])?;
    let client = Running::start(
        Command::new("nsenter")
            .args(["--net", "--target", &service.pid().to_string(), "bash", "-c", CLIENT])
            .arg(service.port.to_string()),
    )?;
    ensure!(client.line(Duration::from_secs(10))?.starts_with("HTTP/1.1 200 OK"), "no answer");
    let report = trace.stop()?;
    let [open] = report.list("/connections/table")? else { bail!("one connection is open") };
    let of = |name: &str| open.get(name).cloned().unwrap_or_default();
    ensure!(
        (of("state"), of("bytes_in")) == ("ESTABLISHED".into(), 28.into()),
        "another state or number of bytes: {open}"
    );
    Ok(())
}

/// Opens connections and sends 50 bytes through each.
fn clients(service: &Service, number: usize) -> Result<Vec<TcpStream>> {
    let connect = |_| {
        let mut client = TcpStream::connect(("127.0.0.1", service.port))?;
        client.write_all(&[b'x'; 50])?;
        Ok(client)
    };
    (0..number).map(connect).collect()
}

/// Numbers of rows by state and bytes received.
fn states(rows: &[Value]) -> BTreeMap<(String, Option<u64>), usize> {
    let mut states = BTreeMap::new();
    for row in rows {
        let state = row.get("state").and_then(Value::as_str).unwrap_or("none").to_owned();
        let bytes = row.get("bytes_in").and_then(Value::as_u64);
        *states.entry((state, bytes)).or_default() += 1;
    }
    states
}

#[test]
fn whose_peers_have_closed_or_reset_them() -> Result<()> {
    let service = Service::that_says_its_port(&mut Command::new(victim("keeps_sockets")?))?;
    let open =
        || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", service.pid()))?.count()) };
    // The listener, its standard streams, and what it has inherited.
    let others = open()?;
    let _earlier = clients(&service, 5)?;
    let trace = Trace::attach(service.pid(), &["--kind", "fd,socket"])?;
    let (closing, resetting) = (clients(&service, 20)?, clients(&service, 20)?);
    wait_until("all are accepted", Duration::from_secs(10), || Ok(open()? == others + 45))?;
    for one in &resetting {
        set_socket_linger(one, Some(Duration::ZERO))?;
    }
    drop((closing, resetting));
    let report = trace.stop()?;
    let state = |state: &str, bytes: Option<u64>| (state.to_owned(), bytes);
    let mut found = states(report.list("/connections/table")?);
    // Of a connection that is over, the traffic is known if it was seen before its end.
    found.remove(&state("CLOSE", Some(50)));
    let over = found.remove(&state("CLOSE", None)).unwrap_or_default();
    let expected = [(state("CLOSE_WAIT", Some(50)), 20), (state("ESTABLISHED", Some(50)), 5)];
    ensure!(found == BTreeMap::from(expected), "{found:?}");
    ensure!(over <= 20, "{over} are over");
    let table = report.list("/connections/table")?;
    let before = |row: &&Value| row.get("pre_attach") == Some(&true.into());
    ensure!(table.len() == 45 && table.iter().filter(before).count() == 5, "{table:?}");
    let mut by_state = BTreeMap::<&str, usize>::new();
    for row in report.list("/fds/table")? {
        *by_state.entry(row.get("state").and_then(Value::as_str).unwrap_or("none")).or_default() +=
            1;
    }
    let expected = [
        ("CLOSE", 20),
        ("CLOSE_WAIT", 20),
        ("ESTABLISHED", 5),
        ("LISTEN", 1),
        ("none", others - 1),
    ];
    ensure!(by_state == BTreeMap::from(expected), "{by_state:?}");
    Ok(())
}
