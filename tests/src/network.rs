//! A network of a program's own, with loopback and nothing else: what it would ask of other hosts goes nowhere.

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

/// `command` as one that first gets a network of its own. It keeps the process id.
pub fn alone(command: &Command) -> Command {
    let mut wrapped = Command::new("unshare");
    // A second address, of those for documents, because getaddrinfo(3) takes a host that has only 127.0.0.1 for one
    // without IPv4 (AI_ADDRCONFIG). The program replaces the shell.
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

/// Does `work` in the network of `pid`, on a thread of its own, which alone is there. What it starts is there, too.
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

/// Waits until `pid` has the network that it was to get.
pub fn wait_until_alone(pid: u32) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/net")?;
    wait_until("a network of its own", Duration::from_secs(10), || {
        Ok(fs::read_link(format!("/proc/{pid}/ns/net"))? != own)
    })
}

/// TCP connections in the network of `pid` that some process still has: not those that only listen (`0A`), or that
/// the kernel alone remembers (`06`).
pub fn connections(pid: u32) -> Result<usize> {
    let mut count = 0;
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}"))?;
        let states = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        count += states.filter(|state| !["0A", "06"].contains(state)).count();
    }
    Ok(count)
}
