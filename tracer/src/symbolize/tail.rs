//! Functions that left by a tail jump: on the call path, but not on the stack.
//!
//! `event_base_dispatch` ends with a jump to `event_base_loop`: on the stack, the loop seems to be called by the
//! caller of `event_base_dispatch`. The call before a return address says which function was called. If that is not
//! the function found running, and its code provably jumps there, it is shown, too: within an object, through the
//! procedure linkage table into another one, and from one such function to the next. What cannot be proven (indirect
//! calls, functions without extent) adds nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    os::unix::fs::FileExt as _,
    rc::Rc,
};

use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, LittleEndian, UnwindSection as _};
use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, RelocationTarget,
    SymbolKind, read::ReadCache,
};

use super::objects::{ObjectId, Objects};
use crate::arch::{Architecture as _, Destination, Flow, Host, Instruction};

/// Most functions between a call and the running function.
const CHAIN: usize = 3;
/// Longer functions are not searched for jumps.
const LARGEST: u64 = 1 << 16;
/// Most functions decoded to find one path, each at most [`LARGEST`] bytes: a path that is longer to search for proves
/// little.
const DECODED: usize = 64;
/// Cached pairs of a call and a function, 60 bytes each.
const PAIRS: usize = 1 << 16;

/// A place in an object's file.
pub(super) type Spot = (ObjectId, u64);

/// Finds functions that left by tail jumps.
#[derive(Debug, Default)]
pub(super) struct Tails {
    code: HashMap<ObjectId, Option<Rc<CodeOf>>>,
    known: HashMap<(Spot, Spot), Rc<[Spot]>>,
}

/// What is known of one object's code.
#[derive(Debug)]
struct CodeOf {
    file: Rc<File>,
    /// Offset in the file, bytes, and address, of each loaded segment.
    segments: Vec<(u64, u64, u64)>,
    /// Size of functions by address.
    functions: BTreeMap<u64, u64>,
    /// Addresses of exported functions by name.
    exports: HashMap<Vec<u8>, u64>,
    /// Symbols that the stubs of the procedure linkage table lead to.
    stubs: HashMap<u64, Vec<u8>>,
    /// Symbols bound to the GOT entries that calls and jumps go through.
    words: HashMap<u64, Vec<u8>>,
}

impl Tails {
    /// The jumps on the path from the call that returns to `outer` to the function that contains `inner`, the last
    /// one first: each as the address behind the jump, like a call's return address. `mapped` are the objects in which
    /// names are looked up: those of the process.
    pub(super) fn between(
        &mut self,
        objects: &Objects,
        mapped: &[ObjectId],
        outer: Spot,
        inner: Spot,
    ) -> Rc<[Spot]> {
        if let Some(known) = self.known.get(&(outer, inner)) {
            return Rc::clone(known);
        }
        let found = Search::new(self, objects, mapped, inner).and_then(|search| search.path(outer));
        let found: Rc<[Spot]> = found.unwrap_or_default().into();
        if self.known.len() >= PAIRS {
            self.known.clear();
        }
        self.known.insert((outer, inner), Rc::clone(&found));
        found
    }

    fn code(&mut self, objects: &Objects, id: ObjectId) -> Option<Rc<CodeOf>> {
        let read = || objects.file(id).and_then(|file| CodeOf::read(&file)).map(Rc::new);
        self.code.entry(id).or_insert_with(read).clone()
    }
}

/// Looks for a path of jumps to one function.
struct Search<'a> {
    tails: &'a mut Tails,
    objects: &'a Objects,
    mapped: &'a [ObjectId],
    /// The object and the address of the function found running.
    running: Spot,
    decoded: HashSet<Spot>,
}

impl<'a> Search<'a> {
    /// A search for the function that contains `inner`.
    fn new(
        tails: &'a mut Tails,
        objects: &'a Objects,
        mapped: &'a [ObjectId],
        inner: Spot,
    ) -> Option<Self> {
        let code = tails.code(objects, inner.0)?;
        let running = (inner.0, code.function_at(code.address(inner.1)?)?);
        Some(Self { tails, objects, mapped, running, decoded: HashSet::new() })
    }

    /// The places behind the jumps that lead from the function called before `outer` to the running one, the last
    /// jump first.
    fn path(mut self, outer: Spot) -> Option<Vec<Spot>> {
        let caller = self.tails.code(self.objects, outer.0)?;
        let called = self.functions(outer.0, caller.called_before(outer.1)?);
        if called.contains(&self.running) {
            return None;
        }
        let mut chain = Vec::new();
        called.into_iter().any(|function| self.leads(function, &mut chain)).then(|| {
            chain.reverse();
            chain
        })
    }

    /// The functions that a call or jump in `object` may reach, by object and address. A name may have several
    /// definitions; the loader has chosen one.
    fn functions(&mut self, object: ObjectId, called: Called) -> Vec<Spot> {
        let name = match called {
            Called::Address(address) => return vec![(object, address)],
            Called::Name(name) => name,
        };
        let Self { tails, objects, mapped, running, .. } = self;
        let mut all = Vec::new();
        for id in [running.0, object].iter().chain(mapped.iter()) {
            let address =
                tails.code(objects, *id).and_then(|code| code.exports.get(&name).copied());
            let function = address.map(|address| (*id, address));
            all.extend(function.filter(|function| !all.contains(function)));
        }
        all
    }

    /// Whether the function jumps to the running one, possibly through others. Appends the places behind the jumps,
    /// the first one first.
    fn leads(&mut self, from: Spot, chain: &mut Vec<Spot>) -> bool {
        if chain.len() == CHAIN || self.decoded.len() == DECODED || !self.decoded.insert(from) {
            return false;
        }
        let (object, start) = from;
        let Some(code) = self.tails.code(self.objects, object) else { return false };
        for (behind, called) in code.jumps(start) {
            let reached = self.functions(object, called);
            chain.push((object, behind));
            if reached.contains(&self.running)
                || reached.into_iter().any(|function| self.leads(function, chain))
            {
                return true;
            }
            chain.pop();
        }
        false
    }
}

/// The target of a call.
enum Called {
    Address(u64),
    Name(Vec<u8>),
}

impl CodeOf {
    fn read(file: &Rc<File>) -> Option<Self> {
        let cache = ReadCache::new(&**file);
        let object = object::File::parse(&cache).ok()?;
        let segments = object
            .segments()
            .map(|segment| (segment.file_range().0, segment.file_range().1, segment.address()))
            .collect();
        let mut functions = BTreeMap::new();
        let mut exports = HashMap::new();
        for symbol in object.dynamic_symbols() {
            if symbol.is_definition() && symbol.kind() == SymbolKind::Text {
                functions.insert(symbol.address(), symbol.size());
                exports.insert(symbol.name_bytes().ok()?.to_vec(), symbol.address());
            }
        }
        for symbol in object.symbols() {
            if symbol.is_definition() && symbol.kind() == SymbolKind::Text {
                functions.insert(symbol.address(), symbol.size());
            }
        }
        if object.symbols().next().is_none() {
            for (start, size) in unwound(&object) {
                functions.entry(start).or_insert(size);
            }
        }
        let mut words = HashMap::new();
        let names = object.dynamic_symbol_table();
        for (place, relocation) in object.dynamic_relocations().into_iter().flatten() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let symbol = names.as_ref().and_then(|table| {
                use object::ObjectSymbolTable as _;
                table.symbol_by_index(index).ok()
            });
            if let Some(name) = symbol.and_then(|symbol| symbol.name_bytes().ok()) {
                words.insert(place, name.to_vec());
            }
        }
        let mut stubs = HashMap::new();
        for section in object.sections() {
            let is_stubs = section.name().is_ok_and(|name| name.starts_with(".plt"));
            if let Some(bytes) = section.data().ok().filter(|_| is_stubs) {
                let all = Host::stubs(bytes, section.address()).into_iter();
                stubs
                    .extend(all.filter_map(|(stub, word)| Some((stub, words.get(&word)?.clone()))));
            }
        }
        Some(Self { segments, functions, exports, stubs, words, file: Rc::clone(file) })
    }

    fn address(&self, offset: u64) -> Option<u64> {
        let holds = |(start, size, _): &&(u64, u64, u64)| *start <= offset && offset < start + size;
        self.segments.iter().find(holds).map(|(start, _, address)| offset - start + address)
    }

    fn offset(&self, address: u64) -> Option<u64> {
        let holds = |(_, size, at): &&(u64, u64, u64)| *at <= address && address < at + size;
        self.segments.iter().find(holds).map(|(start, _, at)| address - at + start)
    }

    /// The start of the function that contains an address.
    fn function_at(&self, address: u64) -> Option<u64> {
        let (start, size) = self.functions.range(..=address).next_back()?;
        (address - start < *size).then_some(*start)
    }

    /// The target of the call that ends at this offset of the file, if the call is direct.
    fn called_before(&self, offset: u64) -> Option<Called> {
        let mut bytes = [0; Host::CALL_BYTES];
        self.file.read_exact_at(&mut bytes, offset.checked_sub(Host::CALL_BYTES as u64)?).ok()?;
        let after = self.address(offset.checked_sub(1)?)? + 1;
        self.target(Host::call_before(&bytes, after)?)
    }

    /// The target of a call or jump.
    fn target(&self, destination: Destination) -> Option<Called> {
        match destination {
            Destination::Address(address) => {
                let name = self.stubs.get(&address).cloned();
                Some(name.map_or(Called::Address(address), Called::Name))
            }
            Destination::Slot(word) => self.words.get(&word).cloned().map(Called::Name),
        }
    }

    /// The jumps out of the function at an address: the offset behind each, and its target.
    fn jumps(&self, from: u64) -> Vec<(u64, Called)> {
        let size = self.functions.get(&from).copied().filter(|size| *size <= LARGEST);
        let Some((size, offset)) = size.zip(self.offset(from)) else { return Vec::new() };
        let mut code = vec![0; usize::try_from(size).unwrap_or(0)];
        if self.file.read_exact_at(&mut code, offset).is_err() {
            return Vec::new();
        }
        let out = |jump: Instruction| {
            let Flow::Jump { to, .. } = jump.flow else { return None };
            let called = self.target(to)?;
            let stays = matches!(called, Called::Address(to) if (from..from + size).contains(&to));
            (!stays).then_some((offset + (jump.end - from), called))
        };
        Host::decode(&code, from).filter_map(out).collect()
    }
}

/// Start and size of the functions that `.eh_frame` describes: stripped objects keep it.
fn unwound<'data>(file: &object::File<'data, impl object::ReadRef<'data>>) -> Vec<(u64, u64)> {
    let Some(section) = file.section_by_name(".eh_frame") else { return Vec::new() };
    let Ok(bytes) = section.data() else { return Vec::new() };
    let mut frames = EhFrame::from(EndianSlice::new(bytes, LittleEndian));
    frames.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let mut entries = frames.entries(&bases);
    let mut functions = Vec::new();
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
        functions.push((fde.initial_address(), fde.len()));
    }
    functions
}
