//! XDP, but not for packets that come: userspace runs it over a template (`BPF_PROG_RUN` with live frames), once for
//! each item of `WORK`, and it makes the item's packet of the template and sends it on to the device.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_redirect, bpf_xdp_adjust_tail};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use fanblade_abi::lane::send::{HEADERS_LEN_MAX, SLOT_UNIT, headers, headers_len, packet_len};
use fanblade_abi::lane::work::{BLOCK_LEN, BLOCKS_MAX, PAYLOAD_LEN_MAX, SLOTS_LEN};
use fanblade_abi::lane::{Item, LaneVerdict, Refusal, Sender};

use crate::clock::{milliseconds, now_ns};
use crate::maps::{LANES, PATHS, SENDER, SLOTS, WORK, count};
use crate::packet::{Packet, copy_words};
use crate::sum::forgotten;

#[xdp]
pub fn lane_send(ctx: XdpContext) -> u32 {
    let Some((sender, item)) = next_item() else {
        count(LaneVerdict::SendNoWork);
        return XDP_DROP;
    };
    match make(ctx.as_ptr().cast(), sender, item) {
        Ok(()) => {
            item.outcome = Item::SENT;
            count(LaneVerdict::SendSent);
            sender.redirected = sender.redirected.wrapping_add(1);
            // SAFETY: (both) the helpers have no preconditions.
            unsafe {
                sender.cpu = bpf_get_smp_processor_id() as u32;
                bpf_redirect(sender.interface, 0) as u32
            }
        }
        Err((refusal, verdict)) => {
            item.outcome = refusal as u16;
            count(verdict);
            XDP_DROP
        }
    }
}

#[inline(always)]
fn next_item() -> Option<(&'static mut Sender, &'static mut Item)> {
    // SAFETY: (both) entries of arrays stay where they are, and there is one run at a time, for which userspace waits.
    let sender = unsafe { &mut *SENDER.get_ptr_mut(0)? };
    let cursor = sender.cursor;
    if cursor >= sender.items {
        return None;
    }
    let item = unsafe { &mut *WORK.get_ptr_mut(cursor)? };
    sender.cursor = cursor + 1;
    Some((sender, item))
}

/// Makes the item's packet. The lane counts it as sent when nothing can fail any more.
#[inline(always)]
fn make(ctx: *mut xdp_md, sender: &Sender, item: &Item) -> Result<(), (Refusal, LaneVerdict)> {
    let lane = LANES.get_ptr_mut(item.lane).ok_or((Refusal::Gone, LaneVerdict::SendGone))?;
    // SAFETY: an entry of an array stays where it is. The sender's line is written only here, and by userspace while
    // nothing is sent; the receiver's line is only read.
    let lane = unsafe { &mut *lane };
    let len = u32::from(item.len);
    lane.admit(item.generation, len).map_err(|refusal| (refusal, verdict(refusal)))?;
    if len > PAYLOAD_LEN_MAX {
        return Err((Refusal::TooLong, LaneVerdict::SendTooLong));
    }
    let path = PATHS.get(u32::from(lane.sending.path)).ok_or((Refusal::Failed, LaneVerdict::SendNoPath))?;
    if path.interface != sender.interface {
        return Err((Refusal::Failed, LaneVerdict::SendOtherInterface));
    }

    // SAFETY: the context is the one that the kernel passed in.
    let (data, data_end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    let mut packet = Packet { data, data_end, frame_len: (data_end - data) as u32 };
    let headers_len = headers_len(path, &lane.sending);
    let told = headers(&mut packet, lane, path, len, item.sum, milliseconds(now_ns()));
    // After the headers: the verifier follows what comes behind a loop for each of its ends.
    copy_payload(&packet, headers_len, item).map_err(|verdict| (Refusal::Failed, verdict))?;
    // SAFETY: as above. No pointer into the packet is used from here on.
    let cut = unsafe { bpf_xdp_adjust_tail(ctx, (headers_len as u32 + len) as i32 - packet.frame_len as i32) };
    if cut != 0 {
        return Err((Refusal::Failed, LaneVerdict::SendFailed));
    }
    lane.sent(told, len, packet_len(path, &lane.sending, len));
    Ok(())
}

/// Copies the payload behind the headers, in whole blocks: what is too much is cut off with the rest of the template.
#[inline(always)]
fn copy_payload(packet: &Packet, headers_len: usize, item: &Item) -> Result<(), LaneVerdict> {
    let slots = SLOTS.get_ptr(0).ok_or(LaneVerdict::SendNoSlot)?;
    let from = forgotten(u64::from(item.slot) * u64::from(SLOT_UNIT)) as usize;
    if from > SLOTS_LEN - BLOCKS_MAX * BLOCK_LEN {
        return Err(LaneVerdict::SendNoSlot);
    }
    let headers_len = forgotten(headers_len as u64) as usize;
    if headers_len > HEADERS_LEN_MAX {
        return Err(LaneVerdict::SendFailed);
    }
    let to = packet.data + headers_len;
    if to + BLOCKS_MAX * BLOCK_LEN > packet.data_end {
        return Err(LaneVerdict::SendFailed);
    }
    let mut block = 0;
    while block < BLOCKS_MAX {
        if block * BLOCK_LEN >= usize::from(item.len) {
            break;
        }
        // SAFETY: so many blocks lie within the slots and within the packet, as has just been checked. The slots begin
        // at a page and their units are words.
        unsafe {
            let words = (&raw const (*slots).bytes).cast::<u8>().add(from + block * BLOCK_LEN);
            copy_words::<{ BLOCK_LEN / 8 }>(words.cast(), to + block * BLOCK_LEN);
        }
        block += 1;
    }
    Ok(())
}

#[inline(always)]
fn verdict(refusal: Refusal) -> LaneVerdict {
    match refusal {
        Refusal::Gone => LaneVerdict::SendGone,
        Refusal::Held => LaneVerdict::SendHeld,
        Refusal::Window => LaneVerdict::SendWindow,
        Refusal::InFlight => LaneVerdict::SendInFlight,
        Refusal::TooLong => LaneVerdict::SendTooLong,
        Refusal::Failed => LaneVerdict::SendFailed,
    }
}
