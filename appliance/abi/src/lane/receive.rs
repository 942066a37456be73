//! What the client sends to a lane.

use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

use super::segment::{Header, Options};
use super::{Lane, Receiving, Sending, Seq};
use crate::packet::{ACK, CWR, ECE, FIN, RST, SYN, URG};

/// What becomes of a packet of a lane's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The lane has taken what it says. It carries nothing else: drop it.
    Taken,
    /// The lane has taken what it says, and it carries the next `len` bytes. When userspace has got them, call
    /// [`Receiving::received`]; if it cannot get them now, drop the packet, and the client sends it again.
    Data {
        /// Bytes of payload, at most [`DATA_LEN_MAX`].
        len: u32,
    },
    /// The client has to be told again where we are: it repeats what we have, asks whether we live, or is beyond our
    /// window. An acknowledgement is due; drop the packet.
    Answer,
    /// Nothing in it may be believed: drop it. [`Outcome::is_answered`] says whether an acknowledgement is due.
    Drop(Drop),
    /// Only Linux deals with this: the packet goes to userspace as it is, and so does every packet after it.
    Raise(Reason),
}

impl Outcome {
    /// Does the client get an acknowledgement at once, and nothing else happens?
    #[inline(always)]
    #[must_use]
    pub const fn is_answered(self) -> bool {
        matches!(self, Outcome::Answer | Outcome::Drop(Drop::TooOld))
    }
}

/// Why a packet is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// A reset outside the window (RFC 5961, 3.2).
    ResetOutside,
    /// An acknowledgement older than the largest window: it is answered (RFC 5961, 5.2).
    TooOld,
    /// Without the flag ACK, which every segment of an established connection has (RFC 9293, 3.10.7.4).
    NoAck,
}

/// Why a lane is raised to a kernel socket.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Userspace wants it: more to send than a lane is good for, an end, a change of the path.
    Asked = 1,
    /// The client ends its side.
    Fin,
    /// The client resets the connection, within the window.
    Reset,
    /// A SYN on an established connection (RFC 5961, 4.2).
    Syn,
    /// Urgent data.
    Urgent,
    /// A router or the client speaks of congestion (RFC 3168).
    Congestion,
    /// The third duplicate acknowledgement (RFC 5681).
    Duplicates,
    /// Selective acknowledgements: something is missing there.
    Sack,
    /// An acknowledgement of what was never sent.
    AckOfUnsent,
    /// A timestamp older than the newest (RFC 7323, 5).
    OldTimestamp,
    /// Options that a lane does not know, or none where timestamps were agreed on.
    Options,
    /// Data after a gap.
    OutOfOrder,
    /// Data that begins with what we have.
    Overlap,
    /// More data at once than a lane takes.
    LongData,
    /// Nothing was acknowledged for the retransmission timeout.
    Timeout,
    /// The client's window was shut for too long.
    WindowShut,
}

/// The longest payload that is taken on a lane, in bytes: pongs, pings and short requests. A client that says more is
/// at work, and is better served by a socket for a while.
pub const DATA_LEN_MAX: u32 = 1_024;

/// Duplicate acknowledgements that mean a loss (RFC 5681, 3.2).
pub const DUPLICATES_MAX: u8 = 3;

impl Lane {
    /// Takes one segment whose checksum is right. `now_ms`: the clock of timestamps. `now_ns`: `CLOCK_MONOTONIC`.
    #[inline(always)]
    #[must_use]
    pub fn receive(&mut self, header: &Header, now_ms: u32, now_ns: u64) -> Outcome {
        let outcome = self.receiving.receive(&self.sending, header, now_ms, now_ns);
        if let Outcome::Raise(reason) = outcome {
            self.receiving.raised = reason as u8;
        }
        outcome
    }
}

impl Receiving {
    #[inline(always)]
    fn receive(&mut self, sending: &Sending, header: &Header, now_ms: u32, now_ns: u64) -> Outcome {
        let (flags, offset) = (header.flags, header.seq.since(self.rcv_nxt));
        let window = u32::from(self.advertised) << self.own_scale;
        if flags & RST != 0 {
            // Exact or not, within the window it is Linux that ends the connection or challenges (RFC 5961, 3.2).
            let is_inside = offset < window || offset == 0;
            return if is_inside { Outcome::Raise(Reason::Reset) } else { Outcome::Drop(Drop::ResetOutside) };
        }
        if flags & SYN != 0 {
            return Outcome::Raise(Reason::Syn);
        }
        if flags & ACK == 0 {
            return Outcome::Drop(Drop::NoAck);
        }
        // The number first (RFC 9293, 3.10.7.4): who does not know it raises nothing by an odd flag or option.
        if offset != 0 {
            return out_of_place(header, offset, window);
        }
        if let Some(reason) = unusual(sending, header) {
            return Outcome::Raise(reason);
        }
        if let Options::Timestamps { value, .. } = header.options
            && self.has_ts_recent != 0
            && Seq(value).is_before(Seq(self.ts_recent))
        {
            // Overtaken on its way (as Linux judges, `tcp_disordered_ack`), or of an old connection (PAWS).
            let says_nothing = header.payload_len == 0 && flags & FIN == 0 && !header.ack.is_after(self.snd_una);
            return if says_nothing { Outcome::Taken } else { Outcome::Raise(Reason::OldTimestamp) };
        }
        if flags & FIN != 0 {
            return Outcome::Raise(Reason::Fin);
        }
        if header.payload_len > DATA_LEN_MAX {
            return Outcome::Raise(Reason::LongData);
        }
        if let Some(outcome) = self.acknowledge(sending, header, now_ms, now_ns) {
            return outcome;
        }
        self.taken_ns = now_ns;
        if header.payload_len > window {
            return Outcome::Answer;
        }
        if header.payload_len > 0 { Outcome::Data { len: header.payload_len } } else { Outcome::Taken }
    }

    /// Userspace has got the next `len` bytes.
    #[inline(always)]
    pub fn received(&mut self, len: u32) {
        self.rcv_nxt = self.rcv_nxt.plus(len);
    }

    /// The acknowledgement, the window and the timestamps of a segment that is in order. `None`: all is well.
    #[inline(always)]
    fn acknowledge(&mut self, sending: &Sending, header: &Header, now_ms: u32, now_ns: u64) -> Option<Outcome> {
        let snd_nxt = sending.snd_nxt;
        if header.ack.is_after(snd_nxt) {
            return Some(Outcome::Raise(Reason::AckOfUnsent));
        }
        let window = u32::from(header.window) << self.scale;
        if header.ack.is_before(self.snd_una) {
            if self.snd_una.since(header.ack) > self.window_max {
                return Some(Outcome::Drop(Drop::TooOld));
            }
            // Overtaken on its way: it says nothing new, and is no duplicate.
        } else if header.ack == self.snd_una {
            let is_duplicate = header.payload_len == 0 && window == self.window && snd_nxt != self.snd_una;
            if is_duplicate {
                self.duplicates += 1;
                if self.duplicates >= DUPLICATES_MAX {
                    return Some(Outcome::Raise(Reason::Duplicates));
                }
            }
            self.opened(window);
        } else {
            // The window first: a sender that sees the new `snd_una` sees the window that begins there.
            self.opened(window);
            compiler_fence(SeqCst);
            self.snd_una = header.ack;
            self.duplicates = 0;
            self.advanced_ns = now_ns;
            if let Options::Timestamps { echo, .. } = header.options {
                self.measured(now_ms.wrapping_add(sending.ts_offset).wrapping_sub(echo));
            }
        }
        if let Options::Timestamps { value, .. } = header.options
            && !header.seq.is_after(sending.acked)
        {
            (self.ts_recent, self.has_ts_recent) = (value, 1);
        }
        None
    }

    #[inline(always)]
    fn opened(&mut self, window: u32) {
        self.window = window;
        if window > self.window_max {
            self.window_max = window;
        }
    }

    /// Takes one measurement of the round-trip time, in milliseconds (RFC 6298, 2).
    #[inline(always)]
    pub fn measured(&mut self, rtt_ms: u32) {
        // A client's echo that cannot be: the clock was another, or the client lies.
        if rtt_ms > RTT_MAX_MS {
            return;
        }
        // A clock of milliseconds cannot tell zero from almost one.
        let rtt_ms = if rtt_ms == 0 { 1 } else { rtt_ms };
        if self.srtt == 0 {
            self.srtt = rtt_ms << 3;
            self.rttvar = rtt_ms << 1;
            return;
        }
        let smoothed = self.srtt >> 3;
        let distance = rtt_ms.abs_diff(smoothed);
        self.rttvar = self.rttvar - (self.rttvar >> 2) + distance;
        self.srtt = self.srtt - smoothed + rtt_ms;
    }

    /// The retransmission timeout (RFC 6298, 2.3, with Linux's lower bound of the spread), in milliseconds.
    #[must_use]
    pub fn timeout_ms(&self) -> u32 {
        if self.srtt == 0 {
            return TIMEOUT_UNMEASURED_MS;
        }
        let spread = if self.rttvar < TIMEOUT_SPREAD_MIN_MS { TIMEOUT_SPREAD_MIN_MS } else { self.rttvar };
        let timeout = (self.srtt >> 3) + spread;
        if timeout > TIMEOUT_MAX_MS { TIMEOUT_MAX_MS } else { timeout }
    }
}

/// Flags and options that say that not all is well.
#[inline(always)]
fn unusual(sending: &Sending, header: &Header) -> Option<Reason> {
    if header.flags & URG != 0 {
        return Some(Reason::Urgent);
    }
    if header.flags & (ECE | CWR) != 0 || header.reserved != 0 {
        return Some(Reason::Congestion);
    }
    match (header.options, sending.has(Sending::TIMESTAMPS)) {
        (Options::Timestamps { .. }, true) | (Options::None, false) => None,
        (Options::Sack, _) => Some(Reason::Sack),
        _ => Some(Reason::Options),
    }
}

/// A segment that does not begin where the last one ended. `offset`: how far after it; huge if before.
#[inline(always)]
fn out_of_place(header: &Header, offset: u32, window: u32) -> Outcome {
    let len = header.payload_len + u32::from(header.flags & FIN != 0);
    let before = offset.wrapping_neg();
    let is_before = offset >= 1 << 31;
    if is_before && len > before {
        return Outcome::Raise(Reason::Overlap);
    }
    if is_before || offset >= window {
        // Not acceptable (RFC 9293, 3.10.7.4): all of it is old, as a keep-alive probe is (one byte back, RFC 9293,
        // 3.8.4), or beyond our window. A late acknowledgement without data is no reason to answer.
        return if len == 0 && before != 1 { Outcome::Taken } else { Outcome::Answer };
    }
    Outcome::Raise(Reason::OutOfOrder)
}

/// A measured round-trip time beyond this is none, in milliseconds.
const RTT_MAX_MS: u32 = 60_000;
/// The timeout where nothing has been measured (RFC 6298, 2.1), in milliseconds.
pub const TIMEOUT_UNMEASURED_MS: u32 = 1_000;
/// The timeout is at least this much longer than the round-trip time, in milliseconds: a client may delay an
/// acknowledgement by so much (RFC 9293, 3.8.6.3, allows 500; Linux's `TCP_RTO_MIN` is 200, too).
pub const TIMEOUT_SPREAD_MIN_MS: u32 = 200;
/// The longest timeout, in milliseconds.
pub const TIMEOUT_MAX_MS: u32 = 120_000;
