//! Fanblade's kernel programs. They decide and count; they never look at application data, and they drop nothing.
//!
//! One program per file; the maps that they share, and that userspace reads, are in `maps.rs`. The parser,
//! the choice of a worker and the types of the map entries are ordinary code in the `fanblade-abi` crate, tested there.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod egress;
mod flow;
mod ingress;
mod maps;
mod steer;

/// The kernel gives its helpers only to programs under a GPL-compatible license.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
