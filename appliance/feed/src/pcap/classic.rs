//! Classic pcap: a header, and records.
//!
//! ```text
//! header                               record
//!  0 magic: byte order, unit of time    0 seconds          u32
//!  4 version                            4 fraction         u32
//!  8 two words that nobody uses         8 captured length  u32
//! 16 snap length                       12 original length  u32
//! 20 link type (lower 16 bits)         16 8 bytes more in the modified form, then the packet
//! ```
//! Source: draft-ietf-opsawg-pcap. The upper bits of the link type tell of a frame check sequence behind each packet;
//! the packet's own lengths end before it. The modified form (magic `a1b2cd34`) is that of Linux 2.2's tcpdump.

use super::input::{Frame, Input, Order, Stop, believed};
use super::link::LinkType;
use crate::limits::CAPTURE_PACKET_LEN_MAX;

#[derive(Debug)]
pub(super) struct Classic {
    order: Order,
    /// The unit of the fraction, in nanoseconds.
    unit_ns: u64,
    is_modified: bool,
    link: LinkType,
}

impl Classic {
    /// Reads the header, of which `head` is the first half. None: it is none.
    pub(super) fn begin(head: &[u8; 12], input: &mut Input) -> Result<Option<Self>, Stop> {
        let magic = |is_big| Order { is_big }.u32_at(head, 0).and_then(unit_of).map(|unit| (Order { is_big }, unit));
        let Some((order, (unit_ns, is_modified))) = magic(true).or_else(|| magic(false)) else { return Ok(None) };
        let mut rest = [0; 12];
        input.read(&mut rest)?;
        input.begin_record();
        // The lower half.
        let link = (order.u32_at(&rest, 8).unwrap_or_default() & 0xffff) as u16;
        Ok(Some(Self { order, unit_ns, is_modified, link: LinkType(link) }))
    }

    pub(super) fn next(&self, input: &mut Input, bytes: &mut Vec<u8>) -> Result<Frame, Stop> {
        let mut words = [[0; 4]; 4];
        input.read(words.as_flattened_mut())?;
        let [seconds, fraction, len, original_len] = words.map(|word| self.order.u32(word));
        believed(len)?;
        if self.is_modified {
            input.skip(MODIFIED_LEN)?;
        }
        input.read_body(len, bytes)?;
        input.begin_record();
        Ok(Frame {
            ts_ns: Some(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit_ns),
            link: self.link,
            is_cut: len < original_len || len as usize > CAPTURE_PACKET_LEN_MAX,
        })
    }
}

/// What a magic says: nanoseconds of the unit, and whether records are those of the modified form.
fn unit_of(magic: u32) -> Option<(u64, bool)> {
    match magic {
        0xa1b2_c3d4 => Some((1_000, false)),
        0xa1b2_3c4d => Some((1, false)),
        0xa1b2_cd34 => Some((1_000, true)),
        _ => None,
    }
}

/// Interface, protocol and kind of packet.
const MODIFIED_LEN: u64 = 8;
