//! sk_reuseport: picks the worker of a new connection. The kernel never asks about established connections.

use core::ffi::c_void;

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::helpers::bpf_loop;
use aya_ebpf::macros::sk_reuseport;
use aya_ebpf::programs::SkReuseportContext;
use aya_log_ebpf::warn;
use fanblade_abi::Verdict;
use fanblade_abi::balance::Choice;
use fanblade_abi::limits::WORKERS_MAX;

use crate::maps::{CONFIG, LISTENERS, WORKERS, add_atomically, count, is_worth_a_line};

/// `migrate`: the kernel also asks when a listener closes and its waiting connections need another listener
/// (`net.ipv4.tcp_migrate_req`).
#[sk_reuseport(migrate)]
pub fn steer(ctx: SkReuseportContext) -> u32 {
    let Some(worker) = choose(ctx.hash()) else {
        let times = count(Verdict::SteerNoWorker);
        if is_worth_a_line(times) {
            warn!(&ctx, "steer: no worker has a weight, left to the kernel's hash, {} times on this CPU", times);
        }
        return SK_PASS;
    };
    if LISTENERS.select_reuseport(&ctx, worker).is_err() {
        let times = count(Verdict::SteerFallback);
        if is_worth_a_line(times) {
            warn!(
                &ctx,
                "steer: worker {} has no listener, left to the kernel's hash, {} times on this CPU", worker, times
            );
        }
        return SK_PASS;
    }
    if let Some(slot) = WORKERS.get_ptr_mut(worker) {
        // SAFETY: an entry of an array map, valid and aligned; `steered` is only ever added to atomically.
        unsafe { add_atomically(&raw mut (*slot).steered, 1) };
    }
    count(Verdict::SteerSelected);
    // Without a selection, SK_PASS means: by the kernel's hash.
    SK_PASS
}

/// Walks over the workers; the choice itself is made by `fanblade_abi::balance`.
#[inline(always)]
fn choose(hash: u32) -> Option<u32> {
    let configured = CONFIG.get(0).map_or(0, |config| config.workers);
    let workers = if configured < WORKERS_MAX { configured } else { WORKERS_MAX };
    let mut choice = Choice::new(hash);
    let state = (&raw mut choice).cast::<c_void>();
    // SAFETY: (both) the callbacks have the signature that `bpf_loop` calls, and `state` is the choice that they
    // expect, which lives on this stack until after the calls.
    unsafe { bpf_loop(workers, weigh as *const () as *mut c_void, state, 0) };
    choice.draw();
    // SAFETY: as above.
    unsafe { bpf_loop(workers, offer as *const () as *mut c_void, state, 0) };
    choice.index()
}

/// Not `no_mangle`: the verifier takes only static functions as callbacks.
unsafe extern "C" fn weigh(index: u32, state: *mut c_void) -> i64 {
    if let Some(worker) = WORKERS.get(index) {
        // SAFETY: `choose` passes its choice, and nothing else refers to it during the call.
        unsafe { (*state.cast::<Choice>()).weigh(*worker) };
    }
    CONTINUE
}

unsafe extern "C" fn offer(index: u32, state: *mut c_void) -> i64 {
    if let Some(worker) = WORKERS.get(index) {
        // SAFETY: as in `weigh`.
        unsafe { (*state.cast::<Choice>()).offer(index, *worker) };
    }
    CONTINUE
}

const CONTINUE: i64 = 0;
