//! A census of a running program: `leaktrace census`, its JSON and its list of blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{scratch, trace::leaktrace, workspace};

/// A census.
#[derive(Debug)]
pub struct Census {
    /// The JSON.
    pub json: Value,
    /// Every block: its usable bytes and its type, by its address.
    pub blocks: BTreeMap<u64, (u64, String)>,
}

impl Census {
    /// Takes one, with more options; checks it against its schema.
    pub fn take(pid: u32, options: &[&str]) -> Result<Self> {
        let list = scratch(&format!("blocks-{pid}"))?;
        let output = Command::new(leaktrace()?)
            .args(["census", "-f", "json", "-p", &pid.to_string(), "--list-blocks"])
            .arg(&list)
            .args(options)
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        let json = serde_json::from_slice(&output.stdout)?;
        validate(&json)?;
        let text = fs::read_to_string(&list)?;
        let blocks = text.lines().map(block).collect::<Option<_>>().context("a list of blocks")?;
        fs::remove_file(&list)?;
        Ok(Self { json, blocks })
    }

    /// A number of the census.
    pub fn number(&self, key: &str) -> u64 {
        self.json.pointer(&format!("/census/{key}")).and_then(Value::as_u64).unwrap_or(u64::MAX)
    }

    /// The sum of a number over all arenas that have an address.
    pub fn arenas(&self, key: &str) -> u64 {
        let arenas = self.list("arenas").filter(|arena| arena.get("address") != Some(&Value::Null));
        arenas.filter_map(|arena| arena.get(key)?.as_u64()).sum()
    }

    /// How many blocks of a type there are.
    pub fn of_type(&self, name: &str) -> u64 {
        let types = self.list("by_type").filter(|one| one.get("type").is_some_and(|is| is == name));
        types.filter_map(|one| one.get("count")?.as_u64()).sum()
    }

    /// How many blocks of a size there are.
    pub fn of_size(&self, size: u64) -> u64 {
        let sizes =
            self.list("by_size").filter(|one| one.get("size").is_some_and(|is| *is == size));
        sizes.filter_map(|one| one.get("count")?.as_u64()).sum()
    }

    fn list(&self, key: &str) -> impl Iterator<Item = &Value> {
        let list = self.json.pointer(&format!("/census/{key}")).and_then(Value::as_array);
        list.into_iter().flatten()
    }

    /// Finds each block that `heap_state` says it holds, with its size; returns their addresses.
    pub fn contains_all(&self, truth: &Value) -> Result<BTreeSet<u64>> {
        let held = truth.get("blocks").and_then(Value::as_object).context("the blocks")?;
        let held: BTreeMap<u64, u64> =
            held.iter().filter_map(|(text, size)| Some((address(text)?, size.as_u64()?))).collect();
        ensure!(held.len() > 20_000, "{}", held.len());
        for (address, size) in &held {
            let found = self.blocks.get(address).map(|(size, _)| size);
            ensure!(found == Some(size), "{address:#x}: {found:?}, not {size}");
        }
        Ok(held.into_keys().collect())
    }

    /// The C library counts the same in its arenas; what its threads cache counts as used there.
    pub fn sums_equal(&self, truth: &Value) -> Result<()> {
        let used = ["used_bytes", "thread_cached_bytes", "own_bytes"].map(|key| self.arenas(key));
        let free = ["free_bytes", "top_bytes"].map(|key| self.arenas(key));
        for (key, bytes) in [("uordblks", used.iter().sum()), ("fordblks", free.iter().sum())] {
            let counted: Option<u64> = truth.get(key).and_then(Value::as_u64);
            ensure!(counted == Some(bytes), "{key}: {bytes}, not {counted:?}");
        }
        Ok(())
    }

    /// What it does not understand.
    pub fn doubts(&self) -> &Value {
        self.json.get("doubts").unwrap_or(&Value::Null)
    }
}

/// Checks a census against its schema.
pub fn validate(json: &Value) -> Result<()> {
    let text = fs::read_to_string(workspace().join("docs/census.schema.json"))?;
    let schema: Value = serde_json::from_str(&text)?;
    let validator = jsonschema::validator_for(&schema).context("the schema itself is not valid")?;
    let faults: Vec<String> = validator
        .iter_errors(json)
        .take(10)
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    bail!("the census breaks docs/census.schema.json:\n{}", faults.join("\n"))
}

fn block(line: &str) -> Option<(u64, (u64, String))> {
    let mut words = line.splitn(3, ' ');
    let address = address(words.next()?)?;
    Some((address, (words.next()?.parse().ok()?, words.next()?.to_owned())))
}

/// An address as text.
pub fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
