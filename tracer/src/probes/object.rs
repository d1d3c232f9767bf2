//! One object file as far as probes care: its functions by name, its code, and what its branches lead to.
//!
//! Takes bytes, hands on places in them. Knows no allocator and no process.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _,
    RelocationTarget, Symbol, SymbolFlags, SymbolKind,
    elf::{self, Rela64},
};

use super::{Absent, extents::Extents, place::is_replaced_by_call, returns::RETURN_FIRST_ARGUMENT};
use crate::target::mappings::FileId;

/// Code bytes of a function looked at when its symbol has no size.
const UNSIZED_BYTES: u64 = 512;
/// A stub of the procedure linkage table: `endbr64`, `bnd jmp *slot(%rip)`, or less.
const STUB_BYTES: u64 = 16;

/// An object file, open for reading.
pub struct Object<'data> {
    /// Which file it is.
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
    /// The bytes; a guess of how many when its symbol has no size.
    pub(super) code: &'data [u8],
}

/// Where a branch out of a function leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'data> {
    /// To code of the same object.
    Code(u64),
    /// To whatever the dynamic linker binds this name to.
    Import(&'data str),
}

/// An object parsed for its functions.
pub(super) struct Functions<'data> {
    file: object::File<'data>,
    defined: HashMap<&'data str, (u64, u64)>,
    /// Names whose code is chosen when the object is loaded: what is defined is who chooses.
    resolved: HashSet<&'data str>,
    slots: HashMap<u64, &'data str>,
    extents: OnceCell<Extents>,
}

impl<'data> Functions<'data> {
    /// `None` when the bytes are no object.
    pub(super) fn parse(bytes: &'data [u8]) -> Option<Self> {
        let file = object::File::parse(bytes).ok()?;
        let defined = defined_functions(&file);
        let mut slots = slots(&file);
        slots.extend(chosen(&file, &defined));
        let resolved = resolved(&file);
        Some(Self { file, defined, resolved, slots, extents: OnceCell::new() })
    }

    /// The whole piece of code that `address` is in: a function, or a part of one that lies apart. `None`
    /// where nothing says how far it goes.
    pub(super) fn whole(&self, address: u64) -> Option<Body<'data>> {
        let extents =
            self.extents.get_or_init(|| Extents::of(&self.file, self.defined.values().copied()));
        let (start, end) = extents.around(address)?;
        let body = self.code_at(start, end - start)?;
        (body.code.len() as u64 == end - start).then_some(body)
    }

    /// Whether a function is known to begin there, by its symbol or by unwind information.
    fn begins_function(&self, address: u64) -> bool {
        self.whole(address).is_some_and(|body| body.address == address)
            || self.defined.values().any(|(start, _)| *start == address)
    }

    /// Names of all functions it defines.
    pub(super) fn names(&self) -> impl Iterator<Item = &'data str> {
        self.defined.keys().copied()
    }

    /// What tells this build of it from all others.
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
            if is_replaced_by_call(body.code) && !self.begins_function(address) {
                let why = "a probe on a nop of 5 or 10 bytes behind a function's entry can overwrite data of the function";
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

    /// All that lies from `address` on, where nothing says how far its function goes.
    pub(super) fn rest(&self, address: u64) -> Option<Body<'data>> {
        self.code_at(address, u64::MAX).filter(|body| !body.code.is_empty())
    }

    /// Where the object's own function of this name is, if its address is known before it runs.
    pub(super) fn own(&self, name: &str) -> Option<u64> {
        let known = !self.resolved.contains(name);
        known.then(|| self.defined.get(name).map(|(address, _)| *address)).flatten()
    }

    /// Whether a stub of the linkage table is at `address`.
    pub(super) fn is_stub(&self, address: u64) -> bool {
        matches!(self.through_stub(address), Target::Import(_))
    }

    /// Where the branches out of a function lead; those within it are left out. One through a register
    /// or a table leads nowhere known.
    pub(super) fn branches_out(&self, body: &Body<'data>) -> Vec<Target<'data>> {
        let end = body.address + body.code.len() as u64;
        let mut decoder = Decoder::with_ip(64, body.code, body.address, DecoderOptions::NONE);
        let mut targets = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            match destination(&instruction) {
                Some(Direct(to)) if to == body.address || !(body.address..end).contains(&to) => {
                    targets.push(self.through_stub(to));
                }
                Some(Slot(slot)) => {
                    targets.extend(self.slots.get(&slot).copied().map(Target::Import));
                }
                _ => {}
            }
        }
        targets
    }

    /// Where a jump leads that reads its target from this slot.
    pub(super) fn through_slot(&self, slot: u64) -> Option<Target<'data>> {
        self.slots.get(&slot).copied().map(Target::Import)
    }

    /// A stub of the linkage table stands for the name it is about.
    pub(super) fn through_stub(&self, address: u64) -> Target<'data> {
        let stub = || {
            let body = self.code_at(address, STUB_BYTES)?;
            let mut decoder = Decoder::with_ip(64, body.code, address, DecoderOptions::NONE);
            let mut instruction = decoder.decode();
            if instruction.code() == Code::Endbr64 {
                instruction = decoder.decode();
            }
            match destination(&instruction) {
                Some(Slot(slot)) if instruction.flow_control() == FlowControl::IndirectBranch => {
                    self.slots.get(&slot).copied()
                }
                _ => None,
            }
        };
        stub().map_or(Target::Code(address), Target::Import)
    }
}

/// Where a branch or call leads, as far as its own bytes tell.
enum Destination {
    Direct(u64),
    Slot(u64),
}
use Destination::{Direct, Slot};

fn destination(instruction: &Instruction) -> Option<Destination> {
    if instruction.near_branch_target() != 0 {
        return Some(Direct(instruction.near_branch_target()));
    }
    slot(instruction).map(Slot)
}

/// The slot that an indirect branch or call reads its target from, when it lies at a fixed place.
pub(super) fn slot(instruction: &Instruction) -> Option<u64> {
    let indirect = matches!(
        instruction.flow_control(),
        FlowControl::IndirectBranch | FlowControl::IndirectCall
    );
    let relative = indirect
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_base() == Register::RIP;
    relative.then(|| instruction.ip_rel_memory_address())
}

/// Address and size of every function that the object defines, by name without its version. The dynamic
/// table wins: it is what the dynamic linker binds callers to. Then what is global in the static one, and
/// last what is local: an allocator built into a program may have hidden its names.
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
    // `malloc` itself, when local, is some unit's own affair.
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

/// Slots that are filled with the code of one of the C library's functions that exist several times, for
/// different processors. The object itself chooses, so no name is imported.
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
            let chosen = entry.r_type(LittleEndian, false) == elf::R_X86_64_IRELATIVE;
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
