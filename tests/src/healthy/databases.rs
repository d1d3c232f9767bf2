//! Stores: memcached, redis, postgres and mariadb, with as much data as they may keep.

use std::{
    fs::{self, File},
    os::unix::fs::chown,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    HealthyServer, USUAL, prepare,
    traffic::{Ask, Traffic},
    version_of,
};
use crate::{
    http::Connection,
    packages::{self, Unpacked},
    real::Started,
    trace::AS_NOBODY,
    wait_until,
};

/// Each server's port, in its own network namespace.
const PORT: u16 = 7000;
/// The user `nobody` and its group, as in [`AS_NOBODY`].
const NOBODY: u32 = 65534;
/// Requests after which a client reconnects.
const PER_CONNECTION: u64 = 500;
/// Time limit for a database to accept requests once it listens.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Keys in use: with values of a few kilobytes more than memcached and redis may keep here.
const KEYS: u64 = 40_000;

/// memcached with its usual 64 MiB, which are full within a minute.
pub(super) const MEMCACHED: HealthyServer = HealthyServer {
    name: "memcached",
    packages: &[&["memcached"]],
    version: || version_of(program(&["memcached"], "usr/bin/memcached")?.arg("--version")),
    start: |folder| {
        let mut command = program(&["memcached"], "usr/bin/memcached")?;
        command.args(["-l", "127.0.0.1", "-p", &PORT.to_string(), "-U", "0", "-u", "nobody"]);
        Started::listening(folder, &mut command, PORT)
    },
    load: |_| Traffic::clients(4, 1000, memcached_client),
    ..USUAL
};

/// redis with at most 16 MiB, which are full within a minute.
pub(super) const REDIS: HealthyServer = HealthyServer {
    name: "redis",
    packages: &[&["redis-server"]],
    version: || version_of(program(&["redis-server"], "usr/bin/redis-server")?.arg("--version")),
    start: |folder| {
        let mut command = program(&["redis-server"], "usr/bin/redis-server")?;
        command
            .args(["--bind", "127.0.0.1", "--port", &PORT.to_string(), "--save", ""])
            .args(["--maxmemory", "16mb", "--maxmemory-policy", "allkeys-lru", "--dir"])
            .arg(folder);
        Started::listening(folder, &mut command, PORT)
    },
    load: |_| Traffic::clients(4, 1000, redis_client),
    ..USUAL
};

/// postgres with `pgbench`; a process per connection, and new connections every ten seconds.
pub(crate) const POSTGRES: HealthyServer = HealthyServer {
    name: "postgres",
    packages: &[&["postgresql-15"]],
    version: || version_of(postgres(&[], "postgres")?.arg("--version")),
    start: start_postgres,
    load: |_| {
        fill()?;
        let bench = pgbench()?;
        let command = move |seconds: u64| {
            let mut command = again(&bench);
            command.args(["-c", "4", "-j", "1", "--rate", "100", "-T", &seconds.to_string()]);
            command.arg("postgres");
            command
        };
        Ok(Traffic::tool(command, |text| {
            figure(text, "number of transactions actually processed:")
        }))
    },
    // Closes its connections and ends.
    stop_by: "INT",
    options: &["--children"],
};

/// mariadb with `sysbench`; a thread per connection.
pub(super) const MARIADB: HealthyServer = HealthyServer {
    name: "mariadb",
    packages: &[&["mariadb-server-core"], &["sysbench"]],
    version: || version_of(mariadbd()?.0.arg("--version")),
    start: start_mariadb,
    load: |_| {
        prepare(sysbench()?.arg("prepare"))?;
        let command = |seconds: u64| {
            // The package is there: it has just been run.
            let mut command = sysbench().unwrap_or_else(|_| Command::new("sysbench"));
            command.args(["--rate=50", "--report-interval=0", &format!("--time={seconds}"), "run"]);
            command
        };
        Ok(Traffic::tool(command, |text| figure(text, "transactions:")))
    },
    ..USUAL
};

/// A program of unpacked packages, with their libraries.
fn program(names: &[&str], path: &str) -> Result<Command> {
    let unpacked = packages::debian(names)?;
    let mut command = Command::new(unpacked.path(path)?);
    command.env("LD_LIBRARY_PATH", unpacked.libraries()?);
    Ok(command)
}

/// The same program with the same arguments, to add others.
fn again(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    same
}

/// The number after `label` in a tool's output.
fn figure(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.split_once(label)?;
    let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|count| *count > 0)
}

/// A client's sequence of numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    /// The next one below `end`.
    fn below(&mut self, end: u64) -> u64 {
        // The multiplier and increment of Knuth's MMIX; the upper bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// A value of up to 4,000 bytes.
    fn value(&mut self) -> Result<String> {
        Ok("v".repeat(usize::try_from(50 + self.below(4000))?))
    }
}

/// Stores a value and reads it back; statistics now and then.
fn memcached_client(client: u32) -> Result<Ask> {
    let mut connection = Connection::open(PORT)?;
    let (mut numbers, mut asked) = (Numbers(client.into()), 0_u64);
    Ok(Box::new(move || {
        asked += 1;
        if asked.is_multiple_of(PER_CONNECTION) {
            connection.reopen()?;
        }
        if asked.is_multiple_of(100) {
            return connection.statistics();
        }
        // Keys of its own: another client's value would be no wrong answer.
        connection.store(&format!("{client}-{}", numbers.below(KEYS)), &numbers.value()?)
    }))
}

/// Strings with and without an end, a hash, a list, a sorted set, a script.
fn redis_client(client: u32) -> Result<Ask> {
    let mut connection = Connection::open(PORT)?;
    let (mut numbers, mut asked) = (Numbers(client.into()), 0_u64);
    Ok(Box::new(move || {
        asked += 1;
        if asked.is_multiple_of(PER_CONNECTION) {
            connection.reopen()?;
        }
        let key = format!("{client}-{}", numbers.below(KEYS));
        let value = numbers.value()?;
        let small = numbers.below(1000);
        let (command, answer) = match asked % 8 {
            0 => (format!("SET short:{key} {value} PX {}", 1000 + small), "+OK"),
            1 => (format!("HSET hash:{small} field{key} {small}"), ":"),
            2 => (format!("HDEL hash:{small} field{key}"), ":"),
            3 => (format!("LPUSH list:{small} {value}"), ":"),
            4 => (format!("LTRIM list:{small} 0 20"), "+OK"),
            5 => (format!("ZADD set:{client} {small} {small}"), ":"),
            6 => ("EVAL \"return #redis.call('KEYS','nothing*')\" 0".to_owned(), ":0"),
            _ => (format!("SET string:{key} {value}"), "+OK"),
        };
        let got = connection.command(&command)?;
        ensure!(got.starts_with(answer), "`{command:.40}` was answered `{got}`");
        Ok(())
    }))
}

/// A program of postgres, after the words of a wrapper. It finds its files by its own path.
fn postgres(wrapper: &[&str], name: &str) -> Result<Command> {
    let unpacked = packages::debian(&["postgresql-15"])?;
    let path = unpacked.path(&format!("usr/lib/postgresql/15/bin/{name}"))?;
    let path = fs::canonicalize(path)?.to_string_lossy().into_owned();
    let line = [wrapper, &[&path]].concat();
    let (first, rest) = line.split_first().context("a program")?;
    let mut command = Command::new(first);
    command.args(rest).env("LD_LIBRARY_PATH", unpacked.libraries()?);
    Ok(command)
}

/// postgres refuses to run as root.
pub(crate) fn start_postgres(folder: &Path) -> Result<Started> {
    chown(folder, Some(NOBODY), Some(NOBODY))?;
    let data = folder.join("data");
    prepare(
        postgres(&AS_NOBODY, "initdb")?
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-D"])
            .arg(&data),
    )
    .context("help: every user must be able to enter the folder of build products")?;
    let mut command = postgres(&AS_NOBODY, "postgres")?;
    command.arg("-D").arg(&data).args(["-p", &PORT.to_string(), "-h", "127.0.0.1", "-k", ""]);
    Started::listening(folder, &mut command, PORT)
}

/// Fills the tables of `pgbench`.
pub(crate) fn fill() -> Result<()> {
    // It listens before it is ready, and says so to a client.
    wait_until("the database is ready", READY_LIMIT, || {
        match prepare(pgbench()?.args(["-i", "-q", "-s", "2", "postgres"])) {
            Err(error) if error.to_string().contains("starting up") => Ok(false),
            outcome => outcome.map(|()| true),
        }
    })
}

/// postgres's own client for measurements.
pub(crate) fn pgbench() -> Result<Command> {
    let mut command = postgres(&[], "pgbench")?;
    command.args(["-h", "127.0.0.1", "-p", &PORT.to_string(), "-U", "postgres"]);
    Ok(command)
}

fn mariadbd() -> Result<(Command, Unpacked)> {
    let unpacked = packages::debian(&["mariadb-server-core"])?;
    let mut command = Command::new(unpacked.path("usr/sbin/mariadbd")?);
    command.env("LD_LIBRARY_PATH", unpacked.libraries()?);
    // The first option that is read: no configuration of the machine's own.
    command.arg("--no-defaults");
    Ok((command, unpacked))
}

/// The server with a fresh data folder; grants are not checked.
fn start_mariadb(folder: &Path) -> Result<Started> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let with_data = || -> Result<(Command, Unpacked)> {
        let (mut command, unpacked) = mariadbd()?;
        let share = fs::canonicalize(unpacked.path("usr/share/mysql")?)?;
        command
            .arg("--user=root")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--lc-messages-dir={}", share.display()))
            .arg(format!("--character-sets-dir={}/charsets", share.display()))
            .arg("--innodb-log-file-size=16M");
        Ok((command, unpacked))
    };
    let (mut create, unpacked) = with_data()?;
    let mut script = "create database mysql;\nuse mysql;\n".to_owned();
    for name in ["mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data"] {
        let file = unpacked.path(&format!("usr/share/mysql/{name}.sql"))?;
        script.push_str(&fs::read_to_string(file)?);
    }
    script.push_str("create database sbtest;\n");
    let file = folder.join("tables.sql");
    fs::write(&file, script)?;
    prepare(create.arg("--bootstrap").stdin(Stdio::from(File::open(&file)?)))?;
    let (mut command, _) = with_data()?;
    command
        .args(["--skip-grant-tables", "--bind-address=127.0.0.1", "--skip-log-bin"])
        .arg(format!("--port={PORT}"))
        .arg(format!("--socket={}/socket", folder.display()))
        .arg(format!("--pid-file={}/pid", folder.display()));
    Started::listening(folder, &mut command, PORT)
}

/// `sysbench` with reads and writes of two tables.
fn sysbench() -> Result<Command> {
    let unpacked = packages::debian(&["sysbench"])?;
    let scripts = fs::canonicalize(unpacked.path("usr/share/sysbench")?)?;
    let mut command = Command::new(unpacked.path("usr/bin/sysbench")?);
    command
        .env("LD_LIBRARY_PATH", unpacked.libraries()?)
        .env("LUA_PATH", format!("{}/?.lua", scripts.display()))
        .arg(scripts.join("oltp_read_write.lua"))
        .args(["--db-driver=mysql", "--mysql-host=127.0.0.1", "--mysql-user=root"])
        .arg(format!("--mysql-port={PORT}"))
        .args(["--tables=2", "--table-size=5000", "--threads=4"]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_say_how_much_was_answered() {
        let bench = "tps\nnumber of transactions actually processed: 1012\nfailed: 0\n";
        assert_eq!(figure(bench, "number of transactions actually processed:"), Some(1012));
        assert_eq!(
            figure("    transactions:      502    (50.11 per sec.)", "transactions:"),
            Some(502)
        );
        assert_eq!(figure("transactions: 0 (0.00 per sec.)", "transactions:"), None);
        assert_eq!(figure("", "transactions:"), None);
    }

    #[test]
    fn numbers_are_below_their_bound_and_differ() {
        let mut numbers = Numbers(3);
        let drawn: Vec<u64> = (0..100).map(|_| numbers.below(10)).collect();
        assert!((0..10).all(|number| drawn.contains(&number)), "{drawn:?}");
        assert!(drawn.iter().all(|number| *number < 10));
    }
}
