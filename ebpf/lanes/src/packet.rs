//! Packets as the kernel gives them to XDP and tc programs: they lie in memory from `data` to `data_end`.

use core::arch::asm;

use fanblade_abi::lane::send::{HEADERS_LEN_MAX, Put};
use fanblade_abi::lane::work::{BLOCK_LEN, BLOCKS_MAX, TEMPLATE_LEN};
use fanblade_abi::limits;
use fanblade_abi::packet::Bytes;

use crate::verifier::forgotten;

/// A packet that is read.
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

/// The packet that `lane_send` is run over.
pub struct Template {
    data: usize,
    data_end: usize,
}

impl Template {
    /// `None`: it is too short for the longest packet.
    #[inline(always)]
    pub fn new(data: usize, data_end: usize) -> Option<Self> {
        if data + TEMPLATE_LEN > data_end { None } else { Some(Self { data, data_end }) }
    }

    #[inline(always)]
    pub fn len(&self) -> u32 {
        (self.data_end - self.data) as u32
    }

    /// Where the payload begins, with room for the longest behind it.
    #[inline(always)]
    pub fn payload(&self, headers_len: usize) -> Option<usize> {
        let headers_len = forgotten(headers_len as u64) as usize;
        if headers_len > HEADERS_LEN_MAX {
            return None;
        }
        let at = self.data + headers_len;
        if at + BLOCKS_MAX * BLOCK_LEN > self.data_end { None } else { Some(at) }
    }
}

impl Put for Template {
    /// The verifier knows that `offset` is within the template only where it is a constant.
    #[inline(always)]
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        let start = self.data + offset;
        let mut at = 0;
        // SAFETY: (all three) headers lie below `HEADERS_LEN_MAX`, and the template is longer.
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
