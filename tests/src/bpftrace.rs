//! An independent count of libraries' objects: `bpftrace` on the functions that make them and on `free`.
//!
//! It takes a table of constructors that a test wrote from the libraries' headers, and never a pack. An object is there
//! from when a constructor returned its address until the C library's `free` gets that address. Nothing may be lost: an
//! event that bpftrace missed, or a map that was full, is an error here.

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

/// Objects that may be there at a time.
const MOST_OBJECTS: &str = "4000000";
/// A probe takes a tenth of a second to attach, and as long to detach.
const LIMIT: Duration = Duration::from_secs(120);
/// What bpftrace says where it may not lift a limit that new kernels do not have.
const HARMLESS: &str = "RLIMIT_MEMLOCK";

/// Runs a program, after mounting tracefs if it is not mounted.
const WITH_TRACEFS: &str = "test -e /sys/kernel/tracing/uprobe_events \
     || mount -t tracefs tracefs /sys/kernel/tracing || exit; exec \"$0\" \"$@\"";

/// A function that makes objects.
#[derive(Debug, Clone, Copy)]
pub struct Constructor {
    /// What leaktrace calls what it makes.
    pub kind: &'static str,
    /// Its name. Functions around it that return the same address may be listed, too: an object is
    /// what the outermost one made of it.
    pub function: &'static str,
    /// Where the object's address is.
    pub handle: Handle,
    /// Where this argument has one of these bits, it is another kind.
    pub other: Option<(u8, u64, &'static str)>,
}

/// How a maker tells an object's address.
#[derive(Debug, Clone, Copy)]
pub enum Handle {
    /// It returns it.
    Returned,
    /// It stores it so many bytes behind where an argument points to, and returns 0.
    Stored(u8, u8),
    /// The first block that it gets from the C library, if it gets any.
    FirstBlock,
}

/// A constructor that returns the object.
pub const fn returned(kind: &'static str, function: &'static str) -> Constructor {
    Constructor { kind, function, handle: Handle::Returned, other: None }
}

/// A count that runs; ended when dropped.
#[derive(Debug)]
pub struct Witness {
    running: Running,
    kinds: Vec<&'static str>,
}

impl Witness {
    /// Begins to count in `pid`, which should be stopped until this returns.
    pub fn attach(pid: u32, constructors: &[Constructor]) -> Result<Self> {
        let script = Script::new(pid, constructors)?;
        let path = scratch("witness.bt")?;
        fs::write(&path, &script.text)?;
        // It needs tracefs to take its probes off. Where none is mounted it gets one that it alone sees. It replaces
        // the shell, and so can be asked to end by its process id.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", WITH_TRACEFS]);
        command.args(["bpftrace", "-k", "-f", "json"]).arg(&path);
        command.env("BPFTRACE_MAP_KEYS_MAX", MOST_OBJECTS);
        // Debian's has so many probes by default.
        command.env("BPFTRACE_MAX_PROBES", "4096");
        let running = Running::start(&mut command)
            .context("could not run `bpftrace`; help: cargo xtask test installs it")?;
        let mut witness = Self { running, kinds: script.kinds };
        // What a probe prints is read when all are on.
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

    /// Has it end, without waiting.
    pub fn ask(self) -> Result<Ending> {
        self.running.signal("INT")?;
        Ok(Ending(self))
    }
}

/// A count that was asked to end.
#[derive(Debug)]
pub struct Ending(Witness);

impl Ending {
    /// Waits for its end: the objects of each kind of the table.
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

/// What bpftrace prints at its end, by number of kind.
#[derive(Debug, Default)]
struct Counts {
    created: BTreeMap<usize, u64>,
    overruled: BTreeMap<usize, u64>,
    destroyed: BTreeMap<usize, u64>,
    live: BTreeMap<usize, u64>,
}

impl Counts {
    /// Reads lines of JSON; whatever was lost is an error.
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
            // What has no keys is no count.
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
                    // What threads are in: a constructor that has not returned.
                    _ => continue,
                };
                into.insert(key.parse()?, value);
            }
        }
        Ok(())
    }

    /// The sums by name. What is there must be what was created and not destroyed, or the count is wrong.
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

/// A program for bpftrace. A kind is its place among the kinds, from 1: 0 is what a map says of a key that it
/// does not have.
#[derive(Debug)]
struct Script {
    text: String,
    kinds: Vec<&'static str>,
    pid: u32,
}

impl Script {
    /// Probes each function in each object that `pid` has mapped and that defines it.
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
        // Behind the constructors: bpftrace learns from these what is in its maps.
        let first =
            constructors.iter().any(|function| matches!(function.handle, Handle::FirstBlock));
        script.allocator(allocator, first)?;
        // Other programs are not waited for: the target is stopped.
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
                // The allocator's probes make the object.
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

    /// Objects end here, and move here. With `first`, some are made here.
    fn allocator(&mut self, path: &Path, first: bool) -> Result<()> {
        let gone = "$kind = @object[arg0]; if ($kind != 0) { delete(@object[arg0]);";
        let body = format!("{gone} @destroyed[$kind] = count(); }}");
        self.probe("uprobe", path, "free", "arg0 != 0", &body)?;
        // It cannot be found by its old address any more: another thread may get that before this one returns.
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

/// Files that `pid` has mapped code of, each once.
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
