//! JIT code: node, which lists its functions in a perf map.

use std::io::Write as _;

use super::*;
use crate::report::Names;

/// Compiles one function at once, and another when its input requests it.
const SERVER_JS: &str = r"
function firstHot(n) { let sum = 0; for (let i = 0; i < n; i++) sum += i % 7; return sum; }
function laterHot(n) { let sum = 1; for (let i = 0; i < n; i++) sum ^= i * 3; return sum; }
for (let i = 0; i < 2000; i++) firstHot(2000);
process.stdin.on('data', () => {
    for (let i = 0; i < 2000; i++) laterHot(2000);
    console.log('later');
});
process.stdin.on('end', () => process.exit(0));
console.log('ready');
";

struct Node {
    child: Child,
    pid: Pid,
    out: BufReader<std::process::ChildStdout>,
    map: PathBuf,
    folder: PathBuf,
}

impl Node {
    /// Starts node; in namespaces of its own if `elsewhere`.
    fn start(name: &str, elsewhere: bool, flags: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("leaktrace-{name}-{}", Pid::own()));
        fs::create_dir_all(&folder).unwrap();
        let script = folder.join("server.js");
        fs::write(&script, SERVER_JS).unwrap();
        let node = format!("exec node {flags} \"$1\"");
        let hide = "s=$(cat \"$1\"); mount -t tmpfs none /tmp && mkdir \"$(dirname \"$1\")\"";
        let inside = format!("{hide} && echo \"$s\" > \"$1\" && {node}");
        let mut command = Command::new(if elsewhere { "unshare" } else { "sh" });
        if elsewhere {
            command.args(["-m", "-p", "-f", "sh", "-c", &inside, "sh"]);
        } else {
            command.args(["-c", &node, "sh"]);
        }
        // Node writes logs to its working directory.
        command.current_dir(&folder).arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        expect(&mut out, "ready");
        let mut pid = child.id();
        if elsewhere {
            // `unshare` waits for its forked child.
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            pid = children.unwrap().trim().parse().unwrap();
        }
        let inner = if elsewhere { 1 } else { pid };
        let map = PathBuf::from(format!("/proc/{pid}/root/tmp/perf-{inner}.map"));
        Self { child, pid: Pid(pid), out, map, folder }
    }

    /// An address in the middle of a function, and its name, from what node wrote.
    fn truth(&self, function: &str) -> Option<(u64, String)> {
        let map = fs::read_to_string(&self.map).unwrap();
        let line = map.lines().rfind(|line| line.contains(function))?;
        let mut words = line.splitn(3, ' ');
        let mut hex = || u64::from_str_radix(words.next().unwrap(), 16).unwrap();
        let (start, size) = (hex(), hex());
        Some((start + size / 2, words.next().unwrap().to_owned()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        drop(fs::remove_file(format!("/tmp/perf-{}.map", self.pid)));
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn expect(out: &mut impl BufRead, text: &str) {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), text);
}

#[test]
fn javascript_functions_are_named_as_they_are_compiled() {
    for (name, elsewhere) in [("node", false), ("node-elsewhere", true)] {
        let mut node = Node::start(name, elsewhere, "--perf-basic-prof");
        let (first, first_name) = node.truth("firstHot").unwrap();
        assert_eq!(node.truth("JS:*laterHot"), None);
        let pid = node.pid;
        let mut namer = Namer::new();
        namer.learn(pid, &mappings::read(pid).unwrap());
        let frames = namer.name(pid, &[first]);
        assert_eq!(frames[0].symbol.as_deref(), Some(&*first_name));
        assert_eq!((frames[0].module.as_deref(), frames[0].why_unnamed.as_deref()), (None, None));
        node.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        expect(&mut node.out, "later");
        let (later, later_name) = node.truth("JS:*laterHot").unwrap();
        namer.learn(pid, &mappings::read(pid).unwrap());
        let frames = namer.name(pid, &[later]);
        assert_eq!(frames[0].symbol.as_deref(), Some(&*later_name));
        assert!(later_name.starts_with("JS:*laterHot "), "{later_name}");
    }
}

#[test]
fn a_call_site_in_new_code_gets_its_name_when_the_map_has_grown() {
    let mut node = Node::start("node-grows", false, "--perf-basic-prof");
    let pid = node.pid;
    let mut namer = Namer::new();
    namer.learn(pid, &mappings::read(pid).unwrap());
    node.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    expect(&mut node.out, "later");
    // The address of the function is known here before the namer has read it.
    let (later, name) = node.truth("JS:*laterHot").unwrap();
    let mapping = mappings::read(pid).unwrap();
    assert!(mapping.find(later).unwrap().executable && mapping.find(later).unwrap().path.is_none());
    let addresses: Arc<[u64]> = [later].into();
    let queue = || {
        VecDeque::from([Wanted { site: 1, pid, addresses: Arc::clone(&addresses), probed: None }])
    };
    // The namer knows the mapping from the start: node reserves its code range at once.
    namer.work(&mut queue(), Duration::from_secs(60));
    assert_eq!(why(&namer.lookup(1).unwrap()), ["JIT: not in its perf map"]);
    namer.refresh();
    assert_eq!(namer.lookup(1), None);
    namer.work(&mut queue(), Duration::from_secs(60));
    assert_eq!(namer.lookup(1).unwrap()[0].symbol.as_deref(), Some(&*name));
    // No new entries: nothing is named again.
    namer.refresh();
    assert!(namer.lookup(1).is_some());
}

#[test]
fn node_without_a_perf_map_has_a_hint() {
    let node = Node::start("node-plain", false, "");
    let pid = node.pid;
    let mappings = mappings::read(pid).unwrap();
    let code = mappings
        .iter()
        .find(|mapping| mapping.executable && mapping.path.is_none() && mapping.special.is_none());
    let addresses: Arc<[u64]> = [code.unwrap().start + 0x100].into();
    let mut namer = Namer::new();
    namer.learn(pid, &mappings);
    namer.work(
        &mut VecDeque::from([Wanted { site: 1, pid, addresses, probed: None }]),
        Duration::from_secs(60),
    );
    let modules = namer.modules([1].into_iter());
    let [module] = &modules[..] else { panic!("{modules:?}") };
    assert_eq!((module.path.as_deref(), module.names), (None, Names::None));
    let why = "JIT (anonymous executable memory) without a perf map";
    assert_eq!((module.frames_without_name, module.why.as_deref()), (1, Some(why)));
    let help = module.help.as_deref().unwrap();
    assert!(help.starts_with("start it as `node --perf-basic-prof`"), "{help}");
    assert!(help.contains("--interpreted-frames-native-stack"), "{help}");
}
