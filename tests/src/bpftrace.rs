//! An independent count of library objects: `bpftrace` probes their constructors and `free`.
//!
//! Takes a table of constructors that the test wrote from the libraries' headers, never a pack. An object lives from
//! its constructor's return until its address is passed to the C library's `free`. Losses are errors: an event that
//! bpftrace missed, or a full map.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSymbol as _};
use serde_json::Value;

use crate::{child::Running, leaks::Objects, scratch};

/// Upper bound of objects alive at the same time.
const MOST_OBJECTS: &str = "4000000";
/// Attaching a probe takes a tenth of a second, and so does detaching it.
const LIMIT: Duration = Duration::from_secs(120);
/// bpftrace's warning where it may not lift a limit that new kernels do not have.
const HARMLESS: &str = "RLIMIT_MEMLOCK";

/// Runs a program, after mounting tracefs if it is not mounted.
const WITH_TRACEFS: &str = "test -e /sys/kernel/tracing/uprobe_events \
     || mount -t tracefs tracefs /sys/kernel/tracing || exit; exec \"$0\" \"$@\"";

/// A constructor of a library.
#[derive(Debug, Clone, Copy)]
pub struct Constructor {
    /// leaktrace's name for the object's kind.
    pub kind: &'static str,
    /// The function's name. Wrappers that return the same address may be listed, too: the outermost one decides the
    /// object's kind.
    pub function: &'static str,
    /// Where the constructor passes the object's address.
    pub handle: Handle,
    /// If this argument has one of these bits set, the object is of another kind.
    pub other: Option<(u8, u64, &'static str)>,
}

/// How a constructor passes an object's address to its caller.
#[derive(Debug, Clone, Copy)]
pub enum Handle {
    /// As its return value.
    Returned,
    /// Stored at this offset from the pointer in an argument; the function returns 0.
    Stored(u8, u8),
    /// The first block that the constructor acquires from the C library, if any.
    FirstBlock,
}

/// A constructor that returns the object.
pub const fn returned(kind: &'static str, function: &'static str) -> Constructor {
    Constructor { kind, function, handle: Handle::Returned, other: None }
}

/// A running count; stopped when dropped.
#[derive(Debug)]
pub struct Witness {
    running: Running,
    kinds: Vec<&'static str>,
}

impl Witness {
    /// Starts counting in `pid`, which should be stopped until this returns.
    pub fn attach(pid: u32, constructors: &[Constructor]) -> Result<Self> {
        let script = Script::new(pid, constructors)?;
        let path = scratch("witness.bt")?;
        fs::write(&path, &script.text)?;
        // bpftrace needs tracefs to remove its probes. If none is mounted, it gets a private mount. bpftrace replaces
        // the shell, so the child's pid is its own pid.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", WITH_TRACEFS]);
        command.args(["bpftrace", "-k", "-f", "json"]).arg(&path);
        command.env("BPFTRACE_MAP_KEYS_MAX", MOST_OBJECTS);
        // The default limit of Debian's bpftrace.
        command.env("BPFTRACE_MAX_PROBES", "4096");
        let running = Running::start(&mut command)
            .context("could not run `bpftrace`; help: cargo xtask test installs it")?;
        let mut witness = Self { running, kinds: script.kinds };
        // Output is parsed only after all probes are attached.
        loop {
            let line = match witness.running.line(LIMIT) {
                Ok(line) => line,
                Err(error) => bail!("{error}:\n{}", witness.running.rest_of_stderr().join("\n")),
            };
            if line.contains("\"counting") {
                return Ok(witness);
            }
        }
    }

    /// Asks bpftrace to stop, without waiting.
    pub fn request_stop(self) -> Result<Ending> {
        self.running.signal("INT")?;
        Ok(Ending(self))
    }
}

/// A count that was asked to stop.
#[derive(Debug)]
pub struct Ending(Witness);

impl Ending {
    /// Waits until bpftrace has ended, and returns the objects of each kind in the table.
    pub fn wait(self) -> Result<BTreeMap<String, Objects>> {
        let Witness { mut running, kinds } = self.0;
        let status = running.wait(LIMIT)?;
        let lines = running.rest_of_stdout();
        let said = running.rest_of_stderr();
        let complaint = said.iter().find(|line| !line.contains(HARMLESS) && !line.is_empty());
        ensure!(complaint.is_none(), "bpftrace: {}", said.join("\n"));
        ensure!(status.success(), "bpftrace ended with {status}");
        Counts::read(&lines)?.objects(&kinds)
    }
}

/// bpftrace's final output, by number of the kind.
#[derive(Debug, Default)]
struct Counts {
    created: BTreeMap<usize, u64>,
    overruled: BTreeMap<usize, u64>,
    destroyed: BTreeMap<usize, u64>,
    live: BTreeMap<usize, u64>,
}

impl Counts {
    /// Parses lines of JSON; any reported loss is an error.
    fn read(lines: &[String]) -> Result<Self> {
        let mut counts = Self::default();
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let json: Value =
                serde_json::from_str(line).with_context(|| format!("bpftrace said `{line}`"))?;
            match json.get("type").and_then(Value::as_str) {
                Some("map") => counts.map(json.get("data").context("a map's data")?)?,
                Some("attached_probes" | "printf") => {}
                _ => bail!("bpftrace: {line}"),
            }
        }
        Ok(counts)
    }

    fn map(&mut self, data: &Value) -> Result<()> {
        for (name, map) in data.as_object().context("maps by name")? {
            // A map without keys is no count.
            for (key, value) in map.as_object().into_iter().flatten() {
                let value = value.as_u64().context("a whole number")?;
                let into = match name.as_str() {
                    "@created" => &mut self.created,
                    "@overruled" => &mut self.overruled,
                    "@destroyed" => &mut self.destroyed,
                    "@object" => {
                        *self.live.entry(usize::try_from(value)?).or_default() += 1;
                        continue;
                    }
                    // State per thread: a constructor that has not returned yet.
                    _ => continue,
                };
                into.insert(key.parse()?, value);
            }
        }
        Ok(())
    }

    /// The sums by name. Live objects must equal created minus destroyed, or the count is wrong.
    fn objects(&self, kinds: &[&'static str]) -> Result<BTreeMap<String, Objects>> {
        let of = |map: &BTreeMap<usize, u64>, number| map.get(&number).copied().unwrap_or_default();
        let mut found = BTreeMap::new();
        for (kind, number) in kinds.iter().zip(1..) {
            let created = of(&self.created, number) - of(&self.overruled, number);
            let objects = Objects { created, destroyed: of(&self.destroyed, number) };
            let live = of(&self.live, number);
            ensure!(
                objects.destroyed + live == created,
                "{kind}: {live} are there, of {objects:?}: bpftrace lost some"
            );
            found.insert((*kind).to_owned(), objects);
        }
        Ok(found)
    }
}

/// A program for bpftrace. A kind's number is its index in the list of kinds plus 1: 0 is what a map returns for a
/// missing key.
#[derive(Debug)]
struct Script {
    text: String,
    kinds: Vec<&'static str>,
    pid: u32,
}

impl Script {
    /// Probes each function in each mapped file of `pid` that defines it.
    fn new(pid: u32, constructors: &[Constructor]) -> Result<Self> {
        let names = constructors.iter().flat_map(|constructor| {
            let other = constructor.other.map(|(_, _, kind)| kind);
            [Some(constructor.kind), other].into_iter().flatten()
        });
        let kinds: Vec<_> = names.collect::<BTreeSet<_>>().into_iter().collect();
        let mut script = Self { text: String::new(), kinds, pid };
        let mut allocators = Vec::new();
        for path in mapped(pid)? {
            let defined = defined(&path)?;
            for (number, constructor) in constructors.iter().enumerate() {
                if defined.contains(constructor.function) {
                    script.constructor(&path, number, constructor)?;
                }
            }
            let is_libc = path.file_name().is_some_and(|name| name == "libc.so.6");
            if is_libc && defined.contains("free") {
                allocators.push(path);
            }
        }
        let [allocator] = allocators.as_slice() else {
            bail!("{} C libraries in pid {pid}", allocators.len());
        };
        // After the constructors: bpftrace infers the types of its maps from them.
        let first =
            constructors.iter().any(|function| matches!(function.handle, Handle::FirstBlock));
        script.allocator(allocator, first)?;
        // Events of other processes need no handling: the target is stopped.
        script
            .text
            .push_str("interval:ms:50 { if (@said == 0) { @said = 1; printf(\"counting\"); } }\n");
        Ok(script)
    }

    fn number(&self, kind: &str) -> usize {
        self.kinds.iter().position(|name| *name == kind).map_or(0, |place| place + 1)
    }

    fn probe(
        &mut self,
        way: &str,
        path: &Path,
        function: &str,
        filter: &str,
        body: &str,
    ) -> Result<()> {
        let (pid, path) = (self.pid, path.display());
        let filter = if filter.is_empty() { String::new() } else { format!(" && {filter}") };
        writeln!(self.text, "{way}:\"{path}\":{function} /pid == {pid}{filter}/ {{ {body} }}")?;
        Ok(())
    }

    fn constructor(&mut self, path: &Path, number: usize, constructor: &Constructor) -> Result<()> {
        let kind = self.number(constructor.kind);
        let mut set_kind = format!("$kind = (uint64){kind};");
        let mut entry = String::new();
        if let Some((argument, mask, other)) = constructor.other {
            let other = self.number(other);
            write!(entry, "@other{number}[tid] = arg{argument} & {mask};")?;
            write!(set_kind, "if (@other{number}[tid] != 0) {{ $kind = (uint64){other}; }}")?;
            write!(set_kind, "delete(@other{number}[tid]);")?;
        }
        let (handle, after) = match constructor.handle {
            Handle::Returned => ("$handle = retval;".to_owned(), String::new()),
            Handle::Stored(argument, offset) => {
                write!(entry, "@place{number}[tid] = arg{argument};")?;
                let at = format!("*(uint64 *)(@place{number}[tid] + {offset})");
                let handle = format!("$handle = (uint64)0; if (retval == 0) {{ $handle = {at}; }}");
                (handle, format!("delete(@place{number}[tid]);"))
            }
            Handle::FirstBlock => {
                // The allocator's probes create the object.
                write!(entry, "@first[tid] = (uint64){kind};")?;
                self.probe("uprobe", path, constructor.function, "", &entry)?;
                let (filter, body) = ("@first[tid] != 0", "delete(@first[tid]);");
                return self.probe("uretprobe", path, constructor.function, filter, body);
            }
        };
        if !entry.is_empty() {
            self.probe("uprobe", path, constructor.function, "", &entry)?;
        }
        let body = format!(
            "{set_kind} {handle} if ($handle != 0) {{ $inner = @object[$handle]; \
             if ($inner != 0) {{ @overruled[$inner] = count(); }} \
             @object[$handle] = $kind; @created[$kind] = count(); }} {after}"
        );
        self.probe("uretprobe", path, constructor.function, "", &body)
    }

    /// Probes that end and move objects. With `first`, also those that create an object from its first block.
    fn allocator(&mut self, path: &Path, first: bool) -> Result<()> {
        let gone = "$kind = @object[arg0]; if ($kind != 0) { delete(@object[arg0]);";
        let body = format!("{gone} @destroyed[$kind] = count(); }}");
        self.probe("uprobe", path, "free", "arg0 != 0", &body)?;
        // The old address is removed at entry: another thread may get it before this call returns.
        let body =
            format!("{gone} @moving[tid] = $kind; @from[tid] = arg0; @bytes[tid] = arg1; }}");
        self.probe("uprobe", path, "realloc", "arg0 != 0", &body)?;
        let body = "$kind = @moving[tid]; \
             if (retval != 0) { @object[retval] = $kind; } \
             else if (@bytes[tid] == 0) { @destroyed[$kind] = count(); } \
             else { @object[@from[tid]] = $kind; } \
             delete(@moving[tid]); delete(@from[tid]); delete(@bytes[tid]);";
        self.probe("uretprobe", path, "realloc", "@moving[tid] != 0", body)?;
        if first {
            for function in ["malloc", "calloc"] {
                let body = "$kind = @first[tid]; @object[retval] = $kind; \
                     @created[$kind] = count(); delete(@first[tid]);";
                let filter = "@first[tid] != 0 && retval != 0";
                self.probe("uretprobe", path, function, filter, body)?;
            }
        }
        Ok(())
    }
}

/// Files that `pid` maps as code, each once.
fn mapped(pid: u32) -> Result<BTreeSet<PathBuf>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut paths = BTreeSet::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let code = fields.nth(1).is_some_and(|access| access.contains('x'));
        if let Some(path) = fields.nth(3)
            && code
            && path.starts_with('/')
        {
            paths.insert(PathBuf::from(path));
        }
    }
    Ok(paths)
}

/// Functions that a file defines.
fn defined(path: &Path) -> Result<BTreeSet<String>> {
    let bytes = fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
    let file = object::File::parse(&*bytes)?;
    let symbols = file.dynamic_symbols().chain(file.symbols());
    Ok(symbols
        .filter(object::ObjectSymbol::is_definition)
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .collect())
}
