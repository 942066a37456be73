//! The feed over a capture: its MoldUDP64 packets take the way that those of the network take.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::capture::Frame;
use super::{Capture, Datagram, Item, Skipped};
use crate::limits::{CAPTURE_FLOWS_MAX, CAPTURE_FLOWS_SHOWN_MAX, CAPTURE_SCAN_PACKETS_MAX, POLL_MESSAGES_MAX};
use crate::moldudp64::{Packet, Sequencer, Start};
use crate::pace::{Pace, Pacer};
use crate::{Event, Feed, FeedCounters, FeedError, Poll, Session, Trouble};

/// Plays the MoldUDP64 packets that a capture has for one destination. What it lacks is a gap; the first packet says
/// where the numbering begins.
#[derive(Debug)]
pub struct CaptureFeed {
    path: PathBuf,
    capture: Capture,
    flow: Flow,
    pacer: Pacer,
    sequencer: Sequencer,
    /// The packet in hand, and what the capture says of it if its turn has not come.
    bytes: Vec<u8>,
    pending: Option<Frame>,
    /// Packets that are of no interest, and those that are not whole.
    others: u64,
    cut: u64,
    malformed: u64,
    finished: bool,
}

/// What is played of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where its packets went.
    pub destination: SocketAddr,
    /// The session of the first.
    pub session: Session,
    /// When the first was captured, Unix nanoseconds.
    pub first_ns: u64,
    /// In words: other destinations of MoldUDP64 packets, from which this one was chosen; empty if there are none, or
    /// it was asked for.
    pub alternatives: String,
}

/// Why a capture cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is none.
    #[error("{} is no packet capture", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it to play.
    #[error("{} holds no MoldUDP64 packets{to}; {seen}", path.display())]
    NoPackets {
        /// The file.
        path: PathBuf,
        /// Where they were to go, if that was asked for.
        to: String,
        /// What there is, in words.
        seen: String,
    },
}

impl CaptureFeed {
    /// Whether a file is a capture, by its first bytes.
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
            sequencer: Sequencer::new(Start::Live),
            bytes: Vec::new(),
            pending: None,
            others: 0,
            cut: 0,
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
        let (others, cut) = (self.others, self.cut);
        if others + cut > 0 {
            let text = format!(
                "{}: {others} packets were none to {}, {cut} were not captured whole",
                self.path.display(),
                self.flow.destination
            );
            sink(Event::Trouble(Trouble::Told { kind: "capture_skipped", text: &text }));
        }
        Poll::Finished
    }
}

impl Feed for CaptureFeed {
    fn name(&self) -> &'static str {
        "pcap"
    }

    fn poll(&mut self, now_ns: u64, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        if self.finished {
            return Ok(Poll::Finished);
        }
        let messages_max = self.sequencer.counters().messages + POLL_MESSAGES_MAX as u64;
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
                    let due_ns = self.pacer.due_ns_at(frame.ts_ns, now_ns);
                    if due_ns > now_ns {
                        self.pending = Some(frame);
                        return Ok(Poll::IdleUntil(due_ns));
                    }
                    self.sequencer.accept(datagram.payload, now_ns, &mut *sink);
                }
                Ok(_) | Err(Skipped::NotUdp) => self.others += 1,
                Err(Skipped::Cut) => self.cut += 1,
            }
            if self.sequencer.counters().messages >= messages_max {
                break;
            }
        }
        Ok(Poll::Busy)
    }

    fn counters(&self) -> FeedCounters {
        let counters = *self.sequencer.counters();
        FeedCounters { malformed: counters.malformed + self.malformed, ..counters }
    }
}

fn open(path: &Path) -> Result<Capture, CaptureError> {
    match File::open(path).and_then(Capture::new) {
        Ok(Some(capture)) => Ok(capture),
        Ok(None) => Err(CaptureError::NotACapture { path: path.to_owned() }),
        Err(source) => Err(CaptureError::Read { path: path.to_owned(), source }),
    }
}

/// What a look at a capture found of one destination.
struct Seen {
    /// Session and time of the first MoldUDP64 packet.
    first: Option<(Session, u64)>,
    packets: u64,
    messages: u64,
}

/// Looks through a capture for what is to be played.
fn choose(path: &Path, wanted: Option<SocketAddr>) -> Result<Flow, CaptureError> {
    let mut capture = open(path)?;
    let mut seen = BTreeMap::<SocketAddr, Seen>::new();
    let (mut bytes, mut others, mut datagrams) = (Vec::new(), 0_u64, 0);
    loop {
        let frame = match capture.next(&mut bytes) {
            Ok(Item::Packet(frame)) => frame,
            Ok(Item::EndOfFile | Item::Malformed { .. }) => break,
            Err(source) => return Err(CaptureError::Read { path: path.to_owned(), source }),
        };
        let Ok(Datagram { destination, payload }) = Datagram::parse(&frame, &bytes) else {
            others += 1;
            continue;
        };
        let mold = inspect(payload);
        if let (true, Some((session, _))) = (wanted == Some(destination), mold) {
            return Ok(Flow { destination, session, first_ns: frame.ts_ns, alternatives: String::new() });
        }
        if seen.len() < CAPTURE_FLOWS_MAX || seen.contains_key(&destination) {
            let entry = seen.entry(destination).or_insert(Seen { first: None, packets: 0, messages: 0 });
            entry.first = entry.first.or(mold.map(|(session, _)| (session, frame.ts_ns)));
            entry.packets += 1;
            entry.messages += mold.map_or(0, |(_, messages)| messages);
        }
        datagrams += 1;
        if wanted.is_none() && datagrams >= CAPTURE_SCAN_PACKETS_MAX {
            break;
        }
    }
    let candidates = seen.iter().filter_map(|(&destination, seen)| Some((destination, seen.first?, seen)));
    // Heartbeats alone make many packets.
    let busiest = candidates.clone().max_by_key(|(_, _, seen)| (seen.messages, seen.packets));
    let Some((destination, (session, first_ns), _)) = busiest.filter(|_| wanted.is_none()) else {
        let seen = match seen.is_empty() {
            true => format!("there is no UDP among its {others} packets"),
            false => format!("its UDP packets go to {}", in_words(seen.iter().map(|(&to, seen)| (to, seen.packets)))),
        };
        let to = wanted.map_or(String::new(), |wanted| format!(" to {wanted}"));
        return Err(CaptureError::NoPackets { path: path.to_owned(), to, seen });
    };
    let alternatives = candidates.filter(|&(other, _, _)| other != destination);
    let alternatives = in_words(alternatives.map(|(to, _, seen)| (to, seen.packets)));
    Ok(Flow { destination, session, first_ns, alternatives })
}

/// Session and number of messages of a MoldUDP64 packet, if it is one.
fn inspect(payload: &[u8]) -> Option<(Session, u64)> {
    let packet = Packet::parse(payload).ok()?;
    let session = packet.session();
    let mut messages = 0;
    for message in packet.messages() {
        message.ok()?;
        messages += 1;
    }
    let is_text = session.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    is_text.then_some((session, messages))
}

/// Destinations, those with the most packets first.
fn in_words(flows: impl Iterator<Item = (SocketAddr, u64)>) -> String {
    let mut flows: Vec<_> = flows.collect();
    flows.sort_by_key(|&(_, packets)| std::cmp::Reverse(packets));
    let mut words = String::new();
    for (number, (destination, packets)) in flows.iter().enumerate() {
        if number == CAPTURE_FLOWS_SHOWN_MAX {
            words += " and others";
            break;
        }
        let separator = if number == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(words, "{separator}{destination} ({packets} packets)");
    }
    words
}
