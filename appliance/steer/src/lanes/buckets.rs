//! The map of buckets in this process, as atomic words: the unsafe part of the lookup.
#![expect(unsafe_code, reason = "mmap, and a view of shared memory as atomic words")]

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use fanblade_abi::lookup::{BUCKET_SLOTS, Bucket};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A [`Bucket`] that kernel programs read, and other threads and processes write, at the same time.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct SharedBucket(pub(super) [AtomicU64; BUCKET_SLOTS]);

const _: () = assert!(size_of::<SharedBucket>() == size_of::<Bucket>());
const _: () = assert!(align_of::<SharedBucket>() == align_of::<Bucket>());

/// The map of buckets, mapped for reading and writing for as long as this lives.
#[derive(Debug)]
pub struct MappedBuckets {
    base: NonNull<SharedBucket>,
    count: usize,
}

// SAFETY: the memory belongs to no thread. It is reached only as atomic words, and unmapped once, on drop.
unsafe impl Send for MappedBuckets {}
// SAFETY: as above.
unsafe impl Sync for MappedBuckets {}

impl MappedBuckets {
    /// Maps `count` buckets of `map`: an array map of [`Bucket`] with `BPF_F_MMAPABLE` and at least so many entries.
    ///
    /// # Errors
    ///
    /// What `mmap` says (kernel/bpf/syscall.c and arraymap.c): EINVAL if the map is smaller or not mmapable, EPERM if
    /// it is frozen. `InvalidInput` if `count` is 0.
    pub fn map(map: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        let count = count as usize;
        let len = Self::bytes(count).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { base: base.cast(), count })
    }

    fn bytes(count: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(count.checked_mul(size_of::<SharedBucket>())?)
    }
}

impl Deref for MappedBuckets {
    type Target = [SharedBucket];

    fn deref(&self) -> &[SharedBucket] {
        // SAFETY: `count` buckets are mapped (see `map`) for as long as `self` lives, from the start of a page, hence
        // aligned. All bit patterns are valid. Userspace touches this memory only by atomic operations on whole words,
        // kernel programs only read it. A map does not shrink, so that the pages stay.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }
}

impl Drop for MappedBuckets {
    fn drop(&mut self) {
        if let Some(len) = Self::bytes(self.count) {
            // SAFETY: the range is the one that `map` has mapped; references into it borrow from `self`. An error would
            // mean a wrong range: nothing to do about it.
            let _ = unsafe { munmap(self.base.cast(), len.get()) };
        }
    }
}
