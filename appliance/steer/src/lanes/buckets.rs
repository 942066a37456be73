//! The map of buckets in this process, as atomic words.

use std::io;
use std::ops::Deref;
use std::os::fd::BorrowedFd;

use fanblade_abi::lookup::Bucket;

use super::sys::Mapping;
use super::table::SharedBucket;

/// The map of buckets, mapped for reading and writing for as long as this lives.
#[derive(Debug)]
pub struct MappedBuckets(Mapping<Bucket>);

impl MappedBuckets {
    /// Maps `count` buckets of `map`: an array map of [`Bucket`] with `BPF_F_MMAPABLE` and at least so many entries.
    ///
    /// # Errors
    ///
    /// What `mmap` says (kernel/bpf/syscall.c and arraymap.c): EINVAL if the map is smaller or not mmapable or `count`
    /// is 0, EPERM if it is frozen.
    pub fn map(map: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        Mapping::new(map, count as usize).map(Self)
    }
}

impl From<Mapping<Bucket>> for MappedBuckets {
    fn from(mapping: Mapping<Bucket>) -> Self {
        Self(mapping)
    }
}

impl Deref for MappedBuckets {
    type Target = [SharedBucket];

    fn deref(&self) -> &[SharedBucket] {
        self.0.shared()
    }
}
