//! pcapng: blocks, in sections.
//!
//! ```text
//! block                 section header (0a0d0d0a)   interface (1)         options
//!  0 type         u32    0 byte order   u32          0 link type   u16     0 code    u16
//!  4 length       u32    4 version      2 × u16      4 snap length u32     2 length  u16
//!  8 body                8 length       i64          8 options             4 value, padded to 4
//!    length again u32   16 options
//!
//! enhanced packet (6)          obsolete packet (2)          simple packet (3)
//!  0 interface         u32      0 interface, drops 2 × u16   0 original length  u32
//!  4 time, upper half  u32      4 time, upper half  u32      4 packet
//!  8 time, lower half  u32      8 time, lower half  u32
//! 12 captured length   u32     12 captured length   u32
//! 16 original length   u32     16 original length   u32
//! 20 packet, options           20 packet, options
//! ```
//! Source: draft-ietf-opsawg-pcapng. Of options only the two that times depend on are looked at, so that no other can
//! make a file unreadable; they end with the block, whether or not an option says so. Blocks of other types are
//! skipped.

use super::input::{Frame, Input, Order, Stop, believed};
use super::link::LinkType;
use crate::limits::CAPTURE_INTERFACES_MAX;

/// The section that is being read.
#[derive(Debug)]
pub(super) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: LinkType,
    /// Packets are cut to that; 0: they are not.
    snap_len: u32,
    /// The resolution, in the option's own form.
    resolution: u8,
    offset_s: i64,
}

impl Section {
    /// Reads the first block, which begins with `head`. None: it is no section header.
    pub(super) fn first(head: &[u8; 12], input: &mut Input) -> Result<Option<Self>, Stop> {
        let [kind, len, magic] = [0, 4, 8].map(|at| head.get(at..).and_then(<[u8]>::first_chunk).copied());
        let (Some(SECTION), Some(len), Some(order)) = (kind, len, magic.and_then(order_of)) else { return Ok(None) };
        let section = Self::begin(order, order.u32(len), input)?;
        input.begin_record();
        Ok(Some(section))
    }

    /// Reads on in a section header, behind the word that tells the byte order.
    fn begin(order: Order, len: u32, input: &mut Input) -> Result<Self, Stop> {
        let len = block_len(len, SECTION_LEN_MIN)?;
        let mut version = [0; 2];
        input.read(&mut version)?;
        if order.u16(version) != 1 {
            return Stop::corrupt("a section of pcapng that is not of version 1");
        }
        // How long the section is may be left open; blocks tell that anyway.
        input.skip(u64::from(len) - u64::from(BLOCK_LEN_MIN) - 6)?;
        end_block(order, len, input)?;
        Ok(Self { order, interfaces: Vec::new() })
    }

    pub(super) fn next(&mut self, input: &mut Input, bytes: &mut Vec<u8>) -> Result<Frame, Stop> {
        loop {
            let mut words = [[0; 4]; 2];
            input.read(words.as_flattened_mut())?;
            let [kind, len] = words;
            if kind == SECTION {
                let mut magic = [0; 4];
                input.read(&mut magic)?;
                let Some(order) = order_of(magic) else { return Stop::corrupt("a section without a byte order") };
                *self = Self::begin(order, order.u32(len), input)?;
                input.begin_record();
                continue;
            }
            let len = block_len(self.order.u32(len), BLOCK_LEN_MIN.into())?;
            let body_len = len - BLOCK_LEN_MIN;
            let kind = self.order.u32(kind);
            match kind {
                INTERFACE | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => input.read_body(body_len, bytes)?,
                _ => input.skip(body_len.into())?,
            }
            end_block(self.order, len, input)?;
            let frame = match kind {
                INTERFACE => {
                    self.describe(bytes)?;
                    None
                }
                SIMPLE_PACKET => Some(self.simple(body_len, bytes)?),
                OBSOLETE_PACKET | ENHANCED_PACKET => Some(self.packet(kind, body_len, bytes)?),
                _ => None,
            };
            input.begin_record();
            if let Some(frame) = frame {
                return Ok(frame);
            }
        }
    }

    /// Takes note of an interface.
    fn describe(&mut self, body: &[u8]) -> Result<(), Stop> {
        let (Some(link), Some(snap_len)) = (self.order.u16_at(body, 0), self.order.u32_at(body, 4)) else {
            return Stop::corrupt("an interface's block is shorter than its header");
        };
        if self.interfaces.len() == CAPTURE_INTERFACES_MAX {
            return Stop::corrupt("a section describes more than 4096 interfaces");
        }
        let mut interface = Interface { link: LinkType(link), snap_len, resolution: MICROSECONDS, offset_s: 0 };
        let mut rest = body.get(8..).unwrap_or_default();
        while let Some((head, values)) = rest.split_first_chunk::<4>() {
            let [code, len] = [0, 2].map(|at| self.order.u16_at(head, at).unwrap_or_default());
            if code == OPTIONS_END {
                break;
            }
            let Some(value) = values.get(..usize::from(len)) else { break };
            match (code, value) {
                (TS_RESOLUTION, [resolution]) => interface.resolution = *resolution,
                (TS_OFFSET, value) => {
                    interface.offset_s = value.try_into().map_or(0, |value| self.order.i64(value));
                }
                _ => {}
            }
            rest = values.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// An enhanced or obsolete packet block: leaves its packet in `body`.
    fn packet(&self, kind: u32, body_len: u32, body: &mut Vec<u8>) -> Result<Frame, Stop> {
        let order = self.order;
        let interface = match kind {
            ENHANCED_PACKET => order.u32_at(body, 0),
            _ => order.u16_at(body, 0).map(u32::from),
        };
        let words = [4, 8, 12, 16].map(|at| order.u32_at(body, at));
        let (Some(interface), [Some(upper), Some(lower), Some(len), Some(original_len)]) = (interface, words) else {
            return Stop::corrupt("a packet block is shorter than its header");
        };
        let interface = self.interface(interface)?;
        if len > body_len - PACKET_HEADER_LEN {
            return Stop::corrupt("a packet is longer than its block");
        }
        body.drain(..PACKET_HEADER_LEN as usize);
        // Not all of a very long packet has been kept.
        let is_cut = len < original_len || len as usize > body.len();
        body.truncate(len as usize);
        let ts_ns = Some(interface.unix_ns(u64::from(upper) << 32 | u64::from(lower)));
        Ok(Frame { ts_ns, link: interface.link, is_cut })
    }

    /// A simple packet block, which is of the first interface, and tells no time.
    fn simple(&self, body_len: u32, body: &mut Vec<u8>) -> Result<Frame, Stop> {
        let Some(original_len) = self.order.u32_at(body, 0) else {
            return Stop::corrupt("a packet block is shorter than its header");
        };
        let interface = self.interface(0)?;
        let snap_len = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
        let len = original_len.min(snap_len).min(body_len - SIMPLE_HEADER_LEN);
        body.drain(..SIMPLE_HEADER_LEN as usize);
        let is_cut = len < original_len || len as usize > body.len();
        body.truncate(len as usize);
        Ok(Frame { ts_ns: None, link: interface.link, is_cut })
    }

    fn interface(&self, number: u32) -> Result<&Interface, Stop> {
        match self.interfaces.get(number as usize) {
            Some(interface) => Ok(interface),
            None => Stop::corrupt("a packet of an interface that was not described"),
        }
    }
}

impl Interface {
    /// A time in this interface's own units. The uppermost bit of their option tells powers of two from powers of ten.
    fn unix_ns(&self, units: u64) -> u64 {
        let (units, exponent) = (u128::from(units), u32::from(self.resolution & 0x7f));
        let ns = match (self.resolution & 0x80 == 0, exponent.checked_sub(9)) {
            (true, None) => units * 10_u128.pow(9 - exponent),
            // Finer units than 64 bits can count are below a nanosecond.
            (true, Some(finer)) => 10_u128.checked_pow(finer).map_or(0, |units_per_ns| units / units_per_ns),
            (false, _) => (units * 1_000_000_000) >> exponent,
        };
        let ns = i128::try_from(ns).unwrap_or(i128::MAX).saturating_add(i128::from(self.offset_s) * 1_000_000_000);
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// A block's length with its padding, which some leave out.
fn block_len(len: u32, len_min: u64) -> Result<u32, Stop> {
    if u64::from(len) < len_min {
        return Stop::corrupt("a block is shorter than its header");
    }
    Ok(believed(len)?.next_multiple_of(4))
}

/// Reads the length at a block's end.
fn end_block(order: Order, len: u32, input: &mut Input) -> Result<(), Stop> {
    let mut again = [0; 4];
    input.read(&mut again)?;
    // Without its padding, too.
    if len.wrapping_sub(order.u32(again)) >= 4 {
        return Stop::corrupt("a block's two lengths contradict each other");
    }
    Ok(())
}

/// What the first word of a section header says.
fn order_of(magic: [u8; 4]) -> Option<Order> {
    match u32::from_be_bytes(magic) {
        0x1a2b_3c4d => Some(Order { is_big: true }),
        0x4d3c_2b1a => Some(Order { is_big: false }),
        _ => None,
    }
}

/// The type of a section header, which is the same in both byte orders.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const OPTIONS_END: u16 = 0;
const TS_RESOLUTION: u16 = 9;
const TS_OFFSET: u16 = 14;
/// The resolution of times where no option says it.
const MICROSECONDS: u8 = 6;
const BLOCK_LEN_MIN: u32 = 12;
const SECTION_LEN_MIN: u64 = 28;
const PACKET_HEADER_LEN: u32 = 20;
const SIMPLE_HEADER_LEN: u32 = 4;
