//! Functions that left by a tail jump: on the call path, but not on the stack.
//!
//! `event_base_dispatch` ends with a jump to `event_base_loop`: on the stack, the loop seems to be called by the
//! caller of `event_base_dispatch`. The call before a return address says which function was called. If that is not
//! the function found running, and its code provably jumps there, it is shown, too. What cannot be proven (indirect
//! calls, functions without symbols) adds nothing.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    os::unix::fs::FileExt as _,
    rc::Rc,
};

use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, RelocationTarget,
    SymbolKind, read::ReadCache,
};

use super::objects::{ObjectId, Objects};
use crate::arch::{Architecture as _, Destination, Flow, Host};

/// Most functions between a call and the running function.
const CHAIN: usize = 3;
/// Longer functions are not searched for jumps.
const LARGEST: u64 = 1 << 16;
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
    /// one first: each as the address behind the jump, like a call's return address.
    pub(super) fn between(&mut self, objects: &Objects, outer: Spot, inner: Spot) -> Rc<[Spot]> {
        if let Some(known) = self.known.get(&(outer, inner)) {
            return Rc::clone(known);
        }
        let found: Rc<[Spot]> = self.find(objects, outer, inner).unwrap_or_default().into();
        if self.known.len() >= PAIRS {
            self.known.clear();
        }
        self.known.insert((outer, inner), Rc::clone(&found));
        found
    }

    fn find(&mut self, objects: &Objects, outer: Spot, inner: Spot) -> Option<Vec<Spot>> {
        let caller = self.code(objects, outer.0)?;
        let called = caller.called_before(outer.1)?;
        let callee = self.code(objects, inner.0)?;
        let running = callee.function_at(callee.address(inner.1)?)?;
        // The called function is in the caller's object, or, by name, in the object found running.
        let (first, code) = match called {
            Called::Address(address) => ((outer.0, address), caller),
            Called::Name(name) => ((inner.0, *callee.exports.get(&name)?), Rc::clone(&callee)),
        };
        if first == (inner.0, running) {
            return None;
        }
        let mut chain = Vec::new();
        // A path within one object: a library's own functions that forward to each other.
        (first.0 == inner.0 && code.leads(first.1, running, &mut chain)).then(|| {
            chain.reverse();
            chain.into_iter().map(|offset| (first.0, offset)).collect()
        })
    }

    fn code(&mut self, objects: &Objects, id: ObjectId) -> Option<Rc<CodeOf>> {
        let read = || objects.file(id).and_then(|file| CodeOf::read(&file)).map(Rc::new);
        self.code.entry(id).or_insert_with(read).clone()
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

    /// Whether the function at `from` jumps to the one at `to`, possibly through others. Appends the offsets behind
    /// the jumps, the first one first.
    fn leads(&self, from: u64, to: u64, chain: &mut Vec<u64>) -> bool {
        if chain.len() == CHAIN {
            return false;
        }
        let Some(size) = self.functions.get(&from).filter(|size| **size <= LARGEST) else {
            return false;
        };
        let Some(offset) = self.offset(from) else { return false };
        let mut code = vec![0; usize::try_from(*size).unwrap_or(0)];
        if self.file.read_exact_at(&mut code, offset).is_err() {
            return false;
        }
        for jump in Host::decode(&code, from) {
            let Flow::Jump { to: destination, .. } = jump.flow else { continue };
            let lands = match self.target(destination) {
                Some(Called::Address(address)) => address,
                Some(Called::Name(name)) => match self.exports.get(&name) {
                    Some(address) => *address,
                    None => continue,
                },
                None => continue,
            };
            if (from..from + size).contains(&lands) {
                continue;
            }
            chain.push(offset + (jump.end - from));
            if lands == to || self.leads(lands, to, chain) {
                return true;
            }
            chain.pop();
        }
        false
    }
}
