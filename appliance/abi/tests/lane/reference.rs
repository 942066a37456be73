//! A TCP end that is slow and plain, but right: what the client is, and what the blade's end is while it is raised.
//!
//! It keeps whole streams in memory: `sent_stream` from the first byte that it ever said, and all that it has read.

use std::collections::BTreeMap;

use fanblade_abi::lane::Seq;
use fanblade_abi::packet::{ACK, PSH, RST};

use crate::frames::Segment;

#[derive(Debug)]
pub(crate) struct Reference {
    /// All bytes that the application has said so far; the first one has this number.
    pub(crate) stream: Vec<u8>,
    pub(crate) first: Seq,
    pub(crate) snd_una: Seq,
    pub(crate) snd_nxt: Seq,
    /// The other side's window in bytes.
    pub(crate) window: u32,
    pub(crate) scale: u8,
    /// All bytes that have been received in order.
    pub(crate) received: Vec<u8>,
    pub(crate) rcv_nxt: Seq,
    beyond: BTreeMap<usize, Vec<u8>>,
    /// How many of the received bytes the application has read.
    pub(crate) read: usize,
    pub(crate) buffer_len: usize,
    pub(crate) own_scale: u8,
    /// The right edge of the window that was offered: bytes from the stream's start.
    pub(crate) offered: usize,
    pub(crate) ts_offset: u32,
    pub(crate) ts_recent: u32,
    pub(crate) has_timestamps: bool,
    pub(crate) has_sack: bool,
    acked: Seq,
    answer_at_ms: Option<u32>,
    unanswered: u32,
    again_at_ms: Option<u32>,
    backoff: u32,
    duplicates: u32,
    /// Resets that it had reason to send: none may ever be.
    pub(crate) resets: u32,
    pub(crate) out: Vec<Segment>,
}

pub(crate) const MSS: usize = 1_000;
const AGAIN_MS: u32 = 250;
const ANSWER_MS: u32 = 40;

impl Reference {
    pub(crate) fn new(first: Seq, other_first: Seq, has_timestamps: bool, has_sack: bool) -> Reference {
        Reference {
            stream: Vec::new(),
            first,
            snd_una: first,
            snd_nxt: first,
            window: 0,
            scale: 4,
            received: Vec::new(),
            rcv_nxt: other_first,
            beyond: BTreeMap::new(),
            read: 0,
            buffer_len: 20_000,
            own_scale: 4,
            offered: 0,
            ts_offset: 0,
            ts_recent: 0,
            has_timestamps,
            has_sack,
            acked: other_first,
            answer_at_ms: None,
            unanswered: 0,
            again_at_ms: None,
            backoff: 0,
            duplicates: 0,
            resets: 0,
            out: Vec::new(),
        }
    }

    /// Says what fits into the window, and what has become due.
    pub(crate) fn turn(&mut self, now_ms: u32) {
        loop {
            let (from, in_flight) = (self.snd_nxt.since(self.first) as usize, self.snd_nxt.since(self.snd_una));
            let room = self.window.saturating_sub(in_flight) as usize;
            let len = (self.stream.len() - from).min(MSS).min(room);
            if len == 0 {
                break;
            }
            self.say(self.snd_nxt, len, now_ms);
            self.snd_nxt = self.snd_nxt.plus(u32::try_from(len).unwrap());
            self.again_at_ms.get_or_insert(now_ms + AGAIN_MS);
        }
        let waits = self.snd_una != self.snd_nxt || self.stream.len() > self.snd_nxt.since(self.first) as usize;
        if waits {
            let due_ms = *self.again_at_ms.get_or_insert(now_ms + AGAIN_MS);
            if due_ms <= now_ms {
                self.backoff = (self.backoff + 1).min(3);
                self.say_first_again(now_ms);
                self.again_at_ms = Some(now_ms + (AGAIN_MS << self.backoff));
            }
        } else {
            self.again_at_ms = None;
        }
        if self.answer_at_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.answer(now_ms);
        }
    }

    /// The first bytes that are not acknowledged, or a probe of a window that is shut.
    fn say_first_again(&mut self, now_ms: u32) {
        let from = self.snd_una.since(self.first) as usize;
        let len = (self.stream.len() - from).min(MSS).min((self.window as usize).max(1));
        self.say(self.snd_una, len, now_ms);
        let end = self.snd_una.plus(u32::try_from(len).unwrap());
        if end.is_after(self.snd_nxt) {
            self.snd_nxt = end;
        }
    }

    fn say(&mut self, seq: Seq, len: usize, now_ms: u32) {
        let from = seq.since(self.first) as usize;
        let payload = self.stream[from..from + len].to_vec();
        let flags = if len > 0 { PSH | ACK } else { ACK };
        let window = (self.buffer_len + self.read).saturating_sub(self.received.len()) >> self.own_scale;
        let window = window.min(usize::from(u16::MAX));
        self.offered = self.offered.max(self.received.len() + (window << self.own_scale));
        let sack = if self.has_sack { self.blocks() } else { Vec::new() };
        self.out.push(Segment {
            seq,
            ack: self.rcv_nxt,
            flags,
            window: u16::try_from(window).unwrap(),
            timestamps: self.has_timestamps.then_some((now_ms.wrapping_add(self.ts_offset), self.ts_recent)),
            sack,
            payload,
        });
        self.acked = self.rcv_nxt;
        (self.answer_at_ms, self.unanswered) = (None, 0);
    }

    pub(crate) fn answer(&mut self, now_ms: u32) {
        self.say(self.snd_nxt, 0, now_ms);
    }

    fn blocks(&self) -> Vec<(u32, u32)> {
        let base = self.rcv_nxt.0.wrapping_sub(u32::try_from(self.received.len()).unwrap());
        let edge = |at: usize| base.wrapping_add(u32::try_from(at).unwrap());
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for (&at, bytes) in &self.beyond {
            match blocks.last_mut() {
                Some(last) if at <= last.1 => last.1 = last.1.max(at + bytes.len()),
                _ => blocks.push((at, at + bytes.len())),
            }
        }
        blocks.into_iter().take(3).map(|(from, to)| (edge(from), edge(to))).collect()
    }

    /// Takes a segment of the other side.
    pub(crate) fn take(&mut self, segment: &Segment, now_ms: u32) {
        if segment.flags & RST != 0 {
            self.resets += 1;
            return;
        }
        let offset = segment.seq.since(self.rcv_nxt).cast_signed();
        if let Some((value, _)) = segment.timestamps {
            if Seq(value).is_before(Seq(self.ts_recent)) && !segment.payload.is_empty() {
                self.answer(now_ms);
                return;
            }
            if !segment.seq.is_after(self.acked) && Seq(value).is_after(Seq(self.ts_recent)) {
                self.ts_recent = value;
            }
        }
        if segment.ack.is_after(self.snd_nxt) {
            // Only a broken peer acknowledges what was never sent.
            self.resets += 1;
            return;
        }
        self.take_acknowledgement(segment, now_ms);
        if segment.payload.is_empty() {
            if offset < 0 {
                self.answer(now_ms);
            }
            return;
        }
        let at = i64::try_from(self.received.len()).unwrap() + i64::from(offset);
        let end = at + i64::try_from(segment.payload.len()).unwrap();
        if end <= i64::try_from(self.received.len()).unwrap() {
            // All of it is here already: the other side missed that we said so.
            self.answer(now_ms);
            return;
        }
        let room_end = self.read + self.buffer_len;
        let payload = &segment.payload[usize::try_from(-at.min(0)).unwrap()..];
        let at = usize::try_from(at.max(0)).unwrap();
        let payload = &payload[..payload.len().min(room_end.saturating_sub(at))];
        if !payload.is_empty() {
            self.beyond
                .entry(at)
                .and_modify(|old| {
                    if old.len() < payload.len() {
                        *old = payload.to_vec();
                    }
                })
                .or_insert_with(|| payload.to_vec());
        }
        let before = self.received.len();
        self.join();
        self.rcv_nxt = self.rcv_nxt.plus(u32::try_from(self.received.len() - before).unwrap());
        self.unanswered += 1;
        let is_in_order = offset == 0 && self.beyond.is_empty();
        if is_in_order && self.unanswered < 2 {
            self.answer_at_ms.get_or_insert(now_ms + ANSWER_MS);
        } else {
            self.answer(now_ms);
        }
    }

    /// Moves what has become contiguous to the received bytes; what overlaps must be the same.
    fn join(&mut self) {
        while let Some((&at, _)) = self.beyond.first_key_value() {
            if at > self.received.len() {
                return;
            }
            let (at, bytes) = self.beyond.remove_entry(&at).unwrap();
            let known = (self.received.len() - at).min(bytes.len());
            assert_eq!(self.received[at..at + known], bytes[..known], "the same bytes were sent differently");
            self.received.extend_from_slice(&bytes[known..]);
        }
    }

    fn take_acknowledgement(&mut self, segment: &Segment, now_ms: u32) {
        if segment.ack.is_before(self.snd_una) {
            return;
        }
        let window = u32::from(segment.window) << self.scale;
        if segment.ack.is_after(self.snd_una) {
            self.snd_una = segment.ack;
            (self.backoff, self.duplicates) = (0, 0);
            self.again_at_ms = (self.snd_una != self.snd_nxt).then_some(now_ms + AGAIN_MS);
        } else if segment.payload.is_empty() && window == self.window && self.snd_una != self.snd_nxt {
            self.duplicates += 1;
            if self.duplicates == 3 {
                self.say_first_again(now_ms);
            }
        }
        self.window = window;
    }

    /// The application reads `len` bytes. A window that was shut is opened with words.
    pub(crate) fn read(&mut self, len: usize, now_ms: u32) {
        let was_shut = self.read + self.buffer_len < self.received.len() + MSS;
        self.read = (self.read + len).min(self.received.len());
        if was_shut && self.read + self.buffer_len >= self.received.len() + MSS {
            self.answer(now_ms);
        }
    }

    /// Nothing is on its way to the other side, and nothing waits for a byte before it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.snd_una == self.snd_nxt
            && self.snd_nxt.since(self.first) as usize == self.stream.len()
            && self.beyond.is_empty()
    }
}
