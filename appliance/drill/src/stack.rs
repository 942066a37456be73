//! What packetdrill takes for a TCP stack: two descriptors, one connection, a clock that goes as scripts want it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use fanblade_abi::lane::{Header, Reason, Seq};
use fanblade_abi::packet::{self, SYN};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use std::os::fd::{IntoRawFd, OwnedFd};

use crate::connection::{Connection, Frames, millis};
use crate::handshake::{Handshake, Settings};
use crate::numbers::{Command, Question};
use crate::wire::Wire;

/// A stack under test.
#[derive(Debug)]
pub struct Stack {
    wire: Wire,
    settings: Settings,
    state: State,
    /// Since the start of the clock, in microseconds.
    now_us: u64,
    /// Looks at the clock in a row: packetdrill waits.
    looks: u32,
    /// Packets that packetdrill has not asked for, with the time of their departure.
    out: VecDeque<(Vec<u8>, u64)>,
    sums_to_break: u32,
    /// What the script knows of why the lane is raised.
    known_reason: u32,
}

#[derive(Debug)]
enum State {
    Closed,
    Listening,
    Opening(Handshake),
    /// With a connection, and whether the application has accepted it.
    Established(Box<Connection>, bool),
}

/// packetdrill wakes us so much too early, to look at the clock until it is time, in microseconds.
const EARLY_US: u64 = 20;
/// It does so after this many looks in a row, which otherwise belong to one event.
const LOOKS_MAX: u32 = 8;
/// A virtual engine's turn, in microseconds.
const TURN_US: u64 = 1_000;
/// What the clock shows at first, in microseconds.
const START_US: u64 = 1_000_000_000;

impl Stack {
    /// Reads packetdrill's `--so_flags`: nothing, or `vlan=` and the tag of all frames.
    ///
    /// # Panics
    /// If they are anything else.
    #[must_use]
    pub fn new(flags: &str) -> Stack {
        let vlan = flags.strip_prefix("vlan=").map(|vlan| vlan.parse().expect("a tag is a number"));
        assert!(flags.is_empty() || vlan.is_some(), "--so_flags={flags}: neither nothing nor vlan=NUMBER");
        Stack {
            wire: Wire { vlan },
            settings: Settings::default(),
            state: State::Closed,
            now_us: START_US,
            looks: 0,
            out: VecDeque::new(),
            sums_to_break: 0,
            known_reason: 0,
        }
    }

    /// A call that is no look at the clock.
    fn called(&mut self) {
        self.looks = 0;
    }

    /// `socket`: the first descriptor.
    ///
    /// # Errors
    /// Those of `eventfd`.
    pub fn socket(&mut self) -> Result<i32, Errno> {
        self.called();
        descriptor()
    }

    /// `listen`.
    pub fn listen(&mut self) {
        self.called();
        self.state = State::Listening;
    }

    /// `accept`: a descriptor, and the client's address and port.
    ///
    /// # Errors
    /// `EAGAIN` while there is no connection.
    pub fn accept(&mut self) -> Result<(i32, SocketAddr), Errno> {
        self.called();
        let State::Established(connection, accepted @ false) = &mut self.state else { return Err(Errno::EAGAIN) };
        let number = descriptor()?;
        *accepted = true;
        Ok((number, connection.client()))
    }

    /// `write`: how many bytes the lane has taken. What it has not is `Unsent`, in the words of an engine.
    ///
    /// # Errors
    /// `EAGAIN` if it takes none, `ENOTCONN` without a connection.
    pub fn write(&mut self, len: usize) -> Result<usize, Errno> {
        self.called();
        let now_ns = self.now_ns();
        let connection = self.connection()?;
        let (taken, frames) = connection.write(u32::try_from(len).map_err(|_| Errno::EINVAL)?, now_ns);
        self.send(frames);
        if taken == 0 && len > 0 { Err(Errno::EAGAIN) } else { Ok(taken as usize) }
    }

    /// `read`: how many bytes there are. They are not copied: packetdrill sends zeros.
    ///
    /// # Errors
    /// `EAGAIN` if there are none, `ENOTCONN` without a connection.
    pub fn read(&mut self, len: usize) -> Result<usize, Errno> {
        self.called();
        let count = self.connection()?.read_bytes(u32::try_from(len).unwrap_or(u32::MAX));
        if count == 0 && len > 0 { Err(Errno::EAGAIN) } else { Ok(count as usize) }
    }

    /// `close` and `shutdown`: an engine raises the lane, and the socket does it.
    pub fn end(&mut self) {
        self.called();
        if let Ok(connection) = self.connection() {
            connection.raise(Reason::Asked);
        }
    }

    /// `getsockopt`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for a number that is none, `ENOTCONN` without a connection.
    pub fn ask(&mut self, number: i32) -> Result<u32, Errno> {
        self.called();
        let question = Question::of(number).ok_or(Errno::ENOPROTOOPT)?;
        let answer = self.connection()?.ask(question);
        if question == Question::Raised {
            self.known_reason = answer;
        }
        Ok(answer)
    }

    /// `setsockopt`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for a number that is none, `ENOTCONN` where it needs a connection.
    pub fn command(&mut self, number: i32, value: u32) -> Result<(), Errno> {
        self.called();
        match Command::of(number).ok_or(Errno::ENOPROTOOPT)? {
            Command::FirstNumber => self.settings.first_number = Seq(value),
            Command::TimestampOffset => self.settings.ts_offset = value,
            Command::ForgetTimestamp => self.connection()?.forget_timestamp(),
            Command::BreakSums => self.sums_to_break = value,
            Command::InFlightMax => {
                self.settings.in_flight_max = value;
                if let Ok(connection) = self.connection() {
                    connection.set_in_flight_max(value);
                }
            }
        }
        Ok(())
    }

    /// A packet of the client comes in.
    pub fn arrived(&mut self, packet: &[u8]) {
        // packetdrill looks at the clock before each packet of a script. Only the reset by which it cleans up comes
        // without, and that is no part of the script.
        if std::mem::take(&mut self.looks) == 0 {
            return;
        }
        let mut frame = self.wire.enter(packet);
        let Ok(segment) = packet::parse(frame.as_slice()) else { return };
        if self.sums_to_break > 0 {
            self.sums_to_break -= 1;
            frame[segment.tcp_at as usize + 16] ^= 1;
        }
        let (now_ns, now_ms) = (self.now_ns(), millis(self.now_ns()));
        match &mut self.state {
            State::Closed => {}
            State::Listening => {
                if segment.flags & SYN != 0
                    && let Some(handshake) = Handshake::begin(self.settings, &frame, &segment, now_ms)
                {
                    let answer = handshake.answer(self.wire, now_ms);
                    self.out.push_back((self.wire.leave(&answer, handshake.first_byte()), self.now_us));
                    self.state = State::Opening(handshake);
                }
            }
            State::Opening(handshake) => {
                let Some(header) = Header::read(frame.as_slice(), &segment) else { return };
                if let Some((lane, kept, path)) = handshake.end(self.wire, &header, now_ms) {
                    let (first, client_first) = (handshake.first_byte(), handshake.client_first());
                    let connection = Connection::new(lane, kept, path, first, client_first);
                    self.state = State::Established(Box::new(connection), false);
                }
            }
            State::Established(connection, _) if connection.is_from_client(&segment) => {
                let frames = connection.take(&frame, &segment, now_ns);
                connection.look(now_ns);
                self.send(frames);
            }
            State::Established(..) => {}
        }
    }

    /// The next packet that leaves, with the time when it did, in microseconds. If there is none yet, the clock goes on
    /// until there is. `None`: there never will be.
    pub fn next_packet(&mut self) -> Option<(Vec<u8>, u64)> {
        self.called();
        while self.out.is_empty() && self.is_waiting() {
            self.go_on_to(self.next_turn_us());
        }
        self.out.pop_front()
    }

    /// `usleep`: packetdrill asks for a little less than it wants.
    pub fn sleep(&mut self, us: u32) {
        self.called();
        self.go_on_to(self.now_us + u64::from(us) + EARLY_US);
    }

    /// `gettimeofday`, in microseconds.
    pub fn clock_us(&mut self) -> u64 {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            self.go_on_to(self.now_us + 1);
        }
        self.now_us
    }

    /// The script is over: what has it not looked at?
    #[must_use]
    pub fn left_over(&self) -> Option<String> {
        if let Some((packet, at_us)) = self.out.front() {
            let at_us = at_us - START_US;
            return Some(format!(
                "a packet of {} bytes left at {at_us} us, and the script has no line for it",
                packet.len()
            ));
        }
        match &self.state {
            State::Established(connection, _) => {
                let reason = connection.ask(Question::Raised);
                let told = format!("the lane is raised for reason {reason}, and the script does not ask");
                (reason != self.known_reason).then_some(told)
            }
            _ => None,
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, Errno> {
        match &mut self.state {
            State::Established(connection, _) => Ok(connection),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn send(&mut self, frames: Frames) {
        let State::Established(connection, _) = &self.state else { return };
        for frame in frames {
            self.out.push_back((self.wire.leave(&frame, connection.first()), self.now_us));
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(&self.state, State::Established(connection, _) if connection.is_waiting())
    }

    fn next_turn_us(&self) -> u64 {
        (self.now_us / TURN_US + 1) * TURN_US
    }

    /// The clock goes on, and the engine has its turns.
    fn go_on_to(&mut self, until_us: u64) {
        while self.is_waiting() && self.next_turn_us() <= until_us {
            self.now_us = self.next_turn_us();
            let now_ns = self.now_ns();
            if let Ok(connection) = self.connection() {
                connection.look(now_ns);
            }
        }
        self.now_us = until_us;
    }

    fn now_ns(&self) -> u64 {
        self.now_us * 1_000
    }
}

/// A descriptor that packetdrill may close.
fn descriptor() -> Result<i32, Errno> {
    Ok(OwnedFd::from(EventFd::new()?).into_raw_fd())
}
