//! Once everything has reached its size, a message allocates nothing: neither in the books nor in the encodings.
#![expect(unsafe_code, reason = "an allocator that counts has to be an allocator")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{MIDNIGHT_UNIX_NS, binary_file, synthetic};
use fanblade_market::{Market, encode};

#[test]
fn a_message_allocates_nothing_after_warm_up() {
    let bytes = synthetic(3, 50, 2000, 30_000);
    let messages: Vec<&[u8]> = binary_file(&bytes).collect();
    let mut market = Market::with_orders_max("X", MIDNIGHT_UNIX_NS, 1 << 15);
    let (mut subject, mut text, mut packed) = (String::new(), Vec::new(), Vec::new());
    let mut pass = |seq: u64| {
        let mut updates = 0;
        let before = ALLOCATIONS.get();
        for message in &messages {
            let applied = market.apply(seq, message, &mut |update| {
                updates += 1;
                update.subject(&mut subject);
                text.clear();
                encode::json(&mut text, &subject, seq, seq, update.ts_ns, &update.image);
                packed.clear();
                encode::binary(&mut packed, 1, seq, seq, update.ts_ns, &update.image);
            });
            assert!(applied.is_ok());
        }
        (ALLOCATIONS.get() - before, updates)
    };
    // The counter counts: books have to grow.
    assert!(pass(u64::MAX).0 > 0);
    // The second pass starts with the orders that the first one left. So does the third: it takes the same way.
    pass(u64::MAX);
    let (allocations, updates) = pass(u64::MAX);
    assert!(updates > 10_000, "{updates}");
    assert_eq!(allocations, 0);
}

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local that has no destructor
// and is initialised without allocating.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's obligations are passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` through this allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
