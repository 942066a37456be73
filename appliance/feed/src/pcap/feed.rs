//! The feed over a capture: its MoldUDP64 packets take the way that those of the network take.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::capture::open;
use super::input::Frame;
use super::survey::{Tally, choose};
use super::{Capture, CaptureError, Datagram, Flow, Item};
use crate::limits::POLL_MESSAGES_MAX;
use crate::moldudp64::{InOrder, Start};
use crate::pace::{Pace, Pacer};
use crate::{Event, Feed, FeedCounters, FeedError, Poll, Trouble, UnixNs};

/// Plays the MoldUDP64 packets that a capture has for one destination. What it lacks is a gap; the first packet says
/// where the numbering begins.
#[derive(Debug)]
pub struct CaptureFeed {
    path: PathBuf,
    capture: Capture,
    flow: Flow,
    pacer: Pacer,
    in_order: InOrder,
    /// The packet in hand, and what the capture says of it if its turn has not come.
    bytes: Vec<u8>,
    pending: Option<Frame>,
    /// Packets that are of no interest, and those that are no datagrams.
    others: u64,
    tally: Tally,
    malformed: u64,
    finished: bool,
}

impl CaptureFeed {
    /// Is a file a capture? Its first bytes say so.
    pub fn recognises(path: &Path) -> bool {
        File::open(path).and_then(Capture::new).is_ok_and(|capture| capture.is_some())
    }

    /// Opens a capture and looks for the packets that are to be played: those to `destination`, or to the one that most
    /// messages among its first packets go to.
    ///
    /// # Errors
    /// The file cannot be read, is no capture, or holds no such packets.
    pub fn open(path: &Path, destination: Option<SocketAddr>, pace: Pace) -> Result<Self, CaptureError> {
        Ok(Self {
            path: path.to_owned(),
            flow: choose(path, destination)?,
            capture: open(path)?,
            pacer: Pacer::new(pace),
            in_order: InOrder::new(Start::Live),
            bytes: Vec::new(),
            pending: None,
            others: 0,
            tally: Tally::default(),
            malformed: 0,
            finished: false,
        })
    }

    /// What is played.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Poll {
        self.finished = true;
        let (path, to) = (self.path.display(), self.flow.destination);
        let Tally { cut, fragments, broken, .. } = self.tally;
        let others = self.others + self.tally.packets() - cut - fragments - broken;
        if others + cut + fragments + broken > 0 {
            let mut text = format!("{path}: {others} packets were none to {to}, {cut} were not captured whole");
            if fragments > 0 {
                text += &format!(", {fragments} are fragments, which are not put together");
            }
            if broken > 0 {
                text += &format!(", {broken} have lengths that contradict each other");
            }
            sink(Event::Trouble(Trouble::Told { kind: "capture_skipped", text: &text }));
        }
        if let Some(text) = self.capture.ignored_tail(&self.path) {
            sink(Event::Trouble(Trouble::Told { kind: "gzip_tail", text: &text }));
        }
        Poll::Finished
    }
}

impl Feed for CaptureFeed {
    fn name(&self) -> &'static str {
        "pcap"
    }

    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        if self.finished {
            return Ok(Poll::Finished);
        }
        let messages_max = self.in_order.counters().messages + POLL_MESSAGES_MAX as u64;
        for _ in 0..POLL_MESSAGES_MAX {
            let next = match self.pending.take() {
                Some(frame) => Ok(Item::Packet(frame)),
                None => self.capture.next(&mut self.bytes),
            };
            let frame = match next {
                Ok(Item::Packet(frame)) => frame,
                Ok(Item::EndOfFile) => return Ok(self.finish(sink)),
                Ok(Item::Malformed { offset, fault }) => {
                    self.malformed += 1;
                    sink(Event::Malformed { offset, reason: fault.into() });
                    return Ok(self.finish(sink));
                }
                Err(source) => return Err(CaptureError::Read { path: self.path.clone(), source }.into()),
            };
            match Datagram::parse(&frame, &self.bytes) {
                Ok(datagram) if datagram.destination == self.flow.destination => {
                    // What tells no time comes with what came before it.
                    let due_ns = frame.ts_ns.map_or(now_ns, |ts_ns| self.pacer.due_ns_at(ts_ns, now_ns));
                    if due_ns > now_ns {
                        self.pending = Some(frame);
                        return Ok(Poll::IdleUntil(due_ns));
                    }
                    self.in_order.accept(datagram.payload, now_ns, &mut *sink);
                }
                Ok(_) => self.others += 1,
                Err(why) => self.tally.add(why),
            }
            if self.in_order.counters().messages >= messages_max {
                break;
            }
        }
        Ok(Poll::Busy)
    }

    fn counters(&self) -> FeedCounters {
        let counters = *self.in_order.counters();
        FeedCounters { malformed: counters.malformed + self.malformed, ..counters }
    }
}
