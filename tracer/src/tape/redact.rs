//! Leaves names and addresses out of a tape, so that it can be sent to others.
//!
//! Takes an answer, passes on a copy of it in which addresses and names are replaced: each by the same substitute
//! throughout, so that the replayed run takes the same course. Every type that a question may be answered with decides
//! here, or beside its definition, what of it stays. What is left out is described in `docs/tapes.md`.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

/// An answer that can be written without names and addresses.
pub trait Redact {
    /// A copy without them.
    #[must_use]
    fn redacted(&self, redactor: &mut Redactor) -> Self;
}

/// What stands for each name and address.
#[derive(Debug, Default)]
pub struct Redactor {
    addresses: HashMap<IpAddr, IpAddr>,
    names: HashMap<Vec<u8>, usize>,
}

/// Folders whose files come with the system: their paths stay.
const SYSTEM: [&str; 6] = ["/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/etc/ld.so."];
/// Paths of their own kind, which stay.
const KERNEL: [&str; 4] = ["/dev/", "/proc/", "/sys/", "/SYSV"];
/// Where other files seem to be.
const ELSEWHERE: &str = "/redacted/";
/// Blocks of IPv4 addresses for documentation, 254 hosts each.
const DOCUMENTED: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
/// Hosts of such a block.
const HOSTS: u32 = 254;

impl Redactor {
    /// The substitute of an address. Those of the own host by definition stay.
    pub fn ip(&mut self, ip: IpAddr) -> IpAddr {
        let canonical = ip.to_canonical();
        if canonical.is_loopback() || canonical.is_unspecified() || canonical.is_multicast() {
            return ip;
        }
        let number = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        let substitute = *self.addresses.entry(canonical).or_insert_with(|| match canonical {
            IpAddr::V4(_) => IpAddr::V4(documented(number)),
            IpAddr::V6(_) => {
                let [a, b, c, d] = (number + 1).to_be_bytes();
                let low = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, low[0], low[1]))
            }
        });
        match (ip, substitute) {
            (IpAddr::V6(_), IpAddr::V4(four)) => IpAddr::V6(four.to_ipv6_mapped()),
            _ => substitute,
        }
    }

    /// The substitute of an address with a port, or of the name of a unix socket. The port stays.
    pub fn address(&mut self, text: &str) -> String {
        match text.parse::<SocketAddr>() {
            Ok(address) => SocketAddr::new(self.ip(address.ip()), address.port()).to_string(),
            Err(_) => self.socket_name(text),
        }
    }

    /// The substitute of a unix socket's name; an abstract one begins with `@`.
    pub fn socket_name(&mut self, name: &str) -> String {
        let number = self.number(name.as_bytes());
        if name.starts_with('@') {
            format!("@redacted-{number}")
        } else {
            format!("{ELSEWHERE}socket-{number}")
        }
    }

    /// The substitute of what a descriptor refers to: another name for a file, the same for all else.
    pub fn link(&mut self, link: &str) -> String {
        let stays = !link.starts_with('/') || KERNEL.iter().any(|start| link.starts_with(start));
        if stays {
            return link.to_owned();
        }
        let number = self.number(link.as_bytes());
        let (folder, deleted) =
            (if link.starts_with("/memfd:") { "/memfd:" } else { ELSEWHERE }, " (deleted)");
        let end = if link.ends_with(deleted) { deleted } else { "" };
        format!("{folder}file-{number}{end}")
    }

    /// The substitute of a control group's path. The root stays.
    pub fn cgroup(&mut self, path: &str) -> String {
        if path == "/" {
            return path.to_owned();
        }
        format!("{ELSEWHERE}cgroup-{}", self.number(path.as_bytes()))
    }

    /// The substitute of a user's id.
    pub fn user(&mut self, id: u32) -> u32 {
        u32::try_from(self.number(format!("user {id}").as_bytes())).unwrap_or(u32::MAX)
    }

    /// The number of a name.
    fn number(&mut self, name: &[u8]) -> usize {
        let next = self.names.len() + 1;
        *self.names.entry(name.to_vec()).or_insert(next)
    }
}

/// The IPv4 address with this number, from blocks that nobody has.
fn documented(number: u32) -> Ipv4Addr {
    let block = usize::try_from(number / HOSTS).unwrap_or(usize::MAX);
    match DOCUMENTED.get(block) {
        Some([a, b, c]) => {
            let host = u8::try_from(number % HOSTS + 1).unwrap_or(0);
            Ipv4Addr::new(*a, *b, *c, host)
        }
        // For benchmarks of network devices, and after those, addresses that are reserved.
        None if number < 1 << 17 => Ipv4Addr::from(u32::from_be_bytes([198, 18, 0, 0]) + number),
        None => Ipv4Addr::from(u32::from_be_bytes([240, 0, 0, 0]) | number),
    }
}

/// The substitute of a program's, library's or source file's path: its folder is left out, unless it came with the
/// system.
pub fn path(path: &str) -> String {
    let stays = SYSTEM.iter().chain(&KERNEL).any(|start| path.starts_with(start));
    match path.rsplit_once('/') {
        Some((_, name)) if !stays && path.starts_with('/') => format!("{ELSEWHERE}{name}"),
        // Of a relative path, too, only the name stays.
        Some((_, name)) if !stays => name.to_owned(),
        _ => path.to_owned(),
    }
}

/// The same for a path that need not be text.
pub fn os_path(one: &Path) -> PathBuf {
    PathBuf::from(path(&one.to_string_lossy()))
}

/// A sentence without the folders of paths in it.
pub fn sentence(text: &str) -> String {
    let word = |word: &str| {
        let (open, rest) =
            word.split_at(word.find(|letter| !"`('\"".contains(letter)).unwrap_or(0));
        if rest.starts_with('/') { format!("{open}{}", path(rest)) } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Types without names.
macro_rules! plain {
    ($($plain:ty),+ $(,)?) => {
        $(impl $crate::tape::Redact for $plain {
            fn redacted(&self, _: &mut $crate::tape::Redactor) -> Self {
                self.clone()
            }
        })+
    };
}

pub(crate) use plain;

plain!((), bool, u8, u16, u32, u64, usize, i32, f64);

impl Redact for String {
    fn redacted(&self, _: &mut Redactor) -> Self {
        sentence(self)
    }
}

impl Redact for Arc<str> {
    fn redacted(&self, _: &mut Redactor) -> Self {
        sentence(self).into()
    }
}

impl<T: Redact> Redact for Option<T> {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        self.as_ref().map(|one| one.redacted(redactor))
    }
}

impl<T: Redact> Redact for Vec<T> {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        self.iter().map(|one| one.redacted(redactor)).collect()
    }
}

impl<T: Redact> Redact for Arc<[T]> {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        self.iter().map(|one| one.redacted(redactor)).collect()
    }
}

impl<K: Clone + Ord, T: Redact> Redact for BTreeMap<K, T> {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        self.iter().map(|(key, one)| (key.clone(), one.redacted(redactor))).collect()
    }
}

impl<A: Redact, B: Redact> Redact for (A, B) {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        (self.0.redacted(redactor), self.1.redacted(redactor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_stable_substitutes_that_nobody_has() {
        let mut redactor = Redactor::default();
        let mut all = std::collections::HashSet::new();
        for number in 0..1000_u32 {
            let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + number));
            let substitute = redactor.ip(ip);
            assert_eq!(redactor.ip(ip), substitute);
            assert!(all.insert(substitute), "{substitute}");
        }
        assert_eq!(redactor.address("10.0.0.1:443"), "192.0.2.1:443");
        assert_eq!(redactor.address("[::ffff:10.0.0.1]:443"), "[::ffff:192.0.2.1]:443");
        assert_eq!(redactor.address("10.0.0.255:1"), "198.51.100.1:1");
        for own in ["127.0.0.1:80", "[::1]:80", "0.0.0.0:0"] {
            assert_eq!(redactor.address(own), own);
        }
        assert!(redactor.address("[2a00::17]:80").starts_with("[2001:db8::"));
    }

    #[test]
    fn names_of_sockets_and_files_are_numbers() {
        let mut redactor = Redactor::default();
        assert_eq!(redactor.address("/run/acme/bus"), "/redacted/socket-1");
        assert_eq!(redactor.address("@acme"), "@redacted-2");
        assert_eq!(redactor.link("/srv/ann/letters (deleted)"), "/redacted/file-3 (deleted)");
        assert_eq!(redactor.link("/srv/ann/letters (deleted)"), "/redacted/file-3 (deleted)");
        assert_eq!(redactor.link("/memfd:secret"), "/memfd:file-4");
        assert_eq!(redactor.cgroup("/user.slice/user-1042.slice"), "/redacted/cgroup-5");
        assert_eq!(redactor.cgroup("/"), "/");
        assert_eq!((redactor.user(1042), redactor.user(7), redactor.user(1042)), (6, 7, 6));
        for stays in ["socket:[17]", "anon_inode:[eventfd]", "/dev/null", "pipe:[3]"] {
            assert_eq!(redactor.link(stays), stays);
        }
    }

    #[test]
    fn folders_of_programs_and_sources_are_left_out() {
        assert_eq!(path("/opt/acme/bin/gateway"), "/redacted/gateway");
        assert_eq!(path("src/secret/plan.cpp"), "plan.cpp");
        assert_eq!(path("/usr/lib/libc.so.6"), "/usr/lib/libc.so.6");
        assert_eq!(path("[vdso]"), "[vdso]");
        assert_eq!(
            sentence("could not read `/opt/acme/x.so`: gone"),
            "could not read `/redacted/x.so`: gone"
        );
        assert_eq!(sentence("operator/ (int)"), "operator/ (int)");
    }
}
