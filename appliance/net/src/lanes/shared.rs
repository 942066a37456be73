//! Memory that the kernel programs share with us.

#![expect(unsafe_code, reason = "the mappings of the programs' maps")]

use std::ptr::NonNull;

use fanblade_abi::lane::checksum::{fold, sum};
use fanblade_abi::lane::send::Item;
use fanblade_abi::lane::{Lane, Path};

use crate::engine::IoSlices;

/// An array that both sides read and write. An entry is copied in and out; it is never borrowed.
#[derive(Debug)]
pub struct Shared<T> {
    start: NonNull<T>,
    len: usize,
    /// The memory is ours.
    is_owned: bool,
}

/// What may lie in shared memory: any bytes are a value of it, and it has no padding.
///
/// # Safety
/// As said.
pub unsafe trait Plain: Copy + Default {}

// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: integers in C's layout, whose sizes add up to the size of the whole (asserted in fanblade-abi).
unsafe impl Plain for Item {}
// SAFETY: the same.
unsafe impl Plain for Lane {}
// SAFETY: the same.
unsafe impl Plain for Path {}

impl<T: Plain> Shared<T> {
    /// Memory of our own, for a model of the programs in this process.
    #[must_use]
    pub fn owned(len: usize) -> Shared<T> {
        let memory = Box::leak(vec![T::default(); len].into_boxed_slice());
        Shared { start: NonNull::from(memory).cast(), len, is_owned: true }
    }

    /// An array that is mapped elsewhere.
    ///
    /// # Safety
    /// `start` points to `len` entries, aligned, mapped for reading and writing, for as long as this value lives.
    #[must_use]
    pub unsafe fn mapped(start: NonNull<T>, len: usize) -> Shared<T> {
        Shared { start, len, is_owned: false }
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there no entry?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry at `at`, which counts round: behind the last entry comes the first.
    #[must_use]
    pub fn get(&self, at: usize) -> T {
        // SAFETY: below `len`; the other side may write at the same time, and any bytes are a value.
        unsafe { self.start.add(at % self.len).read_volatile() }
    }

    /// Sets the entry at `at`, which counts round.
    pub fn set(&mut self, at: usize, value: T) {
        // SAFETY: below `len`.
        unsafe { self.start.add(at % self.len).write_volatile(value) };
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.is_owned {
            let memory = NonNull::slice_from_raw_parts(self.start, self.len);
            // SAFETY: `owned` has leaked this very box, and nobody else frees it.
            drop(unsafe { Box::from_raw(memory.as_ptr()) });
        }
    }
}

impl Shared<u64> {
    /// Copies `len` bytes of the slices, from their byte `skip` on, to the words from `at` on, and returns their
    /// Internet sum, folded. For slices that are being sent: their bytes may be read until the flush, so
    /// [`IoSlices::push`] was promised.
    pub(crate) fn gather(&mut self, at: usize, slices: &IoSlices, skip: usize, len: usize) -> u16 {
        assert!(at + len.div_ceil(8) <= self.len, "beyond the staged bytes");
        // SAFETY: within the words, as was just looked at.
        let start = unsafe { self.start.add(at).cast::<u8>() };
        assert!(skip + len <= slices.len_total(), "beyond the slices");
        let (mut skip, mut done) = (skip, 0);
        for slice in slices.iovecs() {
            let count = slice.iov_len.saturating_sub(skip).min(len - done);
            if count > 0 {
                // SAFETY: the promise that `IoSlices::push` was given; the staged words are other memory.
                unsafe {
                    let from = slice.iov_base.cast::<u8>().add(skip);
                    start.add(done).copy_from_nonoverlapping(NonNull::new_unchecked(from), count);
                }
                done += count;
            }
            skip = skip.saturating_sub(slice.iov_len);
            if done == len {
                break;
            }
        }
        // SAFETY: `len` bytes from `start` on have just been written, and only this thread writes here.
        fold(sum(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }))
    }

    /// Copies `len` bytes from the words at `at` out.
    pub(crate) fn copy_out(&self, at: usize, len: usize, into: &mut Vec<u8>) {
        assert!(at + len.div_ceil(8) <= self.len, "beyond the staged bytes");
        // SAFETY: within the words; only this thread writes here, and it borrows them.
        into.extend_from_slice(unsafe { std::slice::from_raw_parts(self.start.add(at).cast().as_ptr(), len) });
    }
}
