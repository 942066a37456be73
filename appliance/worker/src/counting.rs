//! For tests: an allocator that knows how often each thread has asked for memory, and what it has not given back.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that this thread has asked for, less what it has given back.
pub(crate) fn bytes_held() -> i64 {
    HELD.get()
}

/// How often this thread has asked for memory.
pub(crate) fn allocations() -> u64 {
    ASKED.get()
}

struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn add(len: usize, sign: i64) {
    HELD.set(HELD.get() + sign * i64::try_from(len).unwrap_or(i64::MAX));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local that has no destructor
// and is initialised without allocating.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size(), 1);
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's obligations are passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(layout.size(), -1);
        // SAFETY: `pointer` came from `System` through this allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
