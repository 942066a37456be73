//! An allocator that counts, for each thread, how often the thread asks for memory and how many bytes it holds.
//!
//! A test binary that counts declares the allocator once:
//!
//! ```
//! use fanblade_testkit::allocations::{self, Counting};
//!
//! #[global_allocator]
//! static COUNTING: Counting = Counting;
//!
//! let before = allocations::count();
//! drop(vec![0_u8; 10]);
//! assert_eq!(allocations::count() - before, 1);
//! ```
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// How often this thread has asked for memory. A block that grows or shrinks counts as asked for again.
pub fn count() -> u64 {
    COUNT.get()
}

/// Bytes that this thread has asked for, less those that it has given back.
pub fn bytes_held() -> i64 {
    HELD.get()
}

/// The system's allocator, with counting.
pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn hold(len: usize, sign: i64) {
    HELD.set(HELD.get() + sign * i64::try_from(len).unwrap_or(i64::MAX));
}

// SAFETY: each call goes to the system's allocator unchanged. The thread-locals are initialised without allocating,
// and have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        hold(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`, which is passed on; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
