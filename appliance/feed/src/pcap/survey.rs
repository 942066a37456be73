//! A look through a capture: what is to be played of it, or what there is instead.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::capture::open;
use super::error::CaptureError;
use super::link::LinkType;
use super::{Datagram, Item, Skipped};
use crate::limits::{CAPTURE_FLOWS_MAX, CAPTURE_FLOWS_SHOWN_MAX, CAPTURE_LINKS_MAX, CAPTURE_SCAN_PACKETS_MAX};
use crate::moldudp64::Packet;
use crate::{Session, UnixNs};

/// What is played of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where its packets went.
    pub destination: SocketAddr,
    /// The session of the first.
    pub session: Session,
    /// When the first was captured, Unix nanoseconds; none where the capture does not tell.
    pub first_ns: Option<UnixNs>,
    /// In words: other destinations of MoldUDP64 packets, from which this one was chosen; empty if there are none, or
    /// it was asked for.
    pub alternatives: String,
}

/// What was found of one destination.
#[derive(Debug, Default)]
struct Seen {
    /// Session and time of the first MoldUDP64 packet.
    first: Option<(Session, Option<UnixNs>)>,
    packets: u64,
    messages: u64,
}

/// Packets without a datagram, by the reason.
#[derive(Debug, Default)]
pub(super) struct Tally {
    tcp: u64,
    other_ip: u64,
    not_ip: u64,
    pub(super) cut: u64,
    pub(super) fragments: u64,
    pub(super) broken: u64,
    links: BTreeMap<LinkType, u64>,
    other_links: u64,
}

/// Looks through a capture for the packets that are to be played: those to `wanted`, or to the destination that most
/// messages among its first packets go to.
pub(super) fn choose(path: &Path, wanted: Option<SocketAddr>) -> Result<Flow, CaptureError> {
    let mut capture = open(path)?;
    let mut seen = BTreeMap::<SocketAddr, Seen>::new();
    let (mut bytes, mut tally, mut datagrams, mut end) = (Vec::new(), Tally::default(), 0, String::new());
    loop {
        let frame = match capture.next(&mut bytes) {
            Ok(Item::Packet(frame)) => frame,
            Ok(Item::EndOfFile) => break,
            Ok(Item::Malformed { offset, fault }) => {
                end = format!("; at byte {offset}: {fault}");
                break;
            }
            Err(source) => return Err(CaptureError::Read { path: path.to_owned(), source }),
        };
        let Datagram { destination, payload } = match Datagram::parse(&frame, &bytes) {
            Ok(datagram) => datagram,
            Err(why) => {
                tally.add(why);
                continue;
            }
        };
        let mold = inspect(payload);
        if let (true, Some((session, _))) = (wanted == Some(destination), mold) {
            return Ok(Flow { destination, session, first_ns: frame.ts_ns.map(UnixNs), alternatives: String::new() });
        }
        if seen.len() < CAPTURE_FLOWS_MAX || seen.contains_key(&destination) {
            let entry = seen.entry(destination).or_default();
            entry.first = entry.first.or(mold.map(|(session, _)| (session, frame.ts_ns.map(UnixNs))));
            entry.packets += 1;
            entry.messages += mold.map_or(0, |(_, messages)| messages);
        }
        datagrams += 1;
        if wanted.is_none() && datagrams >= CAPTURE_SCAN_PACKETS_MAX {
            end = format!("; only its first {datagrams} UDP packets were looked at");
            break;
        }
    }
    let candidates = seen.iter().filter_map(|(&destination, seen)| Some((destination, seen.first?, seen)));
    // Heartbeats alone make many packets.
    let busiest = candidates.clone().max_by_key(|(_, _, seen)| (seen.messages, seen.packets));
    let Some((destination, (session, first_ns), _)) = busiest.filter(|_| wanted.is_none()) else {
        let flows = in_words(seen.iter().map(|(&to, seen)| (to, seen.packets)));
        let to = wanted.map_or(String::new(), |wanted| format!(" to {wanted}"));
        let seen = tally.words(datagrams, &flows) + &end;
        return Err(CaptureError::NoPackets { path: path.to_owned(), to, seen });
    };
    let alternatives = candidates.filter(|&(other, _, _)| other != destination);
    let alternatives = in_words(alternatives.map(|(to, _, seen)| (to, seen.packets)));
    Ok(Flow { destination, session, first_ns, alternatives })
}

impl Tally {
    pub(super) fn add(&mut self, why: Skipped) {
        let count = match why {
            Skipped::Cut => &mut self.cut,
            Skipped::Fragment => &mut self.fragments,
            Skipped::Tcp => &mut self.tcp,
            Skipped::OtherIp => &mut self.other_ip,
            Skipped::NotIp => &mut self.not_ip,
            Skipped::Broken => &mut self.broken,
            Skipped::Link(link) if self.links.len() < CAPTURE_LINKS_MAX || self.links.contains_key(&link) => {
                self.links.entry(link).or_default()
            }
            Skipped::Link(_) => &mut self.other_links,
        };
        *count += 1;
    }

    /// Packets of which it is not known what they carry.
    fn unknown(&self) -> u64 {
        self.cut + self.fragments + self.broken + self.links.values().sum::<u64>() + self.other_links
    }

    /// All packets.
    pub(super) fn packets(&self) -> u64 {
        self.tcp + self.other_ip + self.not_ip + self.unknown()
    }

    /// What a capture holds; `flows`: where its UDP packets go.
    fn words(&self, datagrams: u64, flows: &str) -> String {
        let packets = datagrams + self.packets();
        let mut words = match (datagrams, self.unknown()) {
            (0, 0) => format!("there is no UDP among its {packets} packets"),
            (0, _) => format!("no UDP was found among its {packets} packets"),
            _ => format!("its UDP packets go to {flows}"),
        };
        let mut separator = if datagrams == 0 { ": " } else { "; besides there are: " };
        let mut tell = |count: u64, what: &str| {
            if count > 0 {
                // Writing to a string cannot fail.
                let _ = write!(words, "{separator}{count} {what}");
                separator = ", ";
            }
        };
        tell(self.tcp, "of TCP");
        tell(self.other_ip, "of other IP protocols");
        tell(self.not_ip, "that are not IP");
        tell(self.cut, "that were not captured whole (raise the snap length)");
        tell(self.fragments, "that are fragments, which are not put together");
        tell(self.broken, "with lengths that contradict each other");
        for (link, count) in &self.links {
            tell(*count, &format!("of {link}, which is not read"));
        }
        tell(self.other_links, "of further link types, which are not read");
        words
    }
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
        let _ = write!(words, "{separator}{destination} ({packets} packets)");
    }
    words
}
