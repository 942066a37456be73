//! Walks along the bytes of a segment: the answer to the upgrade, then frame by frame. Only the beginning of a frame is
//! looked at; the rest is counted down. A beginning that is cut by the end of the segment is kept until the next.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_ANY, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_loop};
use aya_ebpf::programs::XdpContext;
use fanblade_swarm_abi::{
    ASKED, BUCKETS, CLOSES, Counters, Found, HEAD_LEN, OPEN, OVER, Pattern, READY, REFUSED, Reception, Search,
    Settings, Subscriber, bucket, frame,
};

use crate::maps::{COUNTERS, HEADS, LATENCIES, SCRATCH, SETTINGS, SUBSCRIBERS, Scratch};
use crate::verifier::forgotten;

/// Takes `len` new bytes from `at` on. Returns whether a pong is owed.
#[inline(always)]
pub fn walk(ctx: &XdpContext, at: u32, len: u32, number: u32) -> bool {
    let mut walk = Walk { ctx: ctx.as_ptr().cast(), at, end: at.wrapping_add(len), number, pong: 0, now_ns: 0 };
    // SAFETY: the callback has the signature that `bpf_loop` calls, and the state is the one that it expects, which
    // lives on this stack until after the call.
    unsafe { bpf_loop(STEPS_MAX, step as *const () as *mut c_void, (&raw mut walk).cast(), 0) };
    walk.pong != 0
}

/// Length of the pong that [`walk`] has prepared.
#[inline(always)]
pub fn pong_len() -> u32 {
    // SAFETY: the scratch of this CPU.
    SCRATCH.get_ptr_mut(0).map_or(0, |scratch| unsafe { (*scratch).pong_len })
}

/// Prepares one pong in place of those that are missing, with as many bytes. Their content is forgotten, so it is
/// zeros. If more bytes are missing than one pong can have, nothing is sent again.
#[inline(always)]
pub fn prepare_pong_again(missing: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let len = missing.wrapping_sub(PONG_HEADER_LEN);
    if len > CONTROL_LEN_MAX as u32 {
        return 0;
    }
    // SAFETY: the scratch of this CPU.
    let scratch = unsafe { &mut *scratch };
    scratch.pong = [0; crate::maps::PONG_LEN];
    scratch.pong[0] = PONG;
    scratch.pong[1] = MASKED | len as u8;
    missing
}

struct Walk {
    ctx: *mut xdp_md,
    at: u32,
    end: u32,
    number: u32,
    pong: u32,
    /// `CLOCK_REALTIME`, once it has been asked for.
    now_ns: u64,
}

/// Not `no_mangle`: the verifier takes only static functions as callbacks.
unsafe extern "C" fn step(_index: u32, state: *mut c_void) -> i64 {
    // SAFETY: `walk` passes its state, and nothing else refers to it during the call.
    let walk = unsafe { &mut *state.cast::<Walk>() };
    if walk.at >= walk.end {
        return STOP;
    }
    let (Some(subscriber), Some(scratch)) = (SUBSCRIBERS.get_ptr_mut(walk.number), SCRATCH.get_ptr_mut(0)) else {
        return STOP;
    };
    let (Some(settings), Some(counters)) = (SETTINGS.get(0), COUNTERS.get_ptr_mut(0)) else { return STOP };
    // SAFETY: (both) the subscriber's entry, as in `swarm`; the counters of this CPU.
    let (subscriber, counters) = unsafe { (&mut *subscriber, &mut *counters) };
    match subscriber.state {
        // SAFETY: the scratch of this CPU.
        ASKED => upgrade(walk, subscriber, unsafe { &mut *scratch }, settings),
        OPEN => message(walk, subscriber, scratch, settings, counters),
        _ => STOP,
    }
}

/// Reads up to the blank line behind the server's answer: its first line, and then byte by byte.
#[inline(always)]
fn upgrade(walk: &mut Walk, subscriber: &mut Subscriber, scratch: &mut Scratch, settings: &Settings) -> i64 {
    let is_begun = subscriber.left != 0;
    let len = load(walk, 0, if is_begun { 1 } else { STATUS_LEN }, scratch);
    if len == 0 {
        return STOP;
    }
    if !is_begun {
        let digit = |at: usize| u32::from(scratch.head[at].wrapping_sub(b'0'));
        let status = digit(9) * 100 + digit(10) * 10 + digit(11);
        if len < STATUS_LEN || status != SWITCHING_PROTOCOLS {
            subscriber.state = REFUSED;
            subscriber.left = status;
            return STOP;
        }
        subscriber.left = 1;
        walk.at += STATUS_LEN;
        return CONTINUE;
    }
    walk.at += 1;
    let byte = scratch.head[0];
    let is_next = byte == if subscriber.kept & 1 == 0 { b'\r' } else { b'\n' };
    subscriber.kept = if is_next { subscriber.kept + 1 } else { u8::from(byte == b'\r') };
    if subscriber.kept == 4 {
        subscriber.kept = 0;
        subscriber.left = 0;
        if settings.preamble == 0 {
            subscriber.flags |= READY;
        }
        subscriber.state = OPEN;
    }
    CONTINUE
}

/// Counts down what is left of a frame, or reads the beginning of one.
#[inline(always)]
fn message(
    walk: &mut Walk,
    subscriber: &mut Subscriber,
    all: *mut Scratch,
    settings: &Settings,
    counters: &mut Counters,
) -> i64 {
    // SAFETY: the scratch of this CPU; the reference is not used any more where a search begins.
    let scratch = unsafe { &mut *all };
    let available = walk.end - walk.at;
    if subscriber.left > 0 {
        let passed = if available < subscriber.left { available } else { subscriber.left };
        subscriber.left -= passed;
        walk.at += passed;
        return CONTINUE;
    }
    let kept = u32::from(subscriber.kept);
    if kept > 0 {
        // SAFETY: nobody else removes the entry while it is read: there is one queue.
        let Some(head) = (unsafe { HEADS.get(walk.number) }) else { return lost(subscriber, counters) };
        scratch.head[..HEAD_LEN].copy_from_slice(head);
        subscriber.kept = 0;
        // The entry is there, because it has just been read.
        let _ = HEADS.remove(walk.number);
    }
    let loaded = load(walk, kept, HEAD_LEN as u32, scratch);
    if loaded == 0 {
        return STOP;
    }
    let len = kept + loaded;
    let Some(head) = scratch.head.first_chunk() else { return STOP };
    let header = match frame(head, len) {
        Ok(header) => header,
        Err(_) => {
            counters.torn += 1;
            subscriber.state = OVER;
            return STOP;
        }
    };
    // Neither a full head nor a whole frame: it is kept until the next segment.
    let Some(frame) = header.filter(|frame| len >= HEAD_LEN as u32 || len >= frame.total_len) else {
        // Less than a head, so that its length fits `kept`.
        if HEADS.insert(walk.number, head, u64::from(BPF_ANY)).is_err() {
            return lost(subscriber, counters);
        }
        subscriber.kept = len as u8;
        walk.at = walk.end;
        return STOP;
    };
    let seen = if len < frame.total_len { len } else { frame.total_len };
    let seen = if seen < HEAD_LEN as u32 { seen } else { HEAD_LEN as u32 };
    subscriber.left = frame.total_len - seen;
    walk.at += seen - kept;
    if frame.is_message() {
        take(walk, subscriber, all, settings, counters, frame.header_len, seen);
    } else if frame.is_ping() {
        counters.pings += 1;
        walk.pong = 1;
        prepare_pong(scratch);
    } else if frame.is_close() {
        let code = u32::from(scratch.head[2]) << 8 | u32::from(scratch.head[3]);
        let place = if seen >= 4 { code.wrapping_sub(1_000) as usize } else { CLOSES };
        counters.closes[if place < CLOSES - 1 { place } else { CLOSES - 1 }] += 1;
        subscriber.state = OVER;
    }
    CONTINUE
}

#[inline(always)]
fn take(
    walk: &mut Walk,
    subscriber: &mut Subscriber,
    scratch: *mut Scratch,
    settings: &Settings,
    counters: &mut Counters,
    from: u32,
    to: u32,
) {
    if walk.now_ns == 0 {
        // SAFETY: the helper has no preconditions.
        walk.now_ns = unsafe { bpf_ktime_get_ns() }.wrapping_add(settings.realtime_offset_ns);
    }
    // SAFETY: the scratch of this CPU, to which nobody has a reference.
    let hints = unsafe { &raw mut (*scratch).hints };
    let sequence = look(scratch, from, to, &settings.sequence, unsafe { (*hints)[0] });
    let timestamp = look(scratch, from, to, &settings.timestamp, unsafe { (*hints)[1] });
    if let Some(found) = sequence {
        unsafe { (*hints)[0] = found.at };
    }
    if let Some(found) = timestamp {
        unsafe { (*hints)[1] = found.at };
    }
    let timestamp_ns =
        if settings.timestamp.len == 0 { Some(walk.now_ns) } else { timestamp.map(|found| found.number) };
    let reception = Reception { now_ns: walk.now_ns, timestamp_ns, number: sequence.map(|found| found.number) };
    if let Some(latency_ns) = subscriber.receive(&reception, settings, counters)
        && let Some(latencies) = LATENCIES.get_ptr_mut(0)
    {
        let place = bucket(latency_ns);
        if place < BUCKETS {
            // SAFETY: within the array of this CPU.
            unsafe { (*latencies)[place] += 1 };
        }
    }
}

/// Searches first where the number was the last time, then from the beginning.
#[inline(always)]
fn look(scratch: *mut Scratch, from: u32, to: u32, pattern: &Pattern, hint: u32) -> Option<Found> {
    let found = if hint > from { search(scratch, hint, to, pattern) } else { None };
    if found.is_some() { found } else { search(scratch, from, to, pattern) }
}

/// The state of a search is in the scratch and not on the stack, where the verifier would follow each of its values.
#[inline(always)]
fn search(scratch: *mut Scratch, from: u32, to: u32, pattern: &Pattern) -> Option<Found> {
    // SAFETY: the scratch of this CPU, to which nobody has a reference. The callback has the signature that `bpf_loop`
    // calls, and needs no state.
    unsafe {
        (*scratch).search = Search::new(from, to, pattern);
        bpf_loop(HEAD_LEN as u32, search_step as *const () as *mut c_void, core::ptr::null_mut(), 0);
        (*scratch).search.found()
    }
}

unsafe extern "C" fn search_step(_index: u32, _state: *mut c_void) -> i64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return STOP };
    // SAFETY: the scratch of this CPU; `search` has no reference to it.
    let Scratch { search, head, .. } = unsafe { &mut *scratch };
    let Some(head) = head.first_chunk() else { return STOP };
    if search.step(head) { STOP } else { CONTINUE }
}

/// Writes a masked frame (with a mask of zeros) with the bytes of the ping.
#[inline(always)]
fn prepare_pong(scratch: &mut Scratch) {
    let len = scratch.head[1] & 0x7f;
    scratch.pong = [0; crate::maps::PONG_LEN];
    scratch.pong[0] = PONG;
    scratch.pong[1] = MASKED | len;
    let mut at = 0;
    while at < CONTROL_LEN_MAX && at < usize::from(len) {
        scratch.pong[6 + at] = scratch.head[2 + at];
        at += 1;
    }
    scratch.pong_len = PONG_HEADER_LEN + u32::from(len);
}

/// Gives up a stream of which the rest cannot be read.
#[inline(always)]
fn lost(subscriber: &mut Subscriber, counters: &mut Counters) -> i64 {
    counters.heads_lost += 1;
    subscriber.state = OVER;
    STOP
}

/// Loads up to `most` bytes behind the first `kept`, a head at most; returns how many.
#[inline(always)]
fn load(walk: &Walk, kept: u32, most: u32, scratch: &mut Scratch) -> u32 {
    let available = walk.end - walk.at;
    let room = HEAD_LEN as u32 - (kept & (HEAD_LEN as u32 - 1));
    let wanted = if most < room { most } else { room };
    // The compiler knows that the length is not zero where `at` is not `end`, and would compare those.
    let len = forgotten(u64::from(if available < wanted { available } else { wanted }));
    if len == 0 || len > HEAD_LEN as u64 {
        return 0;
    }
    let place = kept as usize & (HEAD_LEN - 1);
    // SAFETY: `kept` is less than a head and the length at most a head, which fits the scratch, which is twice as long;
    // the helper checks the packet's bounds.
    let loaded = unsafe { bpf_xdp_load_bytes(walk.ctx, walk.at, (&raw mut scratch.head[place]).cast(), len as u32) };
    if loaded == 0 { len as u32 } else { 0 }
}

const CONTINUE: i64 = 0;
const STOP: i64 = 1;
/// Each step takes a byte at least, and a segment has at most 64 KiB.
const STEPS_MAX: u32 = 65_536;
/// `HTTP/1.1 101`.
const STATUS_LEN: u32 = 12;
const SWITCHING_PROTOCOLS: u32 = 101;
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
const CONTROL_LEN_MAX: usize = 125;
/// The header includes the mask.
const PONG_HEADER_LEN: u32 = 6;
