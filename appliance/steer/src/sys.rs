//! The system calls that have no safe wrapper elsewhere, and the types that cross into the kernel as bytes.
#![expect(unsafe_code, reason = "map entries are plain bytes to the kernel, and WORKERS is a shared mapping")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::Pod;
use aya_log::EbpfLogger;
use fanblade_abi::limits::WORKERS_MAX;
use fanblade_abi::{Config, FlowCounters, FlowKey, VerdictCounters, WorkerSlot};
use log::Log;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An abi type, wrapped so that aya's trait [`Pod`] can be implemented for it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<T>(pub(crate) T);

// SAFETY: (all five) `repr(C)`, only integers and arrays of them, no padding (asserted by size in the abi crate), so
// any bytes are a value and a value is only bytes.
unsafe impl Pod for Plain<FlowKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<FlowCounters> {}
// SAFETY: as above.
unsafe impl Pod for Plain<VerdictCounters> {}
// SAFETY: as above.
unsafe impl Pod for Plain<WorkerSlot> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Config> {}

/// The `WORKERS` map in our address space: publishing a load is one store, without a system call.
#[derive(Debug)]
pub(crate) struct WorkerTable {
    slots: NonNull<SharedSlot>,
}

/// [`WorkerSlot`] in shared memory: `weight` and `connections` are written here and read by `steer`; `steered` is
/// written by `steer` and read here. The fields are independent of each other, so that relaxed order is enough.
#[repr(C)]
struct SharedSlot {
    weight: AtomicU32,
    connections: AtomicU32,
    steered: AtomicU64,
}

const _: () = assert!(size_of::<SharedSlot>() == size_of::<WorkerSlot>());

// SAFETY: all access is through atomics; the mapping lives as long as the table and belongs to no thread.
unsafe impl Send for WorkerTable {}
// SAFETY: as above.
unsafe impl Sync for WorkerTable {}

impl WorkerTable {
    const LEN_BYTES: usize = WORKERS_MAX as usize * size_of::<WorkerSlot>();

    /// Maps `WORKERS`, an array map of `WORKERS_MAX` slots with `BPF_F_MMAPABLE`; the kernel refuses other maps.
    pub(crate) fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address that the kernel chooses; the kernel refuses a length beyond the map's.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), Self::LEN_BYTES, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(|slots| Self { slots }).ok_or_else(|| io::Error::other("mapped at zero"))
    }

    pub(crate) fn set_weight(&self, worker: u32, weight: u32) {
        if let Some(slot) = self.slot(worker) {
            slot.weight.store(weight, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_connections(&self, worker: u32, connections: u32) {
        if let Some(slot) = self.slot(worker) {
            slot.connections.store(connections, Ordering::Relaxed);
        }
    }

    fn slot(&self, worker: u32) -> Option<&SharedSlot> {
        // SAFETY: the index is within the mapping, which is page-aligned and lives as long as `self`, and every
        // access, here and in the kernel, is atomic.
        (worker < WORKERS_MAX).then(|| unsafe { self.slots.add(worker as usize).as_ref() })
    }
}

impl Drop for WorkerTable {
    fn drop(&mut self) {
        // SAFETY: this is the range that `map` mapped, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.slots.as_ptr().cast(), Self::LEN_BYTES) };
    }
}

/// Registers the logger with tokio, which then wakes a task when there is something to read.
pub(crate) fn watch<T: Log>(logger: EbpfLogger<T>) -> io::Result<AsyncFd<EbpfLogger<T>>> {
    // SAFETY: the logger owns its descriptor, which stays open and the same for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?)
}

/// Mounts a BPF file system.
pub(crate) fn mount_bpffs(at: &std::path::Path) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_encoded_bytes())?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: all strings end with a zero byte and live through the call; no data is passed.
    let result = unsafe { libc::mount(c"bpf".as_ptr(), at.as_ptr(), c"bpf".as_ptr(), flags, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
