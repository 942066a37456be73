//! What is played: messages, one after the other.

use std::fs::File;
use std::path::{Path, PathBuf};

use fanblade_feed::binaryfile::{Item, Reader};
use fanblade_feed::moldudp64::Packet;
use fanblade_feed::pace::Pace;
use fanblade_feed::simulator::{Simulator, SimulatorConfig};
use fanblade_feed::{CaptureFeed, Event, Feed as _, Poll, Session, UnixNs, itch, recording};
use zerocopy::FromBytes as _;

use super::error::ExchangeError;
use super::store::{self, Store, frame};
use super::tell::Tell;

/// A source of messages, and one look ahead.
#[derive(Debug)]
pub(super) struct Source {
    origin: Origin,
    /// Messages from the origin, each behind its length, and how far they are consumed.
    framed: Vec<u8>,
    consumed: usize,
    /// How many more messages are wanted.
    left: u64,
    tell: Tell,
}

#[derive(Debug)]
enum Origin {
    File { path: PathBuf, reader: Reader },
    Simulator(Box<Simulator>),
    Capture(Box<CaptureFeed>),
}

impl Source {
    /// A file, the store for its messages, and their session: a packet capture's own, or the first word of the file's
    /// name, as a blade calls it that plays the file.
    pub(super) fn file(path: &Path, messages_max: u64, tell: Tell) -> Result<(Self, Store, Session), ExchangeError> {
        if let Some(feed) = recording::capture(path, Pace::Unpaced)? {
            let flow = feed.flow();
            if !flow.alternatives.is_empty() {
                tell(format_args!("{}", recording::choice(&feed)));
            }
            let session = flow.session;
            return Ok((Self::new(Origin::Capture(Box::new(feed)), messages_max, tell), spilling()?, session));
        }
        // This says what is wrong with it.
        recording::file(path, Pace::Unpaced)?;
        let open = || File::open(path).map_err(|error| ExchangeError::Open { path: path.to_owned(), error });
        let reader = Reader::new(open()?).map_err(|error| ExchangeError::Read { path: path.to_owned(), error })?;
        let store = if reader.is_gzipped() { spilling()? } else { Store::over(open()?) };
        Ok((Self::new(Origin::File { path: path.to_owned(), reader }, messages_max, tell), store, session_of(path)))
    }

    /// A simulated market, and the store for its messages.
    pub(super) fn simulator(
        config: &SimulatorConfig,
        messages_max: u64,
        tell: Tell,
    ) -> Result<(Self, Store), ExchangeError> {
        let simulator = Simulator::new(config)?;
        Ok((Self::new(Origin::Simulator(Box::new(simulator)), messages_max, tell), spilling()?))
    }

    fn new(origin: Origin, messages_max: u64, tell: Tell) -> Self {
        Self { origin, framed: Vec::new(), consumed: 0, left: messages_max, tell }
    }

    /// The next message, which stays the next until it is consumed; none at the end.
    pub(super) fn peek(&mut self) -> Result<Option<&[u8]>, ExchangeError> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.consumed == self.framed.len() {
            self.consumed = 0;
            self.framed.clear();
            while self.framed.is_empty() {
                if !self.origin.refill(&mut self.framed, self.tell)? {
                    // The origin is not asked again: it may have told why it ended.
                    self.left = 0;
                    return Ok(None);
                }
            }
        }
        Ok(store::messages(self.framed.get(self.consumed..).unwrap_or_default()).next())
    }

    /// Goes on behind a message of this length.
    pub(super) fn consume(&mut self, len: usize) {
        self.consumed += 2 + len;
        self.left -= 1;
    }
}

impl Origin {
    /// Adds what comes next to `framed`, each message behind its length. Returns whether there was anything.
    fn refill(&mut self, framed: &mut Vec<u8>, tell: Tell) -> Result<bool, ExchangeError> {
        match self {
            Origin::File { path, reader } => match reader.peek() {
                Ok(Item::Message { bytes, .. }) => {
                    frame(bytes, framed);
                    reader.consume();
                    Ok(true)
                }
                Ok(Item::EndOfSession | Item::EndOfFile) => {
                    if let Some(tail) = reader.ignored_tail(path) {
                        tell(format_args!("{tail}"));
                    }
                    Ok(false)
                }
                Ok(Item::Malformed { offset, fault }) => {
                    let file = path.display();
                    tell(format_args!("{file}: {fault}, at byte {offset}; the session ends there"));
                    Ok(false)
                }
                Err(error) => Err(ExchangeError::Read { path: path.clone(), error }),
            },
            Origin::Simulator(simulator) => {
                if simulator.advance().is_none() {
                    return Ok(false);
                }
                for message in Packet::parse(simulator.packet())?.messages() {
                    frame(message?.2, framed);
                }
                Ok(true)
            }
            Origin::Capture(feed) => {
                let poll = feed.poll(UnixNs::default(), &mut |event| match event {
                    Event::Message { bytes, .. } => frame(bytes, framed),
                    Event::Malformed { offset, reason } => {
                        tell(format_args!("{reason}, at byte {offset}"));
                    }
                    Event::Trouble(trouble) => tell(format_args!("{trouble}")),
                    _ => {}
                });
                if poll? == Poll::Busy || !framed.is_empty() {
                    return Ok(true);
                }
                let missing = feed.counters().gap_messages;
                if missing > 0 {
                    tell(format_args!(
                        "{missing} messages are missing in the capture: it was played as if they had never been"
                    ));
                }
                Ok(false)
            }
        }
    }
}

/// When a message happened, nanoseconds since midnight; none where it has no such field.
pub(super) fn time_ns(message: &[u8]) -> Option<u64> {
    itch::Header::ref_from_prefix(message).ok().map(|(header, _)| header.timestamp.get())
}

/// The first word of a file's name.
fn session_of(path: &Path) -> Session {
    let mut session = [b' '; 10];
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    for (place, &byte) in session.iter_mut().zip(name.iter().take_while(|byte| byte.is_ascii_alphanumeric())) {
        *place = byte;
    }
    session
}

fn spilling() -> Result<Store, ExchangeError> {
    Store::spilling().map_err(|error| ExchangeError::Keep { directory: std::env::temp_dir(), error })
}
