//! Lanes: TCP connections whose packets are made and taken here, without a socket.
//!
//! One program per file. What a lane may send, what it takes and what its packets look like is `fanblade_abi::lane`,
//! tested on the host; here are the packets, the maps and the ring buffer.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod clock;
mod drops;
mod giveback;
mod guard;
mod lookup;
mod maps;
mod packet;
mod receive;
mod records;
mod send;
mod sum;
mod verifier;

/// The kernel gives its helpers only to programs under a GPL-compatible license.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
