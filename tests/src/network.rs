//! A network namespace for a program, with loopback only: requests to other hosts fail.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wait_until;

/// Wraps `command` so that it starts in a network namespace of its own. The process id stays the same.
pub fn alone(command: &Command) -> Command {
    let mut wrapped = Command::new("unshare");
    // A second address, from a range for documentation: getaddrinfo(3) treats a host with only 127.0.0.1 as one without
    // IPv4 (AI_ADDRCONFIG). The program replaces the shell.
    let script = "ip link set lo up && ip address add 192.0.2.1/32 dev lo && exec \"$0\" \"$@\"";
    wrapped.args(["--net", "sh", "-c", script]);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Runs `work` in the network namespace of `pid`, on a thread of its own that enters it. Child processes start there,
/// too.
pub fn inside<T: Send>(pid: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .context("could not enter a network")?;
            work()
        });
        thread.join().ok().context("the work panicked")?
    })
}

/// Waits until `pid` is in its own network namespace.
pub fn wait_until_alone(pid: u32) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/net")?;
    wait_until("a network of its own", Duration::from_secs(10), || {
        Ok(fs::read_link(format!("/proc/{pid}/ns/net"))? != own)
    })
}

/// TCP connections in the network namespace of `pid` that a process still holds: neither listening (`0A`) nor in
/// `TIME_WAIT` (`06`).
pub fn connections(pid: u32) -> Result<usize> {
    let mut count = 0;
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}"))?;
        let states = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        count += states.filter(|state| !["0A", "06"].contains(state)).count();
    }
    Ok(count)
}
