//! Maps in our address space, which the programs read and write at the same time.
#![expect(unsafe_code, reason = "map entries are plain bytes to the kernel, and the lanes' maps are shared mappings")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use aya::Pod;
use aya::maps::Map;
use fanblade_abi::lane::{Item, Lane, LaneCounters, Lost, Path, Record, Sender};
use fanblade_abi::lookup::{Bucket, LookupSettings};

use super::table::SharedBucket;
use crate::sys::Plain;

// SAFETY: `repr(C)`, only integers, no padding (asserted by size in the abi crate), so any bytes are a value and a
// value is only bytes.
unsafe impl Pod for Plain<LaneCounters> {}

/// A type of map entries: any bytes are a value.
///
/// # Safety
///
/// The type is `repr(C)` and has only integers.
pub(super) unsafe trait Shared: Copy {}

// SAFETY: (all) `repr(C)` with integers and arrays of them, or an integer.
unsafe impl Shared for Lane {}
// SAFETY: as above.
unsafe impl Shared for Path {}
// SAFETY: as above.
unsafe impl Shared for Item {}
// SAFETY: as above.
unsafe impl Shared for Sender {}
// SAFETY: as above.
unsafe impl Shared for Lost {}
// SAFETY: as above.
unsafe impl Shared for Bucket {}
// SAFETY: as above.
unsafe impl Shared for LookupSettings {}
// SAFETY: as above.
unsafe impl Shared for u64 {}

/// An array map with `BPF_F_MMAPABLE`, mapped. Values are copied in and out, since a program may write them meanwhile.
#[derive(Debug)]
pub(super) struct Mapping<T> {
    entries: NonNull<T>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread; it is written through `&mut` only.
unsafe impl<T: Shared> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Mapping<T> {}

impl<T: Shared> Mapping<T> {
    /// Maps `len` entries; the kernel refuses more than the map has, and other maps.
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address that the kernel chooses.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(|entries| Self { entries, len })
            .ok_or_else(|| io::Error::other("mapped at zero"))
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn place(&self) -> (NonNull<T>, usize) {
        (self.entries, self.len)
    }

    pub(super) fn read(&self, index: u32) -> Option<T> {
        // SAFETY: within the mapping, which lives as long as `self` and begins at a page. Volatile: programs write.
        self.entry(index).map(|entry| unsafe { entry.read_volatile() })
    }

    pub(super) fn write(&mut self, index: u32, value: &T) -> Option<()> {
        // SAFETY: as above.
        self.entry(index).map(|entry| unsafe { entry.write_volatile(*value) })
    }

    fn entry(&self, index: u32) -> Option<NonNull<T>> {
        // SAFETY: the index is within the mapping.
        ((index as usize) < self.len).then(|| unsafe { self.entries.add(index as usize) })
    }
}

impl Mapping<u64> {
    /// Copies bytes to the words, `at` so many bytes behind their beginning.
    pub(super) fn copy_in(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        if at.checked_add(bytes.len())? > self.len * size_of::<u64>() {
            return None;
        }
        // SAFETY: the range lies within the mapping, as has just been checked, and no reference into it exists.
        unsafe { self.entries.cast::<u8>().add(at).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Some(())
    }
}

impl Mapping<Lane> {
    /// Sets and clears flags of a lane.
    pub(super) fn change_flags(&mut self, index: u32, set: u8, clear: u8) -> Option<()> {
        let entry = self.entry(index)?;
        // SAFETY: within the mapping, which lives as long as `self`; programs only read the flags.
        let flags = unsafe { AtomicU8::from_ptr(&raw mut (*entry.as_ptr()).sending.flags) };
        flags.fetch_or(set, Ordering::SeqCst);
        flags.fetch_and(!clear, Ordering::SeqCst);
        Some(())
    }
}

impl Mapping<Bucket> {
    /// The buckets as atomic words.
    pub(super) fn shared(&self) -> &[SharedBucket] {
        // SAFETY: `len` buckets are mapped for as long as `self` lives, from the start of a page, hence aligned. All
        // bit patterns are valid. Userspace touches this memory only by atomic operations on whole words, kernel
        // programs only read it. A map does not shrink, so that the pages stay.
        unsafe { std::slice::from_raw_parts(self.entries.cast().as_ptr(), self.len) }
    }
}

impl Mapping<LookupSettings> {
    /// The number of flows in the overflow.
    pub(super) fn overflowed(&self) -> &AtomicU32 {
        // SAFETY: `new` has mapped one entry at least, which stays for as long as `self` lives, and is aligned. After
        // the settings were made, this word is touched only by atomic operations.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.entries.as_ptr()).overflowed) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: this is the range that `new` has mapped, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

/// The head of a record and its bytes. `None`: fewer than the head says.
pub(super) fn read_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<{ size_of::<Record>() }>()?;
    // SAFETY: so many bytes are there; the type has only integers, and is read unaligned.
    let record = unsafe { head.as_ptr().cast::<Record>().read_unaligned() };
    Some((record, rest.get(..record.len as usize)?))
}

/// Bytes of memory that a map takes, as the kernel says in /proc; 0 if it says nothing.
pub(super) fn memory_of(map: &Map) -> u64 {
    let fd = match map {
        Map::Array(map) | Map::PerCpuArray(map) | Map::HashMap(map) | Map::RingBuf(map) => map.fd().as_fd().as_raw_fd(),
        _ => return 0,
    };
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}
