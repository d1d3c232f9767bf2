//! Library objects: construction, updates, release requests.
//!
//! An object that is a heap block of its own is recorded as that block, with the call site of its constructor. So it
//! ends with the block, regardless of who releases it and when, and is counted once.
//! `docs/decisions/0011-objects.md` has the argument.

use aya_ebpf::{
    bindings::{BPF_EXIST, BPF_NOEXIST},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_common::{
    attach::{Cookie, ProbeNumber, Shape},
    kind::Kind,
    loss::Loss,
    object::{
        BLOCK, BY_MEMORY, CONSTRUCTOR_CALLS, ConstructorCall, END, IS_OBJECT, NONE, Object,
        ObjectId, REQUEST_RELEASE, UPDATE, chain,
    },
    state::{Key, Thread, Young},
};

use crate::{
    arch,
    call::{Call, raw, read_word},
    lib_objects::{
        arguments::{descriptor, handle, name, of},
        constructors::{forget_below, within},
    },
    loss::{count, lose},
    maps::{ASKS, FAILED, HITS, OBJECT_FUNCTIONS, OBJECTS},
    resources::{
        records::{now_ns, position},
        young::{self, key},
    },
    stack::{
        cache,
        hidden_returns::{caller_of, chain_of},
        site,
    },
};

/// `-EEXIST`.
const EXISTS: i32 = -17;

/// A constructor is entered, with or without memory from its caller.
#[uprobe]
pub(crate) fn object_entry(context: ProbeContext) -> u32 {
    _ = enter_constructor(&context);
    0
}

fn enter_constructor(context: &ProbeContext) -> Option<()> {
    let mut call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let function = OBJECT_FUNCTIONS.get(u32::from(call.cookie.probe()))?;
    let arguments = call.arguments();
    call.detail = u8::from(of(&arguments, function.test) & u64::from(function.mask) != 0);
    let thread = call.thread_or_allocate()?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *thread };
    let slot = call.slot();
    let caller = cache::caller(&call)?;
    let caller = caller_of(&call, thread, slot, caller);
    forget_below(thread, arch::stack_pointer_after_return(slot));
    if function.own == BY_MEMORY && thread.constructor_calls != 0 {
        return None;
    }
    if thread.active != 0 {
        // An allocator constructs no objects: the thread left the allocator's call without a return.
        thread.active = 0;
    }
    thread.cookie = call.cookie.0;
    thread.slot = slot;
    thread.caller = caller;
    thread.site = 0;
    thread.detail = call.detail.into();
    if call.cookie.shape() == Shape::Construct as u8 {
        let number = thread.constructor_calls as usize;
        if number >= CONSTRUCTOR_CALLS {
            return None;
        }
        let outer = chain_of(thread);
        // SAFETY: masked to the array's length, a power of two.
        let constructor =
            unsafe { thread.constructors.get_unchecked_mut(number & (CONSTRUCTOR_CALLS - 1)) };
        *constructor = ConstructorCall {
            slot,
            caller,
            cookie: call.cookie.0,
            id: now_ns(),
            word: of(&arguments, function.word),
            owner: of(&arguments, function.owner),
            out: if function.handle == NONE { 0 } else { arguments.get(function.handle) },
            text: of(&arguments, function.text),
            chain: chain(outer, slot, caller),
            site: 0,
            fd: descriptor(&arguments, function),
        };
        thread.constructor_calls = number as u32 + 1;
    }
    site::take(context, &call, thread, site_known);
    Some(())
}

/// The call site of the constructor that the thread has entered is known.
#[inline(always)]
pub(crate) fn site_known(call: &Call, thread: &mut Thread, site: u32) {
    if call.cookie.shape() == Shape::Construct as u8 {
        let last = (thread.constructor_calls as usize).wrapping_sub(1) & (CONSTRUCTOR_CALLS - 1);
        // SAFETY: masked to the array's length.
        unsafe { thread.constructors.get_unchecked_mut(last) }.site = site;
        return;
    }
    _ = construct_in_place(call, thread, site);
}

/// An object is constructed in memory that its caller allocated.
#[inline(never)]
fn construct_in_place(call: &Call, thread: &mut Thread, site: u32) -> Option<()> {
    let function = OBJECT_FUNCTIONS.get(u32::from(call.cookie.probe()))?;
    let arguments = call.arguments();
    let handle = handle(&arguments, function)?;
    let key = key(call, Kind::CallerAllocated as u8, handle);
    let within = within(thread);
    let object = &mut thread.object;
    object.making = 0;
    object.within = within;
    object.site = site;
    object.word = of(&arguments, function.word);
    object.owner = of(&arguments, function.owner);
    object.fd = descriptor(&arguments, function);
    set_name(object, of(&arguments, function.text));
    keep_caller_allocated(call, &key, object, 0, call.cookie.probe())
}

/// Sets the name of a new object, or clears it.
#[inline(always)]
fn set_name(object: &mut Object, text: u64) {
    object.text[0] = 0;
    name(object, text);
}

/// Records a caller-allocated object: it does not end with a heap block.
#[inline(never)]
fn keep_caller_allocated(
    call: &Call,
    key: &Key,
    object: &mut Object,
    caller: u64,
    probe: ProbeNumber,
) -> Option<()> {
    // It replaces an object at the same address.
    // SAFETY: only tests for existence.
    young::replaced(call, key, unsafe { OBJECTS.get(key) }.is_some());
    object.time_ns = now_ns();
    if OBJECTS.insert(key, &*object, 0).is_err() {
        // Without the entry, its end would look like that of an unknown object.
        lose(Loss::AcquireDropped);
        return None;
    }
    let young = Young {
        size: 0,
        time_ns: object.time_ns,
        position: position(),
        site: object.site | IS_OBJECT,
        connection: call.serving(),
    };
    young::keep(call, key, &young, caller, probe);
    Some(())
}

/// A constructor returns, seen by a return probe.
#[uretprobe]
pub(crate) fn object_return(context: RetProbeContext) -> u32 {
    _ = returned(&context);
    0
}

fn returned(context: &RetProbeContext) -> Option<()> {
    let call = Call::returning(raw(context))?;
    // The return address has just been popped.
    leave_constructor(&call, arch::popped_slot(call.stack_pointer()))
}

/// A constructor returns, seen at one of its return instructions.
#[uprobe]
pub(crate) fn object_return_entry(context: ProbeContext) -> u32 {
    _ = returning(&context);
    0
}

fn returning(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    leave_constructor(&call, call.stack_pointer())
}

/// The constructor whose return address lies at `slot` returns.
#[inline(always)]
fn leave_constructor(call: &Call, slot: u64) -> Option<()> {
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *call.thread? };
    forget_below(thread, slot);
    let last = (thread.constructor_calls as usize).checked_sub(1)? & (CONSTRUCTOR_CALLS - 1);
    // SAFETY: masked to the array's length.
    let constructor = unsafe { thread.constructors.get_unchecked(last) };
    if constructor.slot != slot {
        return None;
    }
    thread.constructor_calls = last as u32;
    if Cookie(constructor.cookie).is_by_first_block() {
        // Its object was recorded when the block was acquired.
        return None;
    }
    finish(call, thread, call.returned())
}

/// A thread within constructors has acquired a block, which may be the object of the innermost one.
#[inline(always)]
pub(crate) fn block_acquired(call: &Call, thread: &mut Thread, cookie: Cookie, handle: u64) {
    let slot = thread.slot;
    forget_below(thread, slot);
    let Some(last) = (thread.constructor_calls as usize).checked_sub(1) else { return };
    // SAFETY: masked to the array's length.
    let constructor =
        unsafe { thread.constructors.get_unchecked_mut(last & (CONSTRUCTOR_CALLS - 1)) };
    let constructor_cookie = Cookie(constructor.cookie);
    if !constructor_cookie.is_by_first_block() || cookie.kind() != Kind::Heap as u8 {
        return;
    }
    if constructor_cookie.has_return_probe() {
        // Its return will be seen; objects constructed until then are nested in this one.
        if constructor.out != 0 {
            return;
        }
        constructor.out = handle;
        thread.constructor_calls = last as u32;
        _ = finish(call, thread, handle);
        thread.constructor_calls = last as u32 + 1;
        return;
    }
    // Its return is not seen: it is still running only if its return address is unchanged.
    let is_there = arch::return_address(constructor.slot, read_word) == Some(constructor.caller);
    thread.constructor_calls = last as u32;
    if is_there {
        _ = finish(call, thread, handle);
    }
}

/// Records the object of the innermost constructor call, which has just been removed from the thread's constructors.
#[inline(never)]
fn finish(call: &Call, thread: &mut Thread, returned: u64) -> Option<()> {
    let within = within(thread);
    let last = thread.constructor_calls as usize & (CONSTRUCTOR_CALLS - 1);
    // SAFETY: masked to the array's length.
    let constructor = unsafe { thread.constructors.get_unchecked(last) };
    let probe = Cookie(constructor.cookie).probe();
    let function = OBJECT_FUNCTIONS.get(u32::from(probe))?;
    let mut handle = returned;
    let stored_at = constructor.out.wrapping_add(u64::from(function.offset));
    if function.handle != NONE {
        let failed =
            if function.number != 0 { (returned as i32) < 0 } else { returned as i32 != 0 };
        handle = if failed { 0 } else { read_word(stored_at).unwrap_or(0) };
    }
    if handle == 0 {
        count(&FAILED, u32::from(probe));
        return None;
    }
    // Without a call site the object remains a plain block.
    if constructor.site == 0 {
        return None;
    }
    let (text, caller) = (constructor.text, constructor.caller);
    let object = &mut thread.object;
    object.making = constructor.id;
    object.within = within;
    object.site = constructor.site;
    object.word = constructor.word;
    object.owner = constructor.owner;
    object.fd = constructor.fd;
    let kind = if function.own != BLOCK { Kind::CallerAllocated } else { Kind::Heap };
    let key = key(call, kind as u8, handle);
    if function.own != BLOCK {
        set_name(object, text);
        keep_caller_allocated(call, &key, object, caller, probe)?;
    } else {
        keep_block(call, &key, object, probe, text);
    }
    if function.through > 1 {
        // The second object of a pair.
        let other = Key { handle: read_word(stored_at.wrapping_add(8))?, ..key };
        keep_block(call, &other, object, probe, 0);
    }
    Some(())
}

/// Records an object that is a heap block.
#[inline(never)]
fn keep_block(call: &Call, key: &Key, object: &mut Object, probe: ProbeNumber, text: u64) {
    young::retag(call, key, object.site, probe);
    object.time_ns = now_ns();
    object.text[0] = 0;
    // SAFETY: a live value; this thread constructs the object.
    if let Some(inner) = unsafe { OBJECTS.get(key) }
        && inner.within == object.making
    {
        // A nested constructor of a base type has recorded this object already: its details still hold.
        if object.fd < 0 {
            object.fd = inner.fd;
        }
        if object.owner == 0 {
            object.owner = inner.owner;
        }
        object.text = inner.text;
    }
    name(object, text);
    _ = OBJECTS.insert(key, &*object, 0);
}

/// A function requests the release of an object, ends it, or updates its details.
#[uprobe]
pub(crate) fn object_note(context: ProbeContext) -> u32 {
    _ = note(&context);
    0
}

fn note(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let function = OBJECT_FUNCTIONS.get(u32::from(call.cookie.probe()))?;
    let arguments = call.arguments();
    let handle = handle(&arguments, function)?;
    let kind = if function.own != BLOCK { Kind::CallerAllocated } else { Kind::Heap };
    let key = key(&call, kind as u8, handle);
    if function.does == END {
        young::object_ended(&call, &key);
        return None;
    }
    // Never writes into the element in place: the kernel may reuse it for another object at once.
    // SAFETY: copied at once.
    let known = unsafe { OBJECTS.get(key) }?;
    if function.does == REQUEST_RELEASE {
        let id = ObjectId { key, time_ns: known.time_ns };
        // Only the first request counts.
        match ASKS.insert(id, now_ns(), u64::from(BPF_NOEXIST)) {
            Ok(()) | Err(EXISTS) => {}
            Err(_) => lose(Loss::AskDropped),
        }
    } else if function.does == UPDATE {
        let thread = call.thread_or_allocate()?;
        // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
        let object = unsafe { &mut (*thread).object };
        *object = *known;
        if function.fd != NONE {
            object.fd = descriptor(&arguments, function);
        }
        if function.word != NONE {
            object.word = of(&arguments, function.word);
        }
        if function.owner != NONE {
            object.owner = of(&arguments, function.owner);
        }
        name(object, of(&arguments, function.text));
        // Fails when the object has ended meanwhile.
        _ = OBJECTS.insert(key, &*object, u64::from(BPF_EXIST));
    }
    Some(())
}
