//! What a lane reads of a TCP header.

use super::Seq;
use super::checksum::{fold, sum, sum_of_address};
use crate::packet::{Bytes, Segment};

/// The fields of a TCP header (RFC 9293, 3.1), in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The first byte of the payload.
    pub seq: Seq,
    /// The next byte that the sender expects. Means something only with the flag ACK.
    pub ack: Seq,
    /// The eight flags.
    pub flags: u8,
    /// The ninth flag, AE (RFC 3168 as updated: accurate ECN), and the reserved bits.
    pub reserved: u8,
    /// The window as it stands, not scaled.
    pub window: u16,
    /// The timestamps, or another list of options.
    pub options: Options,
    /// Bytes of payload.
    pub payload_len: u32,
}

/// The options of a segment. A lane knows the two lists that clients send when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Options {
    /// None.
    None,
    /// NOP, NOP, timestamps (RFC 7323, appendix A).
    Timestamps {
        /// TSval: the client's clock.
        value: u32,
        /// TSecr: ours, as the client has seen it.
        echo: u32,
    },
    /// Timestamps in that place, then SACK blocks; or SACK blocks alone (RFC 2018).
    Sack,
    /// Anything else.
    Other,
}

impl Header {
    /// Reads the header of a whole segment. `None`: the packet ends before, which `parse` has ruled out.
    #[inline(always)]
    pub fn read<B: Bytes + ?Sized>(frame: &B, segment: &Segment) -> Option<Header> {
        let at = segment.tcp_at as usize;
        let fixed: [u8; FIXED_LEN] = frame.read(at)?;
        let options_len = u32::from(fixed[12] >> 4) * 4 - 20;
        let options = match options_len {
            0 => Options::None,
            TIMESTAMPS_LEN => {
                let list: [u8; 12] = frame.read(at + FIXED_LEN)?;
                if list[..4] == [NOP, NOP, KIND_TIMESTAMPS, 10] {
                    Options::Timestamps {
                        value: u32::from_be_bytes([list[4], list[5], list[6], list[7]]),
                        echo: u32::from_be_bytes([list[8], list[9], list[10], list[11]]),
                    }
                } else if list[..3] == [NOP, NOP, KIND_SACK] {
                    Options::Sack
                } else {
                    Options::Other
                }
            }
            _ => {
                // The next list may begin after the timestamps, which everybody puts first.
                let first: [u8; 4] = frame.read(at + FIXED_LEN)?;
                let is_behind = first == [NOP, NOP, KIND_TIMESTAMPS, 10] && options_len > TIMESTAMPS_LEN;
                let list: [u8; 4] = if is_behind { frame.read(at + FIXED_LEN + 12)? } else { first };
                if list[..3] == [NOP, NOP, KIND_SACK] { Options::Sack } else { Options::Other }
            }
        };
        Some(Header {
            seq: Seq(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ack: Seq(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
            flags: fixed[13],
            reserved: fixed[12] & 0x0f,
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            options,
            payload_len: segment.payload_len(),
        })
    }
}

/// Is the checksum of a segment right? `tcp_sum`: the sum of its [`Segment::tcp_len`] bytes, header (with its checksum)
/// and payload; `field`: the checksum as it lies in memory.
///
/// `is_unsummed_fine`: a peer on the same machine leaves the checksum to a card that is not there; then the field has
/// the sum of the pseudo-header alone, as the kernel puts it there for the card (`CHECKSUM_PARTIAL`).
#[inline(always)]
#[must_use]
pub fn is_sum_right(segment: &Segment, tcp_sum: u64, field: u16, is_unsummed_fine: bool) -> bool {
    let pseudo = sum_of_pseudo_header(segment);
    fold(pseudo + tcp_sum) == 0xffff || (is_unsummed_fine && fold(pseudo) == field)
}

/// The sum of the header that TCP's checksum counts besides the segment (RFC 9293, 3.1).
#[inline(always)]
fn sum_of_pseudo_header(segment: &Segment) -> u64 {
    let tcp_len = segment.tcp_len();
    sum_of_address(&segment.src)
        + sum_of_address(&segment.dst)
        + u64::from(u16::to_be(6))
        + u64::from(tcp_len.to_be() >> 16)
        + u64::from(tcp_len.to_be() & 0xffff)
}

/// Puts the checksum into a frame that has only the sum of its pseudo-header, which the kernel has left to a card that
/// is not there. Any other frame stays as it is: what is wrong in it has to stay wrong.
pub fn complete_sum(frame: &mut [u8], segment: &Segment) {
    let (from, to) = (segment.tcp_at as usize, (segment.tcp_at + segment.tcp_len()) as usize);
    let Some(tcp) = frame.get_mut(from..to) else { return };
    let Some(field) = tcp.get(16..18).and_then(|field| field.first_chunk().copied()) else { return };
    let pseudo = sum_of_pseudo_header(segment);
    let field = u16::from_ne_bytes(field);
    if field != fold(pseudo) || fold(pseudo + sum(tcp)) == 0xffff {
        return;
    }
    // The field holds the pseudo-header's sum: the sum of the segment as it lies there is that of both.
    let checksum = !fold(sum(tcp));
    tcp[16..18].copy_from_slice(&checksum.to_ne_bytes());
}

const FIXED_LEN: usize = 20;
const TIMESTAMPS_LEN: u32 = 12;
const NOP: u8 = 1;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;
