//! The engine on kernel sockets: each connection is a direct descriptor of an io_uring, so that there may be more of
//! them than the process may have descriptors. A ring's table has at most as many entries as the process may have
//! descriptors, but there may be any number of rings.
//!
//! It spins: a client that sleeps would charge the server for waking it.

mod opening;
pub mod ring;
mod thread;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use fanblade_measure::clock::nanoseconds;
use fanblade_wire::UnixNs;
use fanblade_wire::client::write_frame;
use fanblade_wire::float::whole;
use fanblade_wire::frame::Opcode;

use super::plan::{Habit, Plan};
use super::speech::{Pong, Speech};
use super::subscribers::Subscribers;
use super::tally::Latency;
use opening::{Opening, Openings};
use ring::{Dial, Done, Kind, Ring, SLOTS_MAX, SocketOption};
pub(crate) use thread::Threads;

/// Connections of one thread, without what they carry.
pub struct Sockets {
    plan: Arc<Plan>,
    clients: Range<u32>,
    slots_per_ring: u32,
    rings: Vec<Ring>,
    links: Vec<Link>,
    openings: Openings,
    /// The next client to connect, counted from the first of this thread.
    next: u32,
    begun: Instant,
    upgraded: u32,
    /// Receives and closes under way.
    receiving: u32,
    closing: u32,
    /// Pongs and speeches that are being sent.
    pongs: Vec<Option<Box<[u8]>>>,
    pace: Option<Pace>,
    handshakes: Latency,
    done: Vec<Done>,
    said: Vec<Pong>,
    speeches: Vec<Speech>,
}

/// Whoever receives what the connections carry.
pub trait Audience {
    /// The connection is established, and upgraded if it was to be.
    fn opened(&mut self, client: u32) -> anyhow::Result<()>;
    /// Bytes behind the upgrade have come. Pongs are sent for the client.
    fn received(&mut self, client: u32, bytes: &[u8], now_ns: u64, pongs: &mut Vec<Pong>) -> anyhow::Result<()>;
    /// The server has ended the connection: 0, or an errno. Returns whether to close our end, too.
    fn ended(&mut self, client: u32, errno: i32) -> anyhow::Result<bool>;
    /// What clients have to say by themselves, asked for at each turn.
    fn speak(&mut self, _said: &mut Vec<Speech>) -> anyhow::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
struct Link {
    /// Number of its opening, while [`State::Opening`].
    opening: u16,
    state: State,
    is_receiving: bool,
}

const _: () = assert!(size_of::<Link>() == 4);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
enum State {
    #[default]
    Closed,
    Opening,
    Open,
}

/// When clients who read slowly read, once they begin to.
struct Pace {
    slow: Vec<u32>,
    begun: Instant,
    served: u64,
}

impl Sockets {
    /// Must be called in the thread that will use the result.
    pub fn new(plan: &Arc<Plan>, clients: Range<u32>) -> anyhow::Result<Sockets> {
        let descriptors = fanblade_net::rlimit::descriptors()?;
        let slots_per_ring = SLOTS_MAX.min(u32::try_from(descriptors).unwrap_or(SLOTS_MAX));
        ensure!(slots_per_ring > 0, "RLIMIT_NOFILE is 0");
        Ok(Sockets {
            plan: Arc::clone(plan),
            slots_per_ring,
            rings: Vec::new(),
            links: Vec::new(),
            openings: Openings::new(plan.in_flight),
            next: 0,
            begun: Instant::now(),
            upgraded: 0,
            receiving: 0,
            closing: 0,
            pongs: Vec::new(),
            pace: None,
            handshakes: Latency::default(),
            done: Vec::new(),
            said: Vec::new(),
            speeches: Vec::new(),
            clients,
        })
    }

    /// User memory of a connection.
    pub(crate) const fn bytes() -> usize {
        size_of::<Link>() + Ring::bytes().div_ceil(SLOTS_MAX as usize)
    }

    /// Begins to connect everybody; [`Self::turn`] continues.
    pub fn open(&mut self) {
        self.links.resize(self.clients.len(), Link::default());
        (self.next, self.upgraded, self.begun) = (0, 0, Instant::now());
        self.handshakes = Latency::default();
    }

    /// How many connections there will be.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many connections stand, or have stood.
    pub(crate) fn upgraded(&self) -> u32 {
        self.upgraded
    }

    /// From the first step of a connection to the answer to its upgrade.
    pub(crate) fn handshakes(&self) -> &Latency {
        &self.handshakes
    }

    /// Whether nothing is being opened or said any more; then gives back the memory for that.
    pub fn settle(&mut self) -> bool {
        let is_settled = self.next as usize == self.links.len() && self.openings.is_empty();
        if is_settled {
            self.openings.clear();
        }
        is_settled
    }

    /// From now on the slow clients read slowly, and the stalled ones not at all.
    pub(crate) fn fall_into_habits(&mut self) {
        let Sockets { plan, clients, .. } = self;
        let slow: Vec<u32> =
            clients.clone().filter(|&it| plan.habits.of(it) == Habit::Slow).map(|it| it - clients.start).collect();
        self.pace = Some(Pace { slow, begun: Instant::now(), served: 0 });
    }

    /// Begins to close all; [`Self::turn`] continues until [`Self::is_closed`].
    pub(crate) fn close(&mut self) -> anyhow::Result<()> {
        ensure!(self.openings.is_empty(), "cannot close while connections are being opened");
        self.pace = None;
        for at in (0..).take(self.links.len()) {
            let link = self.links[at as usize];
            if link.state != State::Closed {
                if link.is_receiving {
                    let (ring, slot) = self.place(at);
                    self.rings[ring].cancel(slot)?;
                }
                self.close_one(at)?;
            }
        }
        Ok(())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.receiving == 0 && self.closing == 0
    }

    /// Takes what has come, and continues what is under way. Never waits. Returns how many things happened.
    pub fn turn(&mut self, audience: &mut impl Audience) -> anyhow::Result<usize> {
        self.open_more()?;
        self.read_slowly()?;
        audience.speak(&mut self.speeches)?;
        self.say_speeches()?;
        let mut count = 0;
        // The first connection of the ring.
        let mut first = 0;
        for number in 0..self.rings.len() {
            let mut all = std::mem::take(&mut self.done);
            self.rings[number].turn(&mut all)?;
            if !all.is_empty() {
                let now_ns = UnixNs::now().0;
                for done in &all {
                    self.take(first, done, now_ns, audience)?;
                }
                self.say_pongs()?;
            }
            count += all.len();
            first += self.slots_per_ring;
            all.clear();
            self.done = all;
        }
        Ok(count)
    }

    fn take(&mut self, first: u32, done: &Done, now_ns: u64, audience: &mut impl Audience) -> anyhow::Result<()> {
        let at = first + done.slot;
        match done.kind {
            Kind::Socket | Kind::Option | Kind::Bind | Kind::Connect | Kind::Request => match done.errno {
                0 => self.opened(at, audience)?,
                // The step came after the one that failed.
                libc::ECANCELED => {}
                errno => bail!("client {}: {}", self.clients.start + at, opening::failure(done.kind, errno)),
            },
            Kind::Receive => self.received(at, done, now_ns, audience)?,
            Kind::Speech => {
                self.openings.end(u16::try_from(done.with).context("no such opening")?);
                // If the connection has ended meanwhile, that has been reported or will be.
                let is_open = self.links[at as usize].state == State::Open;
                ensure!(
                    !is_open || done.errno == 0,
                    "client {}: cannot send its subscription (errno {})",
                    self.clients.start + at,
                    done.errno
                );
            }
            Kind::Pong => {
                if let Some(pong) = self.pongs.get_mut(done.with as usize) {
                    *pong = None;
                }
            }
            Kind::Cancel | Kind::Accept => {}
            Kind::Close => self.closing -= 1,
        }
        Ok(())
    }

    fn received(&mut self, at: u32, done: &Done, now_ns: u64, audience: &mut impl Audience) -> anyhow::Result<()> {
        let (ring, slot) = self.place(at);
        let client = self.clients.start + at;
        if let Some(buffer) = done.buffer {
            let bytes = self.rings[ring].received(buffer, done.len);
            let link = self.links[at as usize];
            match link.state {
                State::Opening => {
                    let opening = self.openings.at(link.opening);
                    opening.head.extend_from_slice(bytes);
                    if let Some(head_len) = opening.head_len().with_context(|| format!("client {client}"))? {
                        let rest = opening.head.split_off(head_len);
                        self.opened(at, audience)?;
                        if !rest.is_empty() {
                            audience.received(client, &rest, now_ns, &mut self.said)?;
                        }
                    }
                }
                State::Open => audience.received(client, bytes, now_ns, &mut self.said)?,
                State::Closed => {}
            }
            self.rings[ring].give_back(buffer);
        }
        if done.is_more_to_come {
            return Ok(());
        }
        self.receiving -= 1;
        self.links[at as usize].is_receiving = false;
        let is_over = done.len == 0 && done.errno != libc::ENOBUFS;
        match self.links[at as usize].state {
            State::Closed => {}
            State::Opening if is_over => bail!("client {client}: {}", opening::failure(done.kind, done.errno)),
            State::Open if is_over => {
                if audience.ended(client, done.errno)? {
                    self.close_one(at)?;
                }
            }
            _ => match (self.plan.habits.of(client), &self.pace) {
                (Habit::Reader, _) => {
                    self.rings[ring].receive(slot)?;
                    self.begin_receiving(at);
                }
                (_, None) => {
                    self.rings[ring].receive_once(slot, 0)?;
                    self.begin_receiving(at);
                }
                (_, Some(_)) => {}
            },
        }
        Ok(())
    }

    fn opened(&mut self, at: u32, audience: &mut impl Audience) -> anyhow::Result<()> {
        let (ring, slot) = self.place(at);
        let client = self.clients.start + at;
        let link = &mut self.links[at as usize];
        link.state = State::Open;
        self.upgraded += 1;
        let number = link.opening;
        let opening = self.openings.at(number);
        self.handshakes.record(nanoseconds(opening.begun.elapsed()));
        opening.out.clear();
        self.plan.write_subscription(client, &mut opening.out);
        if opening.out.is_empty() {
            self.openings.end(number);
        } else {
            self.rings[ring].send(Kind::Speech, slot, number.into(), &opening.out)?;
        }
        audience.opened(client)
    }

    fn open_more(&mut self) -> anyhow::Result<()> {
        let due = match self.plan.connect_rate {
            None => u32::MAX,
            Some(rate) => {
                let rate = f64::from(rate) / f64::from(self.plan.threads);
                let due = whole(self.begun.elapsed().as_secs_f64() * rate);
                u32::try_from(due).unwrap_or(u32::MAX).saturating_add(1)
            }
        };
        while (self.next as usize) < self.links.len() && self.next < due {
            let Some(number) = self.openings.begin() else { return Ok(()) };
            let at = self.next;
            self.next += 1;
            let (ring, slot) = self.place(at);
            if ring == self.rings.len() {
                let slots = self.slots_per_ring.min(self.clients.end - self.clients.start - at);
                self.rings.push(Ring::new(slots)?);
            }
            let client = self.clients.start + at;
            let Opening { out, .. } = self.openings.at(number);
            self.plan.write_upgrade(client, out);
            let is_reader = self.plan.habits.of(client) == Habit::Reader;
            let dial = Dial {
                addr: self.plan.addr,
                source: self.plan.sources.of(client),
                options: if is_reader { &[] } else { SocketOption::SMALL_WINDOW },
                request: out,
                keeps_receiving: is_reader,
            };
            self.rings[ring].connect(slot, &dial)?;
            self.links[at as usize] = Link { opening: number, state: State::Opening, is_receiving: false };
            self.begin_receiving(at);
        }
        Ok(())
    }

    /// Lets each slow client read once a second, evenly spread.
    fn read_slowly(&mut self) -> anyhow::Result<()> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        let count = pace.slow.len() as u64;
        let due = whole(pace.begun.elapsed().as_secs_f64() * count as f64);
        let from = std::mem::replace(&mut pace.served, due).max(due.saturating_sub(count));
        for turn in from..due {
            let slow = |pace: &Pace| pace.slow.get(usize::try_from(turn % count).ok()?).copied();
            let Some(at) = self.pace.as_ref().and_then(slow) else { break };
            let link = self.links[at as usize];
            if link.state == State::Open && !link.is_receiving {
                let (ring, slot) = self.place(at);
                self.rings[ring].receive_once(slot, self.plan.habits.slow_bytes_per_s)?;
                self.begin_receiving(at);
            }
        }
        Ok(())
    }

    fn say_pongs(&mut self) -> anyhow::Result<()> {
        for Pong { client, payload } in std::mem::take(&mut self.said) {
            let at = client - self.clients.start;
            if self.links[at as usize].state != State::Open {
                continue;
            }
            if payload.is_empty() {
                let (ring, slot) = self.place(at);
                self.rings[ring].send(Kind::Pong, slot, u32::MAX, EMPTY_PONG)?;
                continue;
            }
            let mut frame = Vec::new();
            write_frame(&mut frame, Opcode::Pong, [0; 4], &payload);
            self.say(at, frame.into())?;
        }
        Ok(())
    }

    fn say_speeches(&mut self) -> anyhow::Result<()> {
        for Speech { client, frames } in std::mem::take(&mut self.speeches) {
            self.say(client - self.clients.start, frames.into())?;
        }
        Ok(())
    }

    /// Sends frames to a connection, if it is still open, and keeps them until they have been sent.
    fn say(&mut self, at: u32, frames: Box<[u8]>) -> anyhow::Result<()> {
        if self.links[at as usize].state != State::Open {
            return Ok(());
        }
        let (ring, slot) = self.place(at);
        let free = self.pongs.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.pongs.push(None);
            self.pongs.len() - 1
        });
        let frames = self.pongs[place].insert(frames);
        self.rings[ring].send(Kind::Pong, slot, u32::try_from(place).context("too much to send at once")?, frames)
    }

    fn close_one(&mut self, at: u32) -> anyhow::Result<()> {
        let (ring, slot) = self.place(at);
        self.links[at as usize].state = State::Closed;
        self.closing += 1;
        self.rings[ring].close(slot)
    }

    fn begin_receiving(&mut self, at: u32) {
        self.links[at as usize].is_receiving = true;
        self.receiving += 1;
    }

    /// Ring and slot of a client.
    fn place(&self, at: u32) -> (usize, u32) {
        ((at / self.slots_per_ring) as usize, at % self.slots_per_ring)
    }
}

impl Audience for Subscribers {
    fn opened(&mut self, client: u32) -> anyhow::Result<()> {
        Subscribers::opened(self, client);
        Ok(())
    }

    fn received(&mut self, client: u32, bytes: &[u8], now_ns: u64, pongs: &mut Vec<Pong>) -> anyhow::Result<()> {
        self.receive(client, bytes, now_ns, pongs);
        Ok(())
    }

    fn ended(&mut self, client: u32, errno: i32) -> anyhow::Result<bool> {
        Subscribers::ended(self, client, errno);
        Ok(true)
    }

    fn speak(&mut self, said: &mut Vec<Speech>) -> anyhow::Result<()> {
        Subscribers::speak(self, said)
    }
}

/// Masked with zeros (RFC 6455, 5.5.3).
const EMPTY_PONG: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];
