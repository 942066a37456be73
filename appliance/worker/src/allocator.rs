//! The allocator of programs that serve.
#![expect(unsafe_code, reason = "an option of the allocator, which is written in C")]

use std::ffi::{c_int, c_long};

/// For a program's `#[global_allocator]`. Its threads share no lock: glibc's arenas have one each, and a thread that
/// stands still with it (a debugger, a page that does not come, a scheduler that has no time for it) would stop every
/// other that allocates or frees there. It is built without huge pages, with which 10,000 idle sessions took 401 bytes
/// each, and 151 without.
pub use mimalloc::MiMalloc as Allocator;

/// What a burst took goes back to the machine as it is freed. By default the allocator keeps it for a second, and then
/// until the thread asks for memory again, which a worker that only fans out does not do. First of all in `main`.
pub fn give_back_at_once() {
    // SAFETY: it stores a number in a table of options. "This function is not thread safe" (mimalloc.h): before there
    // is another thread nobody else reads it.
    unsafe { mi_option_set(PURGE_DELAY, 0) };
}

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// `mi_option_purge_delay`, in milliseconds (mimalloc.h, versions 2 and 3).
const PURGE_DELAY: c_int = 15;
