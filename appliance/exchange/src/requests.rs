//! The re-request server: sends what a receiver has missed to the address that asks.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fanblade_feed::Session;
use fanblade_feed::moldudp64::{HEADER_LEN, PacketBuilder, Request};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::Serialize;

use super::error::ExchangeError;
use super::faults::Percent;
use super::limits::STOP_CHECK_INTERVAL;
use super::publisher::Orders;
use super::store::{self, Store};

/// Answers requests by UDP. It answers with one packet, or not at all, as the protocol has it.
#[derive(Debug)]
pub(super) struct RequestServer {
    socket: UdpSocket,
    session: Session,
    packet_len_max: usize,
    drop: Percent,
    chance: ChaCha8Rng,
    store: Arc<Store>,
    counters: RequestCounters,
}

/// What was asked. Each datagram counts in exactly one of these, the messages aside.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct RequestCounters {
    pub(super) answered: u64,
    /// Messages in the answers.
    pub(super) messages: u64,
    /// Requests that were left without an answer on purpose.
    pub(super) dropped: u64,
    /// Requests for what is not published yet, or for no messages.
    pub(super) unavailable: u64,
    pub(super) unknown_session: u64,
    pub(super) malformed: u64,
    /// Answers that could not be read from the store or not be sent.
    pub(super) failed: u64,
}

impl RequestServer {
    pub(super) fn bind(
        address: SocketAddr,
        session: Session,
        packet_len_max: usize,
        drop: Percent,
        seed: u64,
        store: Arc<Store>,
    ) -> Result<Self, ExchangeError> {
        let failed = |error| ExchangeError::Requests { address, error };
        let socket = UdpSocket::bind(address).map_err(failed)?;
        socket.set_read_timeout(Some(STOP_CHECK_INTERVAL)).map_err(failed)?;
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(REQUESTS_STREAM);
        let counters = RequestCounters::default();
        Ok(Self { socket, session, packet_len_max, drop, chance, store, counters })
    }

    pub(super) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the orders say to stop.
    pub(super) fn run(mut self, orders: &Orders) -> RequestCounters {
        // One byte more than a request has shows what is too long.
        let mut bytes = [0; HEADER_LEN + 1];
        while !orders.stop.load(Relaxed) {
            match self.socket.recv_from(&mut bytes) {
                Ok((len, peer)) => self.request(bytes.get(..len).unwrap_or_default(), peer),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // The kernel says here that an earlier answer found nobody.
                Err(_) => self.counters.failed += 1,
            }
        }
        self.counters
    }

    fn request(&mut self, bytes: &[u8], peer: SocketAddr) {
        let Some(request) = Request::parse(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        if request.session != self.session {
            self.counters.unknown_session += 1;
            return;
        }
        if self.drop.strikes(&mut self.chance) {
            self.counters.dropped += 1;
            return;
        }
        let mut framed = Vec::with_capacity(self.packet_len_max);
        let room = self.packet_len_max.saturating_sub(HEADER_LEN);
        if self.store.read(request.sequence, room, &mut framed).is_err() {
            self.counters.failed += 1;
            return;
        }
        let mut answer = PacketBuilder::new(self.session, request.sequence, self.packet_len_max);
        for message in store::messages(&framed).take(request.count.into()) {
            answer.push(message);
        }
        match answer.count() {
            0 => self.counters.unavailable += 1,
            count => match self.socket.send_to(answer.finish(), peer) {
                Ok(_) => {
                    self.counters.answered += 1;
                    self.counters.messages += u64::from(count);
                }
                Err(_) => self.counters.failed += 1,
            },
        }
    }
}

/// The dice of the requests; lines A and B have streams 0 and 1.
const REQUESTS_STREAM: u64 = 2;
