//! The allocator counts the memory that a thread asks for and gives back, and none of other threads.

use std::hint::black_box;

use fanblade_testkit::allocations::{self, Counting};

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn what_a_thread_asks_for_and_gives_back_is_counted() {
    let (count, held) = (allocations::count(), allocations::bytes_held());
    let mut bytes = black_box(Vec::<u8>::with_capacity(10));
    assert_eq!((allocations::count() - count, allocations::bytes_held() - held), (1, 10));
    bytes.reserve_exact(100);
    assert_eq!((allocations::count() - count, allocations::bytes_held() - held), (2, 100));
    drop(black_box(bytes));
    assert_eq!((allocations::count() - count, allocations::bytes_held() - held), (2, 0));
}

#[test]
fn what_other_threads_ask_for_is_theirs() {
    let go = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            go.wait();
            let before = allocations::count();
            black_box(vec![0_u8; 1000]);
            allocations::count() - before
        });
        let before = (allocations::count(), allocations::bytes_held());
        go.wait();
        while !other.is_finished() {
            std::hint::spin_loop();
        }
        assert_eq!((allocations::count(), allocations::bytes_held()), before);
        assert_eq!(other.join().unwrap(), 1);
    });
}
