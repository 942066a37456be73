//! Turns a packet into the answer to it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_csum_diff;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_store_bytes};
use fanblade_abi::packet::ACK;
use fanblade_swarm_abi::Subscriber;

use crate::maps::{PONG_LEN, SCRATCH};
use crate::segment::{HEADERS_LEN, Segment};
use crate::verifier::forgotten;

/// The packet could not be changed.
pub struct Failed;

/// Writes the answer over the packet: an acknowledgement with these flags, and the first `pong_len` bytes of the pong
/// in the scratch, which count as sent already. A veth's packet cannot grow at its tail, so missing room is added in
/// front.
#[inline(always)]
pub fn write(
    ctx: *mut xdp_md,
    segment: &Segment,
    subscriber: &Subscriber,
    flags: u8,
    pong_len: u32,
) -> Result<(), Failed> {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return Err(Failed) };
    let pong_len = if pong_len > PONG_LEN as u32 { PONG_LEN as u32 } else { pong_len };
    let grown = (HEADERS_LEN as u32 + pong_len) as i32 - segment.frame_len as i32;
    // SAFETY: the context is the one that the kernel passed in. All pointers into the packet are invalid from here on.
    let resized = unsafe { if grown > 0 { bpf_xdp_adjust_head(ctx, -grown) } else { bpf_xdp_adjust_tail(ctx, grown) } };
    if resized != 0 {
        return Err(Failed);
    }
    let flags = if pong_len > 0 { flags | PSH } else { flags | ACK };
    // The TCP checksum covers a pseudo-header (protocol, length, addresses), the TCP header and the pong.
    let tcp_len = TCP_LEN + pong_len as u16;
    let mut sum = PROTOCOL_TCP + u32::from(tcp_len);
    if pong_len > 0 {
        // SAFETY: the scratch of this CPU; the frame ends with zeros up to the length that is given, a constant.
        let pong =
            unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, (&raw mut (*scratch).pong).cast(), PONG_LEN as u32, 0) };
        // In the machine's byte order, as it is stored.
        sum += (swapped(pong as u64 & 0xffff)) + swapped(pong as u64 >> 16 & 0xffff);
    }
    let halves = |word: u32| (word >> 16) + (word & 0xffff);
    let offset_and_flags = 5_u16 << 12 | u16::from(flags);
    sum += halves(segment.src) + halves(segment.dst) + u32::from(segment.src_port) + u32::from(segment.dst_port);
    let sequence = subscriber.sent.wrapping_sub(pong_len);
    sum += halves(sequence) + halves(subscriber.next) + u32::from(offset_and_flags) + u32::from(WINDOW);
    let total_len = IPV4_LEN + tcp_len;
    let ip_sum =
        0x4500 + u32::from(total_len) + DO_NOT_FRAGMENT + TTL_AND_TCP + halves(segment.src) + halves(segment.dst);

    let mut headers = [0_u8; HEADERS_LEN];
    headers[..6].copy_from_slice(&segment.server_mac);
    headers[6..12].copy_from_slice(&segment.client_mac);
    put(&mut headers, 12, 0x0800);
    put(&mut headers, 14, 0x4500);
    put(&mut headers, 16, total_len);
    put(&mut headers, 20, DO_NOT_FRAGMENT as u16);
    put(&mut headers, 22, TTL_AND_TCP as u16);
    put(&mut headers, 24, complement(ip_sum));
    put_long(&mut headers, 26, segment.dst);
    put_long(&mut headers, 30, segment.src);
    put(&mut headers, 34, segment.dst_port);
    put(&mut headers, 36, segment.src_port);
    put_long(&mut headers, 38, sequence);
    put_long(&mut headers, 42, subscriber.next);
    put(&mut headers, 46, offset_and_flags);
    put(&mut headers, 48, WINDOW);
    put(&mut headers, 50, complement(sum));
    // SAFETY: the buffer is a local of that length; the helper checks the packet's.
    if unsafe { bpf_xdp_store_bytes(ctx, 0, headers.as_mut_ptr().cast(), HEADERS_LEN as u32) } != 0 {
        return Err(Failed);
    }
    // The verifier wants to see the bounds of the length compared right before the helper is called.
    let pong_len = forgotten(pong_len.into());
    if pong_len > 0 && pong_len <= PONG_LEN as u64 {
        // SAFETY: as above, with the pong in the scratch of this CPU.
        let pong = unsafe { (&raw mut (*scratch).pong).cast() };
        if unsafe { bpf_xdp_store_bytes(ctx, HEADERS_LEN as u32, pong, pong_len as u32) } != 0 {
            return Err(Failed);
        }
    }
    Ok(())
}

#[inline(always)]
fn put(headers: &mut [u8; HEADERS_LEN], at: usize, value: u16) {
    [headers[at], headers[at + 1]] = value.to_be_bytes();
}

#[inline(always)]
fn put_long(headers: &mut [u8; HEADERS_LEN], at: usize, value: u32) {
    put(headers, at, (value >> 16) as u16);
    put(headers, at + 2, value as u16);
}

#[inline(always)]
fn swapped(half: u64) -> u32 {
    u32::from((half as u16).swap_bytes())
}

/// The Internet checksum (RFC 1071) of what adds up to `sum`.
#[inline(always)]
fn complement(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    !(((once >> 16) + once) as u16)
}

const PSH: u8 = 0x08 | ACK;
const IPV4_LEN: u16 = 20;
const TCP_LEN: u16 = 20;
const PROTOCOL_TCP: u32 = 6;
const DO_NOT_FRAGMENT: u32 = 0x4000;
const TTL_AND_TCP: u32 = 0x4006;
/// The largest window without window scaling: a subscriber takes whatever comes.
const WINDOW: u16 = 65_535;
