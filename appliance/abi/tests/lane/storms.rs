//! Whole connections: the blade's end goes back and forth between lane and socket while the network does what it likes.

use fanblade_abi::lane::{Header, Lane, Outcome, Reason, Seq};
use fanblade_abi::packet;
use proptest::prelude::*;

use crate::frames::{Addresses, Segment};
use crate::network::{Random, Way, Weather};
use crate::reference::Reference;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the network loses, repeats, delays and reorders: both sides get every byte, once and in order, the
    /// blade sends nothing into a window that was not offered, and the client never has a reason for a reset.
    #[test]
    fn every_byte_comes_through_a_storm(plan in Plan::any(), there in Weather::any(), back in Weather::any()) {
        let mut world = World::new(plan, there, back);
        world.run(STORM_MS);
        world.clear_up();
        world.run_until_done();
        prop_assert_eq!(world.client.resets, 0);
        prop_assert_eq!(world.blade.socket.resets, 0);
    }

    /// Where nothing is lost or overtaken and the client reads, a lane stays a lane, unless its owner raises it.
    #[test]
    fn in_calm_weather_nothing_raises(plan in Plan::any(), there in Weather::calm(), back in Weather::calm()) {
        let plan = Plan { stops_reading: 0, raised_at_random: 0, ..plan };
        let mut world = World::new(plan, there, back);
        world.run(STORM_MS);
        prop_assert_eq!(&world.blade.reasons, &vec![]);
        world.clear_up();
        world.run_until_done();
        prop_assert!(world.blade.lane.is_some());
    }
}

/// That the storms are storms: each reason that a network alone can give comes up in some of them.
#[test]
fn storms_give_every_reason_that_a_network_can_give() {
    let mut seen = Vec::new();
    for seed in 1..400 {
        // Messages that follow each other show a loss by duplicates, those far apart by the timeout.
        let messages = if seed % 4 == 0 { 3 } else { 100 };
        let plan = Plan { seed, messages, has_timestamps: seed % 3 != 0, has_sack: seed % 2 == 0, ..Plan::WILD };
        let mut world = World::new(plan, Weather::WILD, Weather::WILD);
        world.run(STORM_MS);
        seen.extend(world.blade.reasons);
    }
    for reason in
        [Reason::Asked, Reason::Duplicates, Reason::Sack, Reason::OutOfOrder, Reason::Timeout, Reason::WindowShut]
    {
        let count = seen.iter().filter(|other| **other == reason).count();
        assert!(count > 0, "{reason:?} never happens");
    }
}

/// What both applications do, and how the connection was made.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    has_timestamps: bool,
    has_sack: bool,
    /// How often a millisecond has a message, in thousandths, and the longest one in bytes.
    messages: u32,
    message_len_max: u32,
    /// How often the client says something.
    words: u32,
    /// How often the client stops to read for a while.
    stops_reading: u32,
    /// How often the blade raises for no reason that the lane has.
    raised_at_random: u32,
}

impl Plan {
    const WILD: Plan = Plan {
        seed: 1,
        has_timestamps: true,
        has_sack: true,
        messages: 100,
        message_len_max: 1_400,
        words: 50,
        stops_reading: 2,
        raised_at_random: 2,
    };

    fn any() -> impl Strategy<Value = Plan> {
        let often = (1_u32..40, 1_u32..1_400, 0_u32..40, 0_u32..4, 0_u32..20);
        (any::<u64>(), any::<bool>(), any::<bool>(), often).prop_map(|(seed, has_timestamps, has_sack, often)| {
            let (messages, message_len_max, words, stops_reading, raised_at_random) = often;
            Plan { seed, has_timestamps, has_sack, messages, message_len_max, words, stops_reading, raised_at_random }
        })
    }
}

impl Weather {
    const WILD: Weather = Weather { lost: 40, repeated: 40, delayed: 100, spread_ms: 40, delay_ms: 5 };
}

/// The blade's end: a socket, of which a lane takes over at times.
struct Blade {
    /// Its streams are those of the connection, also while there is a lane.
    socket: Reference,
    lane: Option<Lane>,
    /// Packets that came while the connection was between lane and socket.
    held: Vec<Segment>,
    raise_at_ms: Option<u32>,
    /// What the application has said and the lane has not taken.
    backlog: Vec<Vec<u8>>,
    is_answer_due: bool,
    /// Since then nothing that is in flight has been acknowledged.
    in_flight_since_ms: u32,
    shut_since_ms: Option<u32>,
    calm_since_ms: u32,
    reasons: Vec<Reason>,
}

struct World {
    plan: Plan,
    random: Random,
    now_ms: u32,
    client: Reference,
    blade: Blade,
    there: Way<Vec<u8>>,
    back: Way<Vec<u8>>,
    client_reads_again_at_ms: u32,
    /// All that the blade's application has said.
    said: Vec<u8>,
}

impl World {
    fn new(plan: Plan, there: Weather, back: Weather) -> World {
        // Both numberings wrap on their way.
        let (first, client_first) = (Seq(u32::MAX - 3_000), Seq(u32::MAX - 300));
        let mut client = Reference::new(client_first, first, plan.has_timestamps, plan.has_sack);
        let mut socket = Reference::new(first, client_first, plan.has_timestamps, false);
        (client.window, socket.window) = (20_000, 20_000);
        (client.offered, socket.offered) = (20_000, 20_000);
        (client.ts_offset, socket.ts_offset) = (u32::MAX - 500, u32::MAX - 900);
        (client.ts_recent, socket.ts_recent) = (u32::MAX - 900, u32::MAX - 500);
        let blade = Blade {
            socket,
            lane: None,
            held: Vec::new(),
            raise_at_ms: None,
            backlog: Vec::new(),
            is_answer_due: false,
            in_flight_since_ms: 0,
            shut_since_ms: None,
            calm_since_ms: 0,
            reasons: Vec::new(),
        };
        let mut world = World {
            plan,
            random: Random(plan.seed | 1),
            now_ms: 0,
            client,
            blade,
            there: Way::new(there, plan.seed),
            back: Way::new(back, plan.seed.rotate_left(20)),
            client_reads_again_at_ms: 0,
            said: Vec::new(),
        };
        world.blade.lower();
        world
    }

    fn run(&mut self, ms: u32) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.applications();
            self.turn();
        }
    }

    fn clear_up(&mut self) {
        self.there.clear_up();
        self.back.clear_up();
        self.client_reads_again_at_ms = 0;
        self.plan.raised_at_random = 0;
    }

    fn run_until_done(&mut self) {
        let end_ms = self.now_ms + 60_000;
        while self.client.received != self.said || self.blade.socket.received != self.client.stream {
            assert!(self.now_ms < end_ms, "{}", self.state());
            self.client.read(usize::MAX / 2, self.now_ms);
            self.turn();
        }
    }

    fn state(&self) -> String {
        format!(
            "{} of {} bytes there, {} of {} back\n{:?}\n{:?}",
            self.client.received.len(),
            self.said.len(),
            self.blade.socket.received.len(),
            self.client.stream.len(),
            self.blade.lane,
            self.blade.reasons,
        )
    }

    /// What the two applications do in this millisecond.
    fn applications(&mut self) {
        if self.random.per_mille(self.plan.messages) {
            let len = 1 + self.random.below(self.plan.message_len_max);
            let message: Vec<u8> = (0..len).map(|_| self.random.byte()).collect();
            self.said.extend_from_slice(&message);
            self.blade.backlog.push(message);
        }
        if self.random.per_mille(self.plan.words) {
            let len = 1 + self.random.below(60);
            let words: Vec<u8> = (0..len).map(|_| self.random.byte()).collect();
            self.client.stream.extend(words);
        }
        if self.random.per_mille(self.plan.stops_reading) {
            self.client_reads_again_at_ms = self.now_ms + self.random.below(1_500);
        }
        if self.now_ms >= self.client_reads_again_at_ms {
            self.client.read(usize::MAX / 2, self.now_ms);
        }
        if self.random.per_mille(self.plan.raised_at_random) && self.blade.lane.is_some() {
            self.blade.ask(Reason::Asked, self.now_ms);
        }
    }

    fn turn(&mut self) {
        let now_ms = self.now_ms;
        for frame in self.back.arrived(now_ms) {
            self.blade.arrived(&frame, now_ms, self.random.below(20));
        }
        for frame in self.there.arrived(now_ms) {
            let segment = Addresses::PLAIN.client_reads(&frame);
            self.check(&segment);
            self.client.take(&segment, now_ms);
        }
        self.client.turn(now_ms);
        for segment in self.client.out.drain(..) {
            self.back.send(Addresses::PLAIN.client_frame(&segment), now_ms);
        }
        for frame in self.blade.turn(now_ms) {
            self.there.send(frame, now_ms);
        }
        self.now_ms += 1;
    }

    /// The client has offered this much, and these are the bytes that the application said.
    fn check(&self, segment: &Segment) {
        let at = segment.seq.since(self.client.rcv_nxt).cast_signed();
        let at = i64::try_from(self.client.received.len()).unwrap() + i64::from(at);
        let end = at + i64::try_from(segment.payload.len()).unwrap();
        // One byte may probe a window that is shut.
        assert!(end <= i64::try_from(self.client.offered).unwrap() + 1, "beyond the window: {at}..{end}");
        let (at, end) = (usize::try_from(at).unwrap(), usize::try_from(end).unwrap());
        assert_eq!(segment.payload, self.said[at..end], "other bytes");
    }
}

impl Blade {
    /// From socket to lane, as soon as the socket is quiet.
    fn lower(&mut self) {
        let socket = &self.socket;
        let mut lane = Addresses::PLAIN.lane(socket.has_timestamps);
        (lane.sending.snd_nxt, lane.receiving.snd_una) = (socket.snd_nxt, socket.snd_una);
        (lane.sending.acked, lane.receiving.rcv_nxt) = (socket.rcv_nxt, socket.rcv_nxt);
        lane.sending.ts_offset = socket.ts_offset;
        lane.sending.in_flight_max = 15_000;
        lane.receiving.ts_recent = socket.ts_recent;
        (lane.receiving.window, lane.receiving.window_max) = (socket.window, socket.window.max(20_000));
        lane.receiving.advertised = u16::try_from(socket.buffer_len >> socket.own_scale).unwrap();
        (lane.receiving.scale, lane.receiving.own_scale) = (socket.scale, socket.own_scale);
        self.lane = Some(lane);
        // The socket may have owed an acknowledgement.
        self.is_answer_due = true;
        self.shut_since_ms = None;
    }

    /// The lane is held from now on, and raised a little later.
    fn ask(&mut self, reason: Reason, now_ms: u32) {
        if self.raise_at_ms.is_none() {
            self.reasons.push(reason);
            self.raise_at_ms = Some(now_ms + 3);
            self.lane.as_mut().unwrap().receiving.raised = reason as u8;
        }
    }

    /// From lane to socket, with what came meanwhile.
    fn raise(&mut self, now_ms: u32) {
        let lane = self.lane.take().unwrap();
        let socket = &mut self.socket;
        (socket.snd_una, socket.snd_nxt) = (lane.receiving.snd_una, lane.sending.snd_nxt);
        socket.rcv_nxt = lane.receiving.rcv_nxt;
        (socket.window, socket.ts_recent) = (lane.receiving.window, lane.receiving.ts_recent);
        (self.raise_at_ms, self.calm_since_ms) = (None, now_ms);
        if self.is_answer_due {
            socket.answer(now_ms);
        }
        for segment in std::mem::take(&mut self.held) {
            self.socket.take(&segment, now_ms);
        }
    }

    fn arrived(&mut self, frame: &[u8], now_ms: u32, later_ms: u32) {
        let parsed = packet::parse(frame).unwrap();
        let header = Header::read(frame, &parsed).unwrap();
        let payload = &frame[frame.len() - header.payload_len as usize..];
        let segment = || as_segment(&header, payload);
        let Some(lane) = &mut self.lane else {
            let segment = segment();
            // A socket that is right is not disturbed by anything here; storms of it would only last longer.
            self.socket.take(&segment, now_ms);
            return;
        };
        if lane.receiving.raised != 0 {
            self.held.push(segment());
            return;
        }
        let una = lane.receiving.snd_una;
        match lane.receive(&header, now_ms, u64::from(now_ms) * 1_000_000) {
            Outcome::Taken => {}
            Outcome::Data { len } => {
                lane.receiving.received(len);
                self.socket.received.extend_from_slice(payload);
                self.socket.read = self.socket.received.len();
                self.is_answer_due = true;
            }
            Outcome::Answer => self.is_answer_due = true,
            Outcome::Drop(drop) => panic!("{drop:?}: this client sends nothing of the kind"),
            Outcome::Raise(reason) => {
                self.held.push(segment());
                self.reasons.push(reason);
                self.raise_at_ms = Some(now_ms + later_ms);
            }
        }
        if self.lane.as_ref().is_some_and(|lane| lane.receiving.snd_una != una) {
            self.in_flight_since_ms = now_ms;
        }
    }

    /// Sends what can be sent. Returns the frames.
    fn turn(&mut self, now_ms: u32) -> Vec<Vec<u8>> {
        if self.raise_at_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.raise(now_ms);
        }
        if self.lane.is_some() { self.lane_turn(now_ms) } else { self.socket_turn(now_ms) }
    }

    fn lane_turn(&mut self, now_ms: u32) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut lane = self.lane.unwrap();
        while let Some(message) = self.backlog.first() {
            let len = u32::try_from(message.len()).unwrap();
            if lane.admit(9, lane.sending.snd_nxt, len).is_err() {
                self.shut_since_ms.get_or_insert(now_ms);
                break;
            }
            self.shut_since_ms = None;
            let message = self.backlog.remove(0);
            if lane.sending.snd_nxt == lane.receiving.snd_una {
                self.in_flight_since_ms = now_ms;
            }
            let (frame, told) = Addresses::PLAIN.lane_frame(&lane, &message, now_ms);
            frames.push(frame);
            lane.sent(told, len, len + 52);
            self.socket.stream.extend_from_slice(&message);
        }
        if self.is_answer_due && lane.admit(9, lane.sending.snd_nxt, 0).is_ok() {
            if frames.is_empty() {
                let (frame, told) = Addresses::PLAIN.lane_frame(&lane, &[], now_ms);
                frames.push(frame);
                lane.sent(told, 0, 52);
            }
            self.is_answer_due = false;
        }
        self.lane = Some(lane);
        if self.raise_at_ms.is_some() {
            return frames;
        }
        let timeout_ms = lane.receiving.timeout_ms();
        if lane.sending.snd_nxt != lane.receiving.snd_una && now_ms - self.in_flight_since_ms > timeout_ms {
            self.ask(Reason::Timeout, now_ms);
        } else if self.shut_since_ms.is_some_and(|since_ms| now_ms - since_ms > 200) {
            self.ask(Reason::WindowShut, now_ms);
        }
        frames
    }

    fn socket_turn(&mut self, now_ms: u32) -> Vec<Vec<u8>> {
        self.is_answer_due = false;
        for message in self.backlog.drain(..) {
            self.socket.stream.extend(message);
        }
        self.socket.read = self.socket.received.len();
        self.socket.turn(now_ms);
        let frames = self.socket.out.drain(..).map(|segment| socket_frame(&segment)).collect();
        if self.socket.is_quiet() && now_ms - self.calm_since_ms > 50 {
            self.lower();
        }
        frames
    }
}

/// A frame of the blade's socket: the lane's headers, with the socket's values.
fn socket_frame(segment: &Segment) -> Vec<u8> {
    let mut lane = Addresses::PLAIN.lane(segment.timestamps.is_some());
    lane.sending.snd_nxt = segment.seq;
    lane.receiving.rcv_nxt = segment.ack;
    lane.receiving.advertised = segment.window;
    let (value, echo) = segment.timestamps.unwrap_or_default();
    (lane.sending.ts_offset, lane.receiving.ts_recent) = (0, echo);
    Addresses::PLAIN.lane_frame(&lane, &segment.payload, value).0
}

fn as_segment(header: &Header, payload: &[u8]) -> Segment {
    let timestamps = match header.options {
        fanblade_abi::lane::segment::Options::Timestamps { value, echo } => Some((value, echo)),
        _ => None,
    };
    Segment {
        seq: header.seq,
        ack: header.ack,
        flags: header.flags,
        window: header.window,
        timestamps,
        sack: Vec::new(),
        payload: payload.to_vec(),
    }
}

const STORM_MS: u32 = 6_000;
