//! A packet that lies in memory from `data` to `data_end`, as the kernel gives it to XDP and tc programs.

use core::arch::asm;

use fanblade_abi::lane::send::{HEADERS_LEN_MAX, Put};
use fanblade_abi::limits;
use fanblade_abi::packet::Bytes;

pub struct Packet {
    pub data: usize,
    pub data_end: usize,
    /// Length of the whole frame, with bytes that cannot be reached directly.
    pub frame_len: u32,
}

impl Bytes for Packet {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > limits::HEADERS_LEN_MAX {
            return None;
        }
        let start = self.data + offset;
        if start + N > self.data_end {
            return None;
        }
        let mut bytes = [0; N];
        let mut at = 0;
        // SAFETY: (all) `start..start + N` lies within the packet, as has just been checked.
        while N - at >= 8 {
            fill(&mut bytes, at, unsafe { load_8(start + at) }.to_ne_bytes());
            at += 8;
        }
        if N - at >= 4 {
            fill(&mut bytes, at, unsafe { load_4(start + at) }.to_ne_bytes());
            at += 4;
        }
        if N - at >= 2 {
            fill(&mut bytes, at, unsafe { load_2(start + at) }.to_ne_bytes());
            at += 2;
        }
        if N > at {
            bytes[at] = unsafe { *(start as *const u8).add(at) };
        }
        Some(bytes)
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.frame_len
    }
}

impl Put for Packet {
    /// Writes nothing where the packet ends before: the verifier wants to see it, and `lane_send` has checked it.
    #[inline(always)]
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        if offset > HEADERS_LEN_MAX {
            return;
        }
        let start = self.data + offset;
        if start + N > self.data_end {
            return;
        }
        let mut at = 0;
        // SAFETY: (all three) `start..start + N` lies within the packet, as has just been checked.
        while N - at >= 8 {
            unsafe { store_8(start + at, u64::from_ne_bytes(part(&bytes, at))) };
            at += 8;
        }
        if N - at >= 4 {
            unsafe { store_4(start + at, u32::from_ne_bytes(part(&bytes, at))) };
            at += 4;
        }
        if N - at >= 2 {
            unsafe { store_2(start + at, u16::from_ne_bytes(part(&bytes, at))) };
        }
    }
}

/// Copies `N` words of eight bytes.
///
/// # Safety
///
/// `from` points to `N` words, and `to` to as many bytes of a packet.
#[inline(always)]
pub unsafe fn copy_words<const N: usize>(from: *const [u64; N], to: usize) {
    let mut at = 0;
    while at < N {
        // SAFETY: the caller's promise.
        unsafe { store_8(to + at * 8, (*from)[at]) };
        at += 1;
    }
}

#[inline(always)]
fn fill<const N: usize, const M: usize>(bytes: &mut [u8; N], from: usize, part: [u8; M]) {
    let mut at = 0;
    while at < M {
        bytes[from + at] = part[at];
        at += 1;
    }
}

#[inline(always)]
fn part<const N: usize, const M: usize>(bytes: &[u8; N], from: usize) -> [u8; M] {
    let mut part = [0; M];
    let mut at = 0;
    while at < M {
        part[at] = bytes[from + at];
        at += 1;
    }
    part
}

// A packet's fields are not aligned, for which the compiler would load and store byte by byte. The machine has no such
// need, and the instructions themselves take whole words.

/// # Safety
///
/// `from..from + 8` lies within a packet.
#[inline(always)]
unsafe fn load_8(from: usize) -> u64 {
    let value: u64;
    // SAFETY: the caller's promise.
    unsafe { asm!("{0} = *(u64 *)({1} + 0)", out(reg) value, in(reg) from, options(nostack, readonly)) };
    value
}

/// # Safety
///
/// `from..from + 4` lies within a packet.
#[inline(always)]
unsafe fn load_4(from: usize) -> u32 {
    let value: u64;
    // SAFETY: the caller's promise.
    unsafe { asm!("{0} = *(u32 *)({1} + 0)", out(reg) value, in(reg) from, options(nostack, readonly)) };
    value as u32
}

/// # Safety
///
/// `from..from + 2` lies within a packet.
#[inline(always)]
unsafe fn load_2(from: usize) -> u16 {
    let value: u64;
    // SAFETY: the caller's promise.
    unsafe { asm!("{0} = *(u16 *)({1} + 0)", out(reg) value, in(reg) from, options(nostack, readonly)) };
    value as u16
}

/// # Safety
///
/// `to..to + 8` lies within a packet.
#[inline(always)]
unsafe fn store_8(to: usize, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("*(u64 *)({0} + 0) = {1}", in(reg) to, in(reg) value, options(nostack)) };
}

/// # Safety
///
/// `to..to + 4` lies within a packet.
#[inline(always)]
unsafe fn store_4(to: usize, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("*(u32 *)({0} + 0) = {1}", in(reg) to, in(reg) u64::from(value), options(nostack)) };
}

/// # Safety
///
/// `to..to + 2` lies within a packet.
#[inline(always)]
unsafe fn store_2(to: usize, value: u16) {
    // SAFETY: the caller's promise.
    unsafe { asm!("*(u16 *)({0} + 0) = {1}", in(reg) to, in(reg) u64::from(value), options(nostack)) };
}
