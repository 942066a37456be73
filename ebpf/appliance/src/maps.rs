//! The maps, as `bpftool map dump pinned /sys/fs/bpf/fanblade/NAME` shows them.

use core::arch::asm;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, ReusePortSockArray};
use aya_ebpf::macros::btf_map;
use fanblade_abi::limits::{FLOWS_MAX, WORKERS_MAX};
use fanblade_abi::{Config, FlowCounters, FlowKey, Verdict, VerdictCounters, WorkerSlot};

/// Counters by connection. Userspace may set another size.
#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, FlowCounters, { FLOWS_MAX as usize }> = LruHashMap::new();

/// One entry with a named counter for each verdict, one copy per CPU.
#[btf_map]
pub static VERDICTS: PerCpuArray<VerdictCounters, 1> = PerCpuArray::new();

/// The workers' weights, loads and shares, mapped into userspace.
#[btf_map]
pub static WORKERS: Array<WorkerSlot, { WORKERS_MAX as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The workers' listening sockets, by the same index as `WORKERS`.
#[btf_map]
pub static LISTENERS: ReusePortSockArray<{ WORKERS_MAX as usize }> = ReusePortSockArray::new();

/// One entry: the ports that are ours, the number of workers.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// Counts a verdict and returns its count on this CPU.
#[inline(always)]
pub fn count(verdict: Verdict) -> u64 {
    let Some(counters) = VERDICTS.get_ptr_mut(0) else { return 0 };
    // SAFETY: VerdictCounters is one u64 per verdict, in their order (asserted where both are defined), and the copy of
    // this CPU has no other writer while a program runs: all programs run with bottom halves disabled.
    unsafe {
        let counter = counters.cast::<u64>().add(verdict as usize);
        let count = (*counter).wrapping_add(1);
        *counter = count;
        count
    }
}

/// Adds to a counter that programs on other CPUs add to at the same time.
///
/// Uses the instruction itself, since `core` has no atomic operations for the target (its oldest form lacks
/// compare-and-swap), and the compiler's own intrinsic for them changes from release to release.
///
/// # Safety
///
/// `counter` points into a map's entry, aligned to 8 bytes.
#[inline(always)]
pub unsafe fn add_atomically(counter: *mut u64, amount: u64) {
    // SAFETY: the caller's promise; the instruction has no other effect.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) amount, options(nostack)) };
}

/// A repeated event is worth a log line the 1st, 2nd, 4th, 8th … time, so that it never floods the log.
#[inline(always)]
pub fn is_worth_a_line(count: u64) -> bool {
    count & count.wrapping_sub(1) == 0
}
