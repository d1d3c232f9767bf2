//! Objects of libraries: made, told of, to be released.
//!
//! An object that is a heap block of its own is that block, at another call site: that of the function which made
//! the object. So it ends with the block, whoever releases it and however late, and is counted once.
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
    arguments::{descriptor, handle, name, of},
    call::{Call, raw, read_word},
    constructors::{caller_of, chain_of, forget_below, within},
    entry,
    loss::{count, lose},
    maps::{ASKS, FAILED, HITS, OBJECT_FUNCTIONS, OBJECTS},
    site, stack_cache,
    young::{self, key, now_ns, position},
};

/// `-EEXIST`.
const EXISTS: i32 = -17;

/// A maker is entered, or an object is placed.
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
    let thread = entry::thread_of(&call)?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *thread };
    let slot = call.slot();
    let caller = stack_cache::caller(slot, call.id)?;
    let caller = caller_of(&call, thread, slot, caller);
    forget_below(thread, slot + 8);
    if function.own == BY_MEMORY && thread.constructor_calls != 0 {
        return None;
    }
    if thread.active != 0 {
        // An allocator makes no objects: its call was left otherwise than by a return.
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
    site::take(context, &call, thread, stack_taken);
    Some(())
}

/// The stack of the maker (or placer) that the thread has entered has been taken.
#[inline(always)]
pub(crate) fn stack_taken(call: &Call, thread: &mut Thread, site: u32) {
    if call.cookie.shape() == Shape::Construct as u8 {
        let last = (thread.constructor_calls as usize).wrapping_sub(1) & (CONSTRUCTOR_CALLS - 1);
        // SAFETY: masked to the array's length.
        unsafe { thread.constructors.get_unchecked_mut(last) }.site = site;
        return;
    }
    _ = construct_in_place(call, thread, site);
}

/// An object is placed in memory of the caller's.
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

/// Gives a new object its name, or none.
#[inline(always)]
fn set_name(object: &mut Object, text: u64) {
    object.text[0] = 0;
    name(object, text);
}

/// An object that ends by a function of its library's, and not with a heap block.
#[inline(never)]
fn keep_caller_allocated(
    call: &Call,
    key: &Key,
    object: &mut Object,
    caller: u64,
    probe: ProbeNumber,
) -> Option<()> {
    // The one that was there is no more.
    // SAFETY: only asked whether it is there.
    young::replaced(call, key, unsafe { OBJECTS.get(key) }.is_some());
    object.time_ns = now_ns();
    if OBJECTS.insert(key, &*object, 0).is_err() {
        // Its end could not be told from that of an unknown one.
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

/// A maker returns, by a return probe.
#[uretprobe]
pub(crate) fn object_return(context: RetProbeContext) -> u32 {
    _ = returned(&context);
    0
}

fn returned(context: &RetProbeContext) -> Option<()> {
    let call = Call::returning(raw(context))?;
    // The return address has just been popped.
    leave_constructor(&call, call.stack_pointer().wrapping_sub(8))
}

/// A maker returns, at one of its return instructions.
#[uprobe]
pub(crate) fn object_return_entry(context: ProbeContext) -> u32 {
    _ = returning(&context);
    0
}

fn returning(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    leave_constructor(&call, call.stack_pointer())
}

/// The maker whose return address lies at `slot` returns.
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
        // It needed none.
        return None;
    }
    finish(call, thread, call.returned())
}

/// A block was acquired by a thread that is in makers: it may be the object of the innermost.
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
        // It is seen to return, and what comes until then is made within it.
        if constructor.out != 0 {
            return;
        }
        constructor.out = handle;
        thread.constructor_calls = last as u32;
        _ = finish(call, thread, handle);
        thread.constructor_calls = last as u32 + 1;
        return;
    }
    // Nobody sees it return: unless its return address is still there, it has.
    let is_there = read_word(constructor.slot) == Some(constructor.caller);
    thread.constructor_calls = last as u32;
    if is_there {
        _ = finish(call, thread, handle);
    }
}

/// The last of the thread's makers, which is none of them any more, has returned.
#[inline(never)]
fn finish(call: &Call, thread: &mut Thread, returned: u64) -> Option<()> {
    let within = within(thread);
    // SAFETY: masked to the array's length.
    let constructor = unsafe {
        thread
            .constructors
            .get_unchecked(thread.constructor_calls as usize & (CONSTRUCTOR_CALLS - 1))
    };
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
    // Without a call site it stays what it was: a block.
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
        // The other one of a pair.
        let other = Key { handle: read_word(stored_at.wrapping_add(8))?, ..key };
        keep_block(call, &other, object, probe, 0);
    }
    Some(())
}

/// An object that is a heap block.
#[inline(never)]
fn keep_block(call: &Call, key: &Key, object: &mut Object, probe: ProbeNumber, text: u64) {
    young::retag(call, key, object.site, probe);
    object.time_ns = now_ns();
    object.text[0] = 0;
    // SAFETY: a live value; it is this thread that makes the object.
    if let Some(inner) = unsafe { OBJECTS.get(key) }
        && inner.within == object.making
    {
        // Made already within this making, as something more general: what was said of it holds.
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

/// An object is no more: what is known of it is forgotten. Whether anything was. (A function of its own would make the
/// stacks of those that call it, one within the other, larger than the verifier allows.)
#[inline(always)]
pub(crate) fn forget(key: &Key) -> bool {
    // SAFETY: only a word is read of it. Should another object have its element by now, this is the time of that one,
    // and nothing is known by it under this key.
    let Some(time_ns) = (unsafe { OBJECTS.get(key) }).map(|object| object.time_ns) else {
        return false;
    };
    _ = ASKS.remove(ObjectId { key: *key, time_ns });
    OBJECTS.remove(key).is_ok()
}

/// Something is said of an object.
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
    // What is written into an element of the map would reach whichever object has that element by then: the kernel
    // gives it to another one at once. So nothing is.
    // SAFETY: copied at once.
    let known = unsafe { OBJECTS.get(key) }?;
    if function.does == REQUEST_RELEASE {
        let id = ObjectId { key, time_ns: known.time_ns };
        // Only the first time counts.
        match ASKS.insert(id, now_ns(), u64::from(BPF_NOEXIST)) {
            Ok(()) | Err(EXISTS) => {}
            Err(_) => lose(Loss::AskDropped),
        }
    } else if function.does == UPDATE {
        let thread = entry::thread_of(&call)?;
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
        // Fails when it has ended meanwhile.
        _ = OBJECTS.insert(key, &*object, u64::from(BPF_EXIST));
    }
    Some(())
}
