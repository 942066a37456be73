//! XDP, but not for packets that come: userspace runs it over a template (`BPF_PROG_RUN` with live frames), once for
//! each item of `WORK`, and it makes the item's packet of the template and sends it on to the device.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_redirect, bpf_xdp_adjust_tail};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use fanblade_abi::lane::send::{SLOT_UNIT, headers, headers_len, packet_len};
use fanblade_abi::lane::work::{BLOCK_LEN, BLOCKS_MAX, PACKETS_PER_TIME, PAYLOAD_LEN_MAX, SLOTS_LEN};
use fanblade_abi::lane::{Item, Lane, LaneVerdict, Path, Refusal, Sender, Seq};

use crate::clock::{milliseconds, now_ns};
use crate::maps::{LANES, PATHS, SENDER, SLOTS, WORK, count};
use crate::packet::{Template, copy_words};
use crate::verifier::forgotten;

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
    if cursor == sender.end {
        return None;
    }
    let item = unsafe { &mut *WORK.get_ptr_mut(cursor & sender.mask)? };
    sender.cursor = cursor.wrapping_add(1);
    if sender.fresh_for == 0 {
        sender.now_ms = milliseconds(now_ns());
        sender.fresh_for = PACKETS_PER_TIME;
    }
    sender.fresh_for -= 1;
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
    lane.admit(item.generation, item.seq, len).map_err(|refusal| (refusal, verdict(refusal)))?;
    if len > PAYLOAD_LEN_MAX {
        return Err((Refusal::TooLong, LaneVerdict::SendTooLong));
    }
    let path = PATHS.get(u32::from(lane.sending.path)).ok_or((Refusal::Failed, LaneVerdict::SendNoPath))?;
    if path.interface != sender.interface {
        return Err((Refusal::Failed, LaneVerdict::SendOtherInterface));
    }

    let failed = (Refusal::Failed, LaneVerdict::SendFailed);
    // SAFETY: the context is the one that the kernel passed in.
    let template = unsafe { Template::new((*ctx).data as usize, (*ctx).data_end as usize) };
    let mut template = template.ok_or(failed)?;
    let template_len = template.len();
    let headers_len = headers_len(path, &lane.sending);
    let told = write_headers(&mut template, lane, path, item, sender.now_ms);
    // After the headers: the verifier follows what comes behind a loop for each of its ends.
    let from = payload(item).ok_or((Refusal::Failed, LaneVerdict::SendNoSlot))?;
    let to = template.payload(headers_len).ok_or(failed)?;
    copy_payload(from, to, len);
    // SAFETY: as above. No pointer into the packet is used from here on.
    let cut = unsafe { bpf_xdp_adjust_tail(ctx, (headers_len as u32 + len) as i32 - template_len as i32) };
    if cut != 0 {
        return Err(failed);
    }
    lane.sent(told, len, packet_len(path, &lane.sending, len));
    Ok(())
}

/// Writes the headers, with a branch for each place that they can have: so all offsets are constants, and need no
/// check.
#[inline(always)]
fn write_headers(template: &mut Template, lane: &Lane, path: &Path, item: &Item, now_ms: u32) -> Seq {
    let mut write = |flags: u16| {
        let path = Path { flags, ..*path };
        headers(template, lane, &path, u32::from(item.len), item.sum, now_ms)
    };
    match path.flags & (Path::TAGGED | Path::IPV6) {
        0 => write(0),
        Path::TAGGED => write(Path::TAGGED),
        Path::IPV6 => write(Path::IPV6),
        _ => write(Path::TAGGED | Path::IPV6),
    }
}

/// The item's payload. `None`: it does not lie within the slots.
#[inline(always)]
fn payload(item: &Item) -> Option<*const u8> {
    let slots = SLOTS.get_ptr(0)?;
    let from = forgotten(u64::from(item.slot) * u64::from(SLOT_UNIT)) as usize;
    if from >= SLOTS_LEN {
        return None;
    }
    // SAFETY: within the slots, as has just been checked; the blocks of the longest payload lie within the map.
    Some(unsafe { (&raw const (*slots).bytes).cast::<u8>().add(from) })
}

/// Copies the payload in whole blocks: what is too much is cut off with the rest of the template.
#[inline(always)]
fn copy_payload(from: *const u8, to: usize, len: u32) {
    let mut at = 0;
    while at < BLOCKS_MAX * BLOCK_LEN {
        if at >= len as usize {
            break;
        }
        // SAFETY: the longest payload fits both. The slots begin at a page and their units are words.
        unsafe { copy_words::<{ BLOCK_LEN / 8 }>(from.add(at).cast(), to + at) };
        at += BLOCK_LEN;
    }
}

#[inline(always)]
fn verdict(refusal: Refusal) -> LaneVerdict {
    match refusal {
        Refusal::Gone => LaneVerdict::SendGone,
        Refusal::Held => LaneVerdict::SendHeld,
        Refusal::Window => LaneVerdict::SendWindow,
        Refusal::InFlight => LaneVerdict::SendInFlight,
        Refusal::TooLong => LaneVerdict::SendTooLong,
        Refusal::OutOfTurn => LaneVerdict::SendOutOfTurn,
        Refusal::Failed => LaneVerdict::SendFailed,
    }
}
