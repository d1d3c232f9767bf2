//! One object file, for placing probes: its functions by name, its code, and the targets of its branches.
//!
//! Takes bytes, passes on places in them. Must not know allocators or processes.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _,
    RelocationTarget, Symbol, SymbolFlags, SymbolKind,
    elf::{self, Rela64},
};

use super::{Absent, extents::Extents};
use crate::{
    arch::{Architecture as _, Destination, Host},
    target::mappings::FileId,
};

/// Functions of the C library that return their first argument, by their definition: a function that tail-calls one of
/// them (`calloc` often does) already has its outcome there. The C library chooses their code at run time, so the file
/// does not reveal their own returns.
pub(super) const RETURN_FIRST_ARGUMENT: [&str; 3] = ["memset", "memcpy", "memmove"];

/// Code bytes to read of a function whose symbol has no size.
const UNSIZED_BYTES: u64 = 512;
/// A stub of the procedure linkage table.
const STUB_BYTES: u64 = 16;

/// An object file, open for reading.
pub struct Object<'data> {
    /// Its file.
    pub file: FileId,
    /// Its path as the target sees it.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: &'data [u8],
}

/// A function's code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'data> {
    /// Address in the object.
    pub(super) address: u64,
    /// Offset in the file.
    pub(super) offset: u64,
    /// Its bytes; a guess of how many if its symbol has no size.
    pub(super) code: &'data [u8],
}

/// The target of a branch out of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'data> {
    /// Code of the same object.
    Code(u64),
    /// The function that the dynamic linker binds to this name.
    Import(&'data str),
}

/// An object parsed for its functions.
pub(super) struct Functions<'data> {
    file: object::File<'data>,
    defined: HashMap<&'data str, (u64, u64)>,
    /// Names of indirect functions (`STT_GNU_IFUNC`): the symbol is a resolver, which chooses the code at load time.
    resolved: HashSet<&'data str>,
    slots: HashMap<u64, &'data str>,
    extents: OnceCell<Extents>,
}

impl<'data> Functions<'data> {
    /// `None` if the bytes are not an object file.
    pub(super) fn parse(bytes: &'data [u8]) -> Option<Self> {
        let file = object::File::parse(bytes).ok()?;
        let defined = defined_functions(&file);
        let mut slots = slots(&file);
        slots.extend(chosen(&file, &defined));
        let resolved = resolved(&file);
        Some(Self { file, defined, resolved, slots, extents: OnceCell::new() })
    }

    /// The whole piece of code that contains `address`: a function, or a separate part of one. `None` if its extent is
    /// unknown.
    pub(super) fn whole(&self, address: u64) -> Option<Body<'data>> {
        let extents =
            self.extents.get_or_init(|| Extents::of(&self.file, self.defined.values().copied()));
        let (start, end) = extents.around(address)?;
        let body = self.code_at(start, end - start)?;
        (body.code.len() as u64 == end - start).then_some(body)
    }

    /// Whether a function begins at `address`, according to its symbol or to unwind information.
    fn begins_function(&self, address: u64) -> bool {
        self.whole(address).is_some_and(|body| body.address == address)
            || self.defined.values().any(|(start, _)| *start == address)
    }

    /// Names of all functions that it defines.
    pub(super) fn names(&self) -> impl Iterator<Item = &'data str> {
        self.defined.keys().copied()
    }

    /// Its build ID.
    pub(super) fn build_id(&self) -> Option<&'data [u8]> {
        self.file.build_id().ok().flatten()
    }

    /// The code of the function with this name, or at this address (`0x…`).
    pub(super) fn body(&self, name: &str) -> Result<Body<'data>, Absent> {
        let hidden = || Absent::Refused("its code is not in the file".to_owned());
        if let Some(digits) = name.strip_prefix("0x") {
            let address = u64::from_str_radix(digits, 16).ok().ok_or(Absent::Missing)?;
            let size = self.defined.values().find(|(start, _)| *start == address);
            let body = self.code_at(address, size.map_or(0, |(_, size)| *size));
            let body = body.ok_or(Absent::Missing)?;
            if Host::is_probe_unsafe(body.code) && !self.begins_function(address) {
                let why = "a probe on a nop of 5 or 10 bytes after a function's entry can overwrite data of the function";
                return Err(Absent::Refused(why.to_owned()));
            }
            return Ok(body);
        }
        let (address, size) = *self.defined.get(name).ok_or(Absent::Missing)?;
        self.code_at(address, size).ok_or_else(hidden)
    }

    fn code_at(&self, address: u64, size: u64) -> Option<Body<'data>> {
        let segment = self.file.segments().find(|segment| {
            address >= segment.address() && address - segment.address() < segment.size()
        })?;
        let (start, length) = segment.file_range();
        let within = address - segment.address();
        let left = length.checked_sub(within)?;
        let wanted = if size == 0 { UNSIZED_BYTES } else { size };
        let code = segment.data_range(address, wanted.min(left)).ok()??;
        Some(Body { address, offset: start + within, code })
    }

    /// All code from `address` on, for a function whose extent is unknown.
    pub(super) fn rest(&self, address: u64) -> Option<Body<'data>> {
        self.code_at(address, u64::MAX).filter(|body| !body.code.is_empty())
    }

    /// Address of the object's own function of this name, if it is known before load time.
    pub(super) fn own(&self, name: &str) -> Option<u64> {
        let known = !self.resolved.contains(name);
        known.then(|| self.defined.get(name).map(|(address, _)| *address)).flatten()
    }

    /// Whether a stub of the procedure linkage table is at `address`.
    pub(super) fn is_stub(&self, address: u64) -> bool {
        matches!(self.through_stub(address), Target::Import(_))
    }

    /// The targets of the branches out of a function. Branches through a register or a table are left out: their target
    /// is unknown.
    pub(super) fn branches_out(&self, body: &Body<'data>) -> Vec<Target<'data>> {
        let end = body.address + body.code.len() as u64;
        let mut targets = Vec::new();
        for instruction in Host::decode(body.code, body.address) {
            match instruction.destination() {
                Some(Destination::Address(to))
                    if to == body.address || !(body.address..end).contains(&to) =>
                {
                    targets.push(self.through_stub(to));
                }
                Some(Destination::Slot(slot)) => {
                    targets.extend(self.slots.get(&slot).copied().map(Target::Import));
                }
                _ => {}
            }
        }
        targets
    }

    /// The target of a jump that reads its address from this slot.
    pub(super) fn through_slot(&self, slot: u64) -> Option<Target<'data>> {
        self.slots.get(&slot).copied().map(Target::Import)
    }

    /// The target of a branch to `address`: if a stub of the procedure linkage table is there, the name that it jumps
    /// to.
    pub(super) fn through_stub(&self, address: u64) -> Target<'data> {
        let stub = || {
            let body = self.code_at(address, STUB_BYTES)?;
            self.slots.get(&Host::stub_slot(body.code, address)?).copied()
        };
        stub().map_or(Target::Code(address), Target::Import)
    }
}

/// Address and size of every function that the object defines, by name without its version. The dynamic symbol table
/// takes precedence: the dynamic linker binds callers to it. Global symbols of the static table follow, then local
/// ones: an allocator built into a program may have hidden its names.
fn defined_functions<'data>(file: &object::File<'data>) -> HashMap<&'data str, (u64, u64)> {
    let mut defined = HashMap::new();
    let mut add = |symbol: &Symbol<'data, '_>| {
        if symbol.is_undefined() || symbol.kind() != SymbolKind::Text || symbol.address() == 0 {
            return;
        }
        if let Ok(name) = symbol.name() {
            let name = name.split('@').next().unwrap_or(name);
            defined.entry(name).or_insert((symbol.address(), symbol.size()));
        }
    };
    file.dynamic_symbols().for_each(|symbol| add(&symbol));
    file.symbols().filter(object::ObjectSymbol::is_global).for_each(|symbol| add(&symbol));
    // Only its own compilation unit uses a local `malloc`.
    let own = |symbol: &Symbol<'data, '_>| {
        symbol.is_local() && symbol.name().is_ok_and(|name| !is_family(name))
    };
    file.symbols().filter(own).for_each(|symbol| add(&symbol));
    defined
}

fn resolved<'data>(file: &object::File<'data>) -> HashSet<&'data str> {
    let chosen = |symbol: &Symbol<'data, '_>| match symbol.flags() {
        SymbolFlags::Elf { st_info, .. } => st_info.st_type() == elf::STT_GNU_IFUNC,
        _ => false,
    };
    let all = file.dynamic_symbols().chain(file.symbols()).filter(chosen);
    all.filter_map(|symbol| symbol.name().ok())
        .map(|name| name.split('@').next().unwrap_or(name))
        .collect()
}

/// Slots for functions of the C library that have one implementation per processor type. The object's own resolver
/// fills them, so they import no name.
fn chosen<'data>(
    file: &object::File<'data>,
    defined: &HashMap<&'data str, (u64, u64)>,
) -> Vec<(u64, &'static str)> {
    let resolver = |name: &&'static str| Some((defined.get(*name)?.0, *name));
    let resolvers: HashMap<u64, &'static str> =
        RETURN_FIRST_ARGUMENT.iter().filter_map(resolver).collect();
    let sections = [".rela.plt", ".rela.iplt", ".rela.dyn"].into_iter();
    let tables = sections.filter_map(|name| file.section_by_name(name)?.data().ok());
    let entries = tables.flat_map(|bytes| bytes.chunks_exact(size_of::<Rela64<LittleEndian>>()));
    entries
        .filter_map(|bytes| {
            let (entry, _) = object::from_bytes::<Rela64<LittleEndian>>(bytes).ok()?;
            let addend = entry.r_addend.get(LittleEndian).cast_unsigned();
            let chosen = entry.r_type(LittleEndian, false) == Host::RESOLVED_SLOT;
            let name = chosen.then(|| resolvers.get(&addend).copied())??;
            Some((entry.r_offset.get(LittleEndian), name))
        })
        .collect()
}

fn is_family(name: &str) -> bool {
    super::catalog::LIBC.iter().any(|function| function.name == name)
}

/// Slots that the dynamic linker fills with the address of a named function.
fn slots<'data>(file: &object::File<'data>) -> HashMap<u64, &'data str> {
    use object::ObjectSymbolTable as _;
    let Some((table, relocations)) = file.dynamic_symbol_table().zip(file.dynamic_relocations())
    else {
        return HashMap::new();
    };
    relocations
        .filter_map(|(address, relocation)| {
            let RelocationTarget::Symbol(index) = relocation.target() else { return None };
            let name = table.symbol_by_index(index).ok()?.name().ok()?;
            Some((address, name.split('@').next().unwrap_or(name)))
        })
        .collect()
}
