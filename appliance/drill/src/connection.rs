//! An established connection whose packets a lane sends and takes, and what an engine does around it.

use std::net::{Ipv6Addr, SocketAddr};

use fanblade_abi::lane::checksum::{fold, sum};
use fanblade_abi::lane::segment::is_sum_right;
use fanblade_abi::lane::send::{self, Item, Refusal};
use fanblade_abi::lane::{Drop, Header, Lane, Outcome, Path, Reason, Seq};
use fanblade_abi::packet::{Bytes, Segment};
use fanblade_net::lanes::handover::{self, Kept};
use fanblade_net::lanes::history::History;
use fanblade_net::lanes::shared::Shared;

use crate::numbers::Question;
use crate::wire::{echo, stream};

/// A lane, alone in its table.
#[derive(Debug)]
pub struct Connection {
    lanes: Shared<Lane>,
    kept: Kept,
    path: Path,
    history: History,
    /// The place of the newest item.
    newest: u32,
    /// The numbers of the first byte of the blade and of the client's SYN.
    first: Seq,
    client_first: Seq,
    /// Bytes of the stream that were given to the lane and taken.
    written: u32,
    /// The first piece that found the client's window shut, and since when.
    shut: Option<(u32, u64)>,
    /// TSecr of the newest packet that has timestamps.
    echoed: u32,
    readable: u32,
    held: u32,
    bad_sums: u32,
    dropped: [u32; 3],
}

/// Frames to send.
pub type Frames = Vec<Vec<u8>>;

/// The application has more than the client's window has room for; after this long the lane is raised, in nanoseconds.
const SHUT_MAX_NS: u64 = 200_000_000;
/// Items that the history holds: more than a script sends.
const ITEMS: usize = 4_096;

impl Connection {
    /// A lane that has just been lowered. `first`: the number of the stream's first byte. `client_first`: of the SYN.
    #[must_use]
    pub fn new(lane: Lane, kept: Kept, path: Path, first: Seq, client_first: Seq) -> Connection {
        let mut lanes = Shared::owned(1);
        lanes.set(0, lane);
        Connection {
            lanes,
            kept,
            path,
            history: History::new(Shared::owned(ITEMS)),
            newest: Item::NONE,
            first,
            client_first,
            written: 0,
            shut: None,
            echoed: 0,
            readable: 0,
            held: 0,
            bad_sums: 0,
            dropped: [0; 3],
        }
    }

    /// The number of the stream's first byte.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The client's address and port.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        let sending = self.lane().sending;
        (Ipv6Addr::from(sending.client).to_canonical(), sending.client_port).into()
    }

    /// Are these the addresses and ports of this connection's client?
    #[must_use]
    pub fn is_from_client(&self, segment: &Segment) -> bool {
        let lane = self.lane();
        (segment.src, segment.src_port) == (lane.sending.client, lane.sending.client_port)
            && (segment.dst, segment.dst_port) == (self.path.blade, self.path.blade_port)
    }

    /// Takes a frame of the client, as the receiving program does, and returns what is sent because of it.
    pub fn take(&mut self, frame: &[u8], segment: &Segment, now_ns: u64) -> Frames {
        let mut lane = self.lane();
        if lane.receiving.raised != 0 {
            self.held += 1;
            return Frames::new();
        }
        let Some(header) = self.read(frame, segment) else {
            self.bad_sums += 1;
            return Frames::new();
        };
        let outcome = lane.receive(&header, millis(now_ns), now_ns);
        match outcome {
            Outcome::Taken | Outcome::Answer => {}
            Outcome::Data { len } => {
                lane.receiving.received(len);
                self.readable += len;
            }
            Outcome::Drop(drop) => self.dropped[of_drop(drop)] += 1,
            Outcome::Raise(_) => self.held += 1,
        }
        self.lanes.set(0, lane);
        if self.shut.is_some_and(|(len, _)| lane.admit(GENERATION, lane.sending.snd_nxt, len).is_ok()) {
            self.shut = None;
        }
        let is_answer_due = outcome.is_answered() || matches!(outcome, Outcome::Data { .. });
        if is_answer_due { vec![self.frame(0, now_ns)] } else { Frames::new() }
    }

    /// The header, if the checksum is right.
    fn read(&self, frame: &[u8], segment: &Segment) -> Option<Header> {
        let (at, len) = (segment.tcp_at as usize, segment.tcp_len() as usize);
        let field: [u8; 2] = frame.read(at + 16)?;
        let is_right = is_sum_right(segment, sum(frame.get(at..at + len)?), u16::from_ne_bytes(field), false);
        Header::read(frame, segment).filter(|_| is_right)
    }

    /// Sends the stream's next bytes, as many as the lane takes, and returns how many those are.
    pub fn write(&mut self, len: u32, now_ns: u64) -> (u32, Frames) {
        let (mut frames, mut taken) = (Frames::new(), 0);
        while taken < len {
            let lane = self.lane();
            let piece = (len - taken).min(u32::from(lane.sending.mss));
            let Some(place) = self.history.push(self.item(&lane, piece)) else { break };
            self.newest = place;
            match lane.admit(GENERATION, lane.sending.snd_nxt, piece) {
                Ok(()) => {
                    frames.push(self.frame(piece, now_ns));
                    self.history.set_outcome(place, Item::SENT);
                    taken += piece;
                }
                Err(refusal) => {
                    self.history.set_outcome(place, refusal as u16);
                    if refusal == Refusal::Window && self.shut.is_none() {
                        self.shut = Some((piece, now_ns));
                    }
                    break;
                }
            }
        }
        self.history.end_pass(u64::from(self.written), now_ns);
        (taken, frames)
    }

    fn item(&self, lane: &Lane, len: u32) -> Item {
        Item {
            // A place in the stream: it is what the bytes are found by again.
            slot: self.written,
            seq: lane.sending.snd_nxt,
            previous: self.newest,
            len: u16::try_from(len).unwrap_or(u16::MAX),
            generation: GENERATION,
            outcome: Item::WAITING,
            ..Item::default()
        }
    }

    /// Makes the lane's next packet.
    fn frame(&mut self, len: u32, now_ns: u64) -> Vec<u8> {
        let mut lane = self.lane();
        let payload = stream(self.written, len);
        let mut frame = Frame(vec![0; send::headers_len(&self.path, &lane.sending)]);
        let told = send::headers(&mut frame, &lane, &self.path, len, fold(sum(&payload)), millis(now_ns));
        frame.0.extend_from_slice(&payload);
        lane.sent(told, len, send::packet_len(&self.path, &lane.sending, len));
        self.lanes.set(0, lane);
        self.written += len;
        self.echoed = echo(&frame.0).unwrap_or(self.echoed);
        frame.0
    }

    /// Raises the lane for a reason that it has not itself.
    pub fn raise(&mut self, reason: Reason) {
        let mut lane = self.lane();
        if lane.receiving.raised == 0 {
            lane.receiving.raised = reason as u8;
            self.lanes.set(0, lane);
        }
    }

    /// Does anything happen as time goes by?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.lane().receiving.raised == 0 && (!self.history.is_empty() || self.shut.is_some())
    }

    /// What an engine does at each turn: looks for what has waited too long.
    pub fn look(&mut self, now_ns: u64) {
        let mut due = None;
        self.history.look(now_ns, &self.lanes, &mut |_, reason| due = Some(reason));
        let _ = self.history.release();
        if due.is_none() && self.shut.is_some_and(|(_, since_ns)| now_ns - since_ns >= SHUT_MAX_NS) {
            due = Some(Reason::WindowShut);
        }
        if let Some(reason) = due {
            self.raise(reason);
        }
    }

    /// The application reads at most so many bytes.
    pub fn read_bytes(&mut self, max: u32) -> u32 {
        let count = self.readable.min(max);
        self.readable -= count;
        count
    }

    /// Sets the most bytes in flight.
    pub fn set_in_flight_max(&mut self, bytes: u32) {
        let mut lane = self.lane();
        lane.sending.in_flight_max = bytes;
        self.lanes.set(0, lane);
    }

    /// The client's newest timestamp is not known: a socket does not tell it, unless the kernel's own is read.
    pub fn forget_timestamp(&mut self) {
        let mut lane = self.lane();
        (lane.receiving.ts_recent, lane.receiving.has_ts_recent) = (0, 0);
        self.lanes.set(0, lane);
    }

    /// Answers a script.
    ///
    /// # Panics
    /// If what is in flight is not in the history: the script has failed.
    #[must_use]
    pub fn ask(&self, question: Question) -> u32 {
        let lane = self.lane();
        let receiving = &lane.receiving;
        // What a socket gets.
        let socket = handover::connection(&lane, &self.path, self.kept);
        match question {
            Question::Raised => u32::from(receiving.raised),
            // The SYN has the number before the first byte.
            Question::SndUna => socket.snd_una.since(self.first).wrapping_add(1),
            Question::SndNxt => socket.snd_nxt.since(self.first).wrapping_add(1),
            Question::RcvNxt => socket.rcv_nxt.since(self.client_first),
            Question::Echoed => self.echoed,
            Question::Window => socket.windows.snd_wnd,
            Question::TsRecent => receiving.ts_recent,
            Question::Unacknowledged => self.unacknowledged(&lane),
            Question::Held => self.held,
            Question::Duplicates => u32::from(receiving.duplicates),
            Question::Timeout => receiving.timeout_ms(),
            Question::Readable => self.readable,
            Question::BadSums => self.bad_sums,
            Question::ResetsOutside => self.dropped[of_drop(Drop::ResetOutside)],
            Question::TooOld => self.dropped[of_drop(Drop::TooOld)],
            Question::WithoutAck => self.dropped[of_drop(Drop::NoAck)],
        }
    }

    /// What the socket gets as its send queue: the stream from `snd_una` to `snd_nxt`, in pieces without a gap.
    fn unacknowledged(&self, lane: &Lane) -> u32 {
        let (una, nxt) = (lane.receiving.snd_una, lane.sending.snd_nxt);
        let pieces = self.history.in_flight(self.newest, una, nxt).expect("what is in flight is in the history");
        let mut next = una.since(self.first);
        for piece in pieces {
            assert_eq!(piece.slot + u32::from(piece.skip), next, "the next piece in flight");
            next = piece.slot + u32::from(piece.len);
        }
        assert_eq!(next, nxt.since(self.first), "the end of what is in flight");
        nxt.since(una)
    }

    fn lane(&self) -> Lane {
        self.lanes.get(0)
    }
}

struct Frame(Vec<u8>);

impl send::Put for Frame {
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        self.0[offset..offset + N].copy_from_slice(&bytes);
    }
}

/// The lane's generation: it is the first one of its entry.
pub const GENERATION: u16 = 1;

fn of_drop(drop: Drop) -> usize {
    match drop {
        Drop::ResetOutside => 0,
        Drop::TooOld => 1,
        Drop::NoAck => 2,
    }
}

/// The clock of timestamps, in milliseconds; it wraps.
#[expect(clippy::cast_possible_truncation, reason = "it wraps")]
#[must_use]
pub fn millis(now_ns: u64) -> u32 {
    (now_ns / 1_000_000) as u32
}
