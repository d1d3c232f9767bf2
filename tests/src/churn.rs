//! The program `churn` as a load: connections that open and close in every way, with exact counts.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Service, child::Running, fetched::cargo, http::Connection, target_dir, wait_until};

/// What one run counted: the JSON of `--json`.
#[derive(Clone, Debug)]
pub struct Churned(pub Value);

/// Path of the program. `cargo xtask test` builds it and passes its path; otherwise it is built here if needed, which
/// makes cargo wait for other builds.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LEAKTRACE_CHURN") {
        return Ok(path.into());
    }
    let built = cargo()
        .args(["build", "--quiet", "--package", "churn", "--target-dir"])
        .arg(target_dir())
        .output()
        .context("could not run `cargo build`")?;
    ensure!(built.status.success(), "churn: {}", String::from_utf8_lossy(&built.stderr));
    Ok(target_dir().join("debug/churn"))
}

/// Starts a run.
pub fn start(service: &Service, options: &[&str]) -> Result<Running> {
    Running::start(
        Command::new(program()?)
            .args(["--json", "--port", &service.port.to_string()])
            .args(options),
    )
}

/// Runs to the end.
pub fn churn(service: &Service, options: &[&str]) -> Result<Churned> {
    finish(start(service, options)?)
}

/// Waits until the run has ended.
pub fn finish(mut running: Running) -> Result<Churned> {
    let status = running.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "churn: {}", running.rest_of_stderr().join("\n"));
    let text = running.rest_of_stdout().join("\n");
    Ok(Churned(serde_json::from_str(&text).with_context(|| format!("churn said `{text}`"))?))
}

impl Churned {
    /// The number at this JSON pointer, for example `/total/connected`.
    pub fn number(&self, place: &str) -> Result<u64> {
        let found = self.0.pointer(place).and_then(Value::as_u64);
        found.with_context(|| format!("no `{place}` in {}", self.0))
    }

    /// Names of the ways in this run.
    pub fn ways(&self) -> Result<Vec<&str>> {
        let ways = self.0.get("ways").and_then(Value::as_object).context("ways")?;
        Ok(ways.keys().map(String::as_str).collect())
    }

    /// Checks for each way that every attempt connected and ended exactly once.
    pub fn check(&self) -> Result<()> {
        for way in self.ways()? {
            let figure = |name: &str| self.number(&format!("/ways/{way}/{name}"));
            let ended = figure("closed_by_us")?
                + figure("closed_by_server")?
                + figure("reset_by_us")?
                + figure("reset_by_server")?;
            let connected = figure("connected")?;
            let whole = connected > 0 && connected == figure("attempted")? && connected == ended;
            ensure!(whole, "{way}: {}", self.0);
        }
        Ok(())
    }
}

/// A server's own account of its connections, from `/truth`.
#[derive(Clone, Debug)]
pub struct Account {
    answer: Value,
    /// Requests for `/truth`, whose connections are among the accepted ones.
    asked: u64,
}

/// Asks repeatedly until all connections but the asking one are closed.
pub fn account(service: &Service) -> Result<Account> {
    let (mut account, mut asked) = (None, 0);
    wait_until("every connection is closed", Duration::from_secs(20), || {
        asked += 1;
        let found = ask(service, asked)?;
        let closed = found.number("accepted")? == found.number("closed")? + 1;
        account = closed.then_some(found);
        Ok(closed)
    })?;
    account.context("an account")
}

/// Asks once, whatever is open.
pub fn account_now(service: &Service) -> Result<Account> {
    ask(service, 1)
}

fn ask(service: &Service, asked: u64) -> Result<Account> {
    let text = Connection::open(service.port)?.get("/truth")?;
    Ok(Account { answer: serde_json::from_str(&text)?, asked })
}

impl Account {
    /// A number by its name.
    pub fn number(&self, name: &str) -> Result<u64> {
        self.answer.get(name).and_then(Value::as_u64).with_context(|| format!("no `{name}`"))
    }

    /// The increase of a number since `before`.
    pub fn since(&self, before: &Self, name: &str) -> Result<u64> {
        self.number(name)?.checked_sub(before.number(name)?).context("a count shrank")
    }

    /// Connections accepted since `before`, without those that asked for `/truth`.
    pub fn accepted_since(&self, before: &Self) -> Result<u64> {
        self.since(before, "accepted")?.checked_sub(self.asked).context("fewer than asked")
    }
}
