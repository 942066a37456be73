//! Subscribers that live in an XDP program: `fanblade-swarm --engine xdp`. No sockets, 32 bytes each.
//!
//! On the client end of a veth pair the program answers what the server sends, from the packet and a subscriber's
//! entry. Userspace opens the connections (it sends SYN, request and subscription as raw packets, and sees in the
//! entries what the server answered); the program acknowledges data, reads the frames in it, counts, and answers pings.
//! What a frame and a message mean is `fanblade_swarm_abi`, tested on the host.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod answer;
mod maps;
mod segment;
mod verifier;
mod walk;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use fanblade_abi::packet::{ACK, FIN, RST, SYN};
use fanblade_swarm_abi::{ANSWERED, ASKED, AWAITED, CALLED, Counters, OPEN, OVER, Settings, Subscriber};

use maps::{COUNTERS, SETTINGS, SUBSCRIBERS};
use segment::Segment;

/// The program for the server's end: a veth takes what the other end answers only if both ends have a program.
#[xdp]
pub fn server_end(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
pub fn swarm(ctx: XdpContext) -> u32 {
    let Some(segment) = Segment::read(&ctx) else { return XDP_PASS };
    let (Some(settings), Some(counters)) = (SETTINGS.get(0), COUNTERS.get_ptr_mut(0)) else { return XDP_PASS };
    // SAFETY: the entry of this CPU, which nobody else refers to while the program runs.
    let counters = unsafe { &mut *counters };
    let number = settings.subscriber(segment.dst, segment.dst_port);
    let Some((number, subscriber)) = number.and_then(|it| Some((it, SUBSCRIBERS.get_ptr_mut(it)?))) else {
        counters.strays += 1;
        return XDP_PASS;
    };
    // SAFETY: an entry of an array stays where it is. The packets of a connection come one after the other, through
    // one queue, and userspace does not write while they may come.
    let subscriber = unsafe { &mut *subscriber };
    let answer = receive(&ctx, &segment, number, subscriber, settings, counters);
    match answer {
        None => XDP_DROP,
        Some(flags) => {
            let mut pong_len = 0;
            if flags & WITH_PONG != 0 {
                pong_len = walk::pong_len();
                subscriber.sent = subscriber.sent.wrapping_add(pong_len);
                subscriber.flags |= AWAITED;
                counters.pongs += 1;
            } else if flags & WITH_PONG_AGAIN != 0 {
                pong_len = walk::prepare_pong_again(subscriber.sent.wrapping_sub(segment.acknowledged));
                counters.pongs_again += 1;
            }
            if pong_len > 0 && settings.drop_per_mille > 0 && dropped(settings.drop_per_mille) {
                counters.dropped += 1;
                return XDP_DROP;
            }
            if answer::write(ctx.as_ptr().cast(), &segment, subscriber, flags as u8, pong_len).is_err() {
                counters.unanswered += 1;
                return XDP_DROP;
            }
            XDP_TX
        }
    }
}

/// The TCP flags of the answer, and [`WITH_PONG`] or [`WITH_PONG_AGAIN`]; none: no answer.
#[inline(always)]
fn receive(
    ctx: &XdpContext,
    segment: &Segment,
    number: u32,
    subscriber: &mut Subscriber,
    settings: &Settings,
    counters: &mut Counters,
) -> Option<u32> {
    let (state, flags) = (subscriber.state, segment.flags);
    if state < CALLED || state >= OVER {
        counters.strays += 1;
        return None;
    }
    if flags & RST != 0 {
        counters.resets += 1;
        subscriber.state = OVER;
        return None;
    }
    if flags & SYN != 0 {
        if state == CALLED && flags & ACK != 0 {
            subscriber.next = segment.sequence.wrapping_add(1);
            subscriber.state = ANSWERED;
        }
        return None;
    }
    if state < ASKED {
        counters.strays += 1;
        return None;
    }
    if segment.payload_len > 0 {
        counters.segments += 1;
        if settings.drop_per_mille > 0 && dropped(settings.drop_per_mille) {
            counters.dropped += 1;
            return None;
        }
    }
    // How many of the segment's bytes we have already; a difference below zero is a huge number.
    let known = subscriber.next.wrapping_sub(segment.sequence);
    let mut answer =
        if subscriber.missing(segment.acknowledged) > 0 { Some(u32::from(ACK) | WITH_PONG_AGAIN) } else { None };
    if segment.payload_len > 0 {
        let acknowledgement = answer.unwrap_or(u32::from(ACK));
        answer = Some(acknowledgement);
        if known >= 1 << 31 {
            // Bytes are missing before this segment: the acknowledgement tells the server which byte we wait for.
            counters.ahead += 1;
            return answer;
        }
        if known >= segment.payload_len {
            counters.again += 1;
        } else {
            let fresh_len = segment.payload_len - known;
            counters.bytes += u64::from(fresh_len);
            subscriber.next = subscriber.next.wrapping_add(fresh_len);
            if walk::walk(ctx, segment.payload_at + known, fresh_len, number) {
                answer = Some(acknowledgement | WITH_PONG);
            }
        }
    } else if known == 1 && flags & FIN == 0 {
        // A keep-alive probe: the server asks whether we are still there.
        answer = answer.or(Some(u32::from(ACK)));
    }
    if flags & FIN != 0 && segment.sequence.wrapping_add(segment.payload_len) == subscriber.next {
        if subscriber.state < OVER {
            counters.ended += 1;
            subscriber.state = OVER;
        }
        subscriber.next = subscriber.next.wrapping_add(1);
        answer = Some(answer.unwrap_or_default() | u32::from(ACK | FIN));
    }
    answer
}

#[inline(always)]
fn dropped(per_mille: u32) -> bool {
    // SAFETY: the helper has no preconditions.
    let drawn = unsafe { bpf_get_prandom_u32() };
    drawn % 1_000 < per_mille
}

/// The answer has the pong that [`walk`] has prepared.
const WITH_PONG: u32 = 1 << 8;
/// Otherwise the answer has the missing pong bytes, as one pong.
const WITH_PONG_AGAIN: u32 = 1 << 9;

const _: () = assert!(OPEN > ASKED);

/// The kernel gives helpers to programs under a GPL-compatible license.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
