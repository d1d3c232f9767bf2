//! File descriptors as the report shows them.

use std::{collections::BTreeMap, sync::Arc};

use tracer_common::{attach::ProbeNumber, kind::ResourceKind};

use super::Member;
use crate::{
    analyze::time_series::TimeSeries,
    format::file_name,
    reconcile::fds::FdDetails,
    report::{Fd, FdOrigin, FdType, Fds, Frame, Turnover, Word},
    snapshot::{SiteFigures, Snapshot},
    symbolize::call_site::plain_name,
};

/// Prefixes of the file names of C library objects.
const LIBC: [&str; 5] = ["libc.so", "libc-", "ld-linux", "ld-musl", "libpthread"];

/// The history of descriptor counts.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    opened: TimeSeries,
    open: TimeSeries,
}

/// The call that opened a call site's descriptors; `None` for other call sites.
pub(super) fn opener(site: &SiteFigures) -> Option<FdOrigin> {
    site.probe.and_then(FdOrigin::from_probe)
}

/// Whether the calls with this probe number open descriptors.
fn opens(probe: ProbeNumber) -> bool {
    FdOrigin::from_probe(probe).is_some_and(|origin| origin != FdOrigin::InvalidClose)
}

/// The resource kind of a call site of descriptors, as the system call programs recorded it.
pub(super) fn kind(site: &SiteFigures) -> Option<ResourceKind> {
    opener(site).map(|_| {
        if site.fd_type == FdType::Socket { ResourceKind::Socket } else { ResourceKind::Fd }
    })
}

/// Whether a call site has a stack worth showing.
pub(super) fn has_stack(site: &SiteFigures) -> bool {
    opener(site).is_none_or(|opener| opener.name().is_some())
}

/// A stack without the C library's innermost system call wrappers: their caller is the one that asked.
pub(super) fn without_syscall_wrappers(frames: &Arc<[Frame]>, call: &str) -> Arc<[Frame]> {
    let wrapper = |(at, frame): &(usize, &Frame)| is_syscall_wrapper(frame, *at == 0, call);
    let skipped = frames.iter().enumerate().take_while(wrapper).count();
    match frames.get(skipped..) {
        Some(rest) if skipped > 0 && !rest.is_empty() => Arc::from(rest),
        _ => Arc::clone(frames),
    }
}

/// Whether a frame is only the C library's wrapper of the system call `call`: the innermost frame in libc, and the
/// frames behind it that are named after the call, as `__libc_recvmsg`. In a static program the library is in no file of
/// its own; there, only the exact name counts: the program itself may have an `accept_client`.
fn is_syscall_wrapper(frame: &Frame, innermost: bool, call: &str) -> bool {
    let module = frame.module.as_deref().map(file_name).unwrap_or_default();
    let in_libc = LIBC.iter().any(|one| module.starts_with(one));
    if innermost && in_libc {
        return true;
    }
    let name = frame.symbol.as_deref().map(plain_name).unwrap_or_default();
    let name = name.trim_start_matches('_').trim_start_matches("GI_").trim_start_matches('_');
    let name = name.trim_start_matches("libc_");
    let name = name.trim_end_matches("_nocancel").trim_end_matches("64");
    // `accept4` opens what is listed as `accept`, `open` what is listed as `openat`.
    let rest = name.strip_prefix(call).or_else(|| call.strip_prefix(name));
    let is_variant = |rest: &str| matches!(rest.trim_end_matches(char::is_numeric), "" | "at");
    ["syscall", "recvmmsg"].contains(&name)
        || name.len() > 2 && rest.is_some_and(|rest| in_libc || is_variant(rest))
}

impl Descriptors {
    /// The descriptors of a snapshot, without the time to their limit.
    pub(super) fn report(&mut self, snapshot: &Snapshot, targets: &[Member]) -> Fds {
        let at_s = snapshot.at_ns as f64 / 1e9;
        let mut fds = Fds {
            opened_unseen: Some(snapshot.unseen.0),
            closed_unseen: Some(snapshot.unseen.1),
            ..Fds::default()
        };
        let (mut opened, mut closed) = (0, 0);
        for site in snapshot.sites.iter().filter(|site| site.probe.is_some_and(opens)) {
            let turnover: &mut Turnover =
                fds.turnover_by_type.entry(site.fd_type.into()).or_default();
            turnover.opened += site.acquired.count;
            turnover.closed += site.released.count;
            turnover.open += site.outstanding.count;
            opened += site.acquired.count;
            closed += site.released.count;
        }
        for ((probe, fd_type, _), sum) in &snapshot.past {
            if opens(*probe) {
                let turnover: &mut Turnover =
                    fds.turnover_by_type.entry((*fd_type).into()).or_default();
                turnover.opened += sum.count;
                turnover.closed += sum.count;
                opened += sum.count;
                closed += sum.count;
            }
        }
        fds.open = fds.turnover_by_type.values().map(|one| one.open).sum();
        (fds.opened, fds.closed) = (Some(opened), Some(closed));
        let open = fds.turnover_by_type.iter().filter(|(_, one)| one.open > 0);
        fds.by_type = open.map(|(fd_type, one)| (fd_type.clone(), one.open)).collect();
        self.opened.push(at_s, opened as f64);
        self.open.push(at_s, fds.open as f64);
        (fds.opened_per_s, fds.growth_per_s) = (self.opened.slope(), self.open.slope());
        if let [only] = targets {
            fds.limit = only.identity.fd_limit;
        }
        fds.table = table(snapshot);
        fds
    }
}

fn table(snapshot: &Snapshot) -> Vec<Fd> {
    let sites: BTreeMap<u32, &SiteFigures> =
        snapshot.sites.iter().map(|site| (site.number, site)).collect();
    let row = |FdDetails { open, link, socket }: &FdDetails| {
        let site = sites.get(&open.site).copied();
        let opener = site.and_then(opener);
        let seen = opener.is_some_and(|opener| opener.name().is_some());
        let since = |ns: u64| snapshot.at_ns.saturating_sub(ns) as f64 / 1e9;
        let of_socket = socket.as_ref().map(|one| &one.socket);
        Fd {
            pid: open.pid.0,
            fd: open.fd,
            fd_type: site.map_or(FdType::Unknown, |site| site.fd_type).into(),
            what: link.as_deref().map(str::to_owned),
            acquired_by: opener.filter(|_| seen).map(Into::into),
            site: seen.then_some(open.site),
            age_s: seen.then(|| since(open.time_ns)),
            pre_attach: opener == Some(FdOrigin::Before),
            state: of_socket.and_then(|one| one.state).map(Word::named),
            state_s: socket.as_ref().and_then(|one| one.since_ns).map(since),
            peer: of_socket.and_then(|one| one.peer.clone()),
            local: of_socket.and_then(|one| one.local.clone()),
        }
    };
    snapshot.descriptors.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Address;

    fn frame(module: &str, symbol: &str) -> Frame {
        Frame {
            address: Address(1),
            symbol: Some(symbol.into()),
            offset: None,
            module: Some(module.into()),
            module_offset: None,
            file: None,
            line: None,
            inlined: false,
            tail_call: false,
            why_unnamed: None,
        }
    }

    fn kept(frames: &[(&str, &str)], call: &str) -> Vec<String> {
        let frames: Arc<[Frame]> = frames.iter().map(|(file, name)| frame(file, name)).collect();
        let kept = without_syscall_wrappers(&frames, call);
        kept.iter().filter_map(|frame| frame.symbol.as_deref().map(str::to_owned)).collect()
    }

    #[test]
    fn wrappers_of_the_c_library_are_left_out() {
        let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        let frames =
            [(libc, "__internal_syscall"), (libc, "__libc_recvmsg"), ("/srv/s", "read_fd")];
        assert_eq!(kept(&frames, "recvmsg"), ["read_fd"]);
        let inside_static =
            |wrapper: &str, call: &str| kept(&[("/srv/s", wrapper), ("/srv/s", "main")], call);
        for (wrapper, call) in [
            ("__libc_accept4", "accept"),
            ("open64", "openat"),
            ("openat2", "openat"),
            ("epoll_create", "epoll_create1"),
            ("syscall", "bpf"),
        ] {
            assert_eq!(inside_static(wrapper, call), ["main"], "{wrapper}");
        }
    }

    #[test]
    fn functions_of_the_program_stay_whatever_their_names() {
        let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        for (own, call) in [
            ("accept_client", "accept"),
            ("open_state_file", "openat"),
            ("socket_of", "socket"),
            ("pipe_to", "pipe2"),
        ] {
            let frames = [(libc, "wrapper"), ("/srv/s", own), ("/srv/s", "main")];
            assert_eq!(kept(&frames, call), [own, "main"], "{own}");
        }
    }
}
