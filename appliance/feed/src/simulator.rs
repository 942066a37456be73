//! A market that does not exist: thousands of invented instruments, in ITCH 5.0 messages, in MoldUDP64 packets.
//!
//! The same settings give the same packets, byte for byte. A day runs as a real one does (directory, quotes, opening
//! auction, trading with bursts and halts, closing auction), but what precedes the open takes three seconds. Live
//! orders obey the rules of a book: references are known, shares suffice, bids stay below asks. Nothing is allocated
//! once the market stands; a day may last as long as timestamps do.

mod book;
mod chance;
mod day;
mod feed;
mod file;
mod halts;
mod instrument;
mod message_writer;
#[cfg(test)]
mod tests;
mod trading;
mod weather;

pub use feed::SimulatedFeed;
pub use file::write_binaryfile;

use std::time::Duration;

use chance::{Chance, PowerLaw};
use day::{DAY, Stage};
use halts::Halts;
use instrument::{Instrument, universe};
use message_writer::MessageWriter;
use weather::Weather;

use crate::Session;
use crate::limits::{
    SIMULATOR_BURST_FACTOR_MAX, SIMULATOR_DAY_NS_MAX, SIMULATOR_MESSAGES_PER_S_MAX, SIMULATOR_SYMBOLS_MAX,
};
use fanblade_wire::float::whole;

/// What market to make.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Different seeds make different markets.
    pub seed: u64,
    /// How many instruments: 1 to 8,000.
    pub symbols: usize,
    /// Mean rate of messages while trading.
    pub messages_per_s: u32,
    /// How much faster than in between messages come in a burst, of which there is one every two seconds; 1 for none.
    pub burst_factor: u32,
    /// When the day begins, nanoseconds since midnight. (A live feed begins when it is first polled.)
    pub start_ns: u64,
    /// The name of the session. (A live feed takes the time of its beginning, so that no two are alike.)
    pub session: Session,
    /// Trading ends after about so many messages, those before the open included; two per instrument and a few more
    /// close the day.
    pub messages_max: Option<u64>,
    /// Trading ends after so much time since `start_ns`, once the market has opened.
    pub duration_max: Option<Duration>,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            symbols: 2_000,
            messages_per_s: 20_000,
            burst_factor: 10,
            start_ns: 34_197_000_000_000, // 09:29:57, so that the market opens at half past nine
            session: *b"SIMULATED ",
            messages_max: None,
            duration_max: None,
        }
    }
}

/// Why there can be no such market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// None, or more than the limit.
    #[error("a simulated market has 1 to {SIMULATOR_SYMBOLS_MAX} symbols, not {0}")]
    Symbols(usize),
    /// None, or more than the limit.
    #[error("a simulated market has 1 to {SIMULATOR_MESSAGES_PER_S_MAX} messages a second, not {0}")]
    MessagesPerS(u32),
    /// None, or more than the limit.
    #[error("the burst factor of a simulated market is 1 to {SIMULATOR_BURST_FACTOR_MAX}, not {0}")]
    BurstFactor(u32),
}

/// Makes packets, one after the other.
#[derive(Debug)]
pub struct Simulator {
    instruments: Vec<Instrument>,
    /// Index of the instrument of each rank of activity.
    ranked: Vec<u16>,
    activity: PowerLaw,
    writer: MessageWriter,
    weather: Weather,
    halts: Halts,
    /// Where the day is in its programme, and at which instrument.
    stage: usize,
    place: usize,
    /// When the next thing happens (but for halts), nanoseconds since midnight.
    next_ns: f64,
    messages_max: u64,
    end_ns: u64,
    over: bool,
}

impl Simulator {
    /// A market before its day.
    ///
    /// # Errors
    /// A setting is out of its bounds.
    pub fn new(config: &SimulatorConfig) -> Result<Self, ConfigError> {
        if !(1..=SIMULATOR_SYMBOLS_MAX).contains(&config.symbols) {
            return Err(ConfigError::Symbols(config.symbols));
        }
        if !(1..=SIMULATOR_MESSAGES_PER_S_MAX).contains(&config.messages_per_s) {
            return Err(ConfigError::MessagesPerS(config.messages_per_s));
        }
        if !(1..=SIMULATOR_BURST_FACTOR_MAX).contains(&config.burst_factor) {
            return Err(ConfigError::BurstFactor(config.burst_factor));
        }
        let mut chance = Chance::new(config.seed);
        let (instruments, ranked) = universe(config.symbols, &mut chance);
        let duration_ns = config.duration_max.map_or(u64::MAX, |max| u64::try_from(max.as_nanos()).unwrap_or(u64::MAX));
        Ok(Self {
            instruments,
            ranked,
            activity: PowerLaw::new(config.symbols),
            writer: MessageWriter::new(chance, config.session, config.start_ns),
            weather: Weather::new(config.messages_per_s, config.burst_factor),
            halts: Halts::new(),
            stage: 0,
            place: 0,
            next_ns: config.start_ns as f64,
            messages_max: config.messages_max.unwrap_or(u64::MAX),
            end_ns: config.start_ns.saturating_add(duration_ns).min(SIMULATOR_DAY_NS_MAX),
            over: false,
        })
    }

    /// Makes the next packet, and tells when it is due, in nanoseconds since midnight: when its last message happened.
    /// None after the end of the session.
    pub fn advance(&mut self) -> Option<u64> {
        if self.over {
            return None;
        }
        self.writer.packet.reset();
        let flush_ns = self.next_event_ns().unwrap_or(0) + PACKET_SPAN_NS;
        while self.writer.packet.room() >= EVENT_LEN_MAX {
            let Some(at_ns) = self.next_event_ns() else { break };
            if at_ns > flush_ns && self.writer.packet.count() > 0 {
                break;
            }
            self.writer.time_ns = at_ns;
            self.event();
        }
        if self.writer.packet.count() == 0 {
            self.over = true;
            self.writer.packet.end_of_session();
        } else {
            self.writer.packet.finish();
        }
        Some(self.writer.time_ns)
    }

    /// The packet that was made last.
    pub fn packet(&self) -> &[u8] {
        self.writer.packet.bytes()
    }

    /// Lets nothing happen before this time, nanoseconds since midnight.
    pub fn skip_to(&mut self, time_ns: u64) {
        self.next_ns = self.next_ns.max(time_ns as f64);
        self.halts.skip_to(time_ns);
    }

    /// When something happens next; none when the day is over. Time never runs backwards.
    fn next_event_ns(&self) -> Option<u64> {
        let mut at_ns = whole(self.next_ns);
        if let Stage::Trading = DAY.get(self.stage)? {
            at_ns = at_ns.min(self.halts.next_ns());
        }
        Some(at_ns.max(self.writer.time_ns))
    }

    /// Lets the next thing happen.
    fn event(&mut self) {
        let Some(stage) = DAY.get(self.stage) else { return };
        let Some(step_ns) = stage.step_ns(self.instruments.len()) else { return self.trade() };
        stage.perform(self.instruments.get_mut(self.place), &mut self.writer);
        self.next_ns += step_ns;
        self.place += 1;
        if self.place >= stage.steps(self.instruments.len()) {
            self.next_stage();
        }
    }

    /// Something happens in the open market.
    fn trade(&mut self) {
        let time_ns = self.writer.time_ns;
        let messages_before = self.writer.packet.next_sequence();
        if time_ns >= self.end_ns || messages_before > self.messages_max {
            self.next_stage();
            return;
        }
        let Self { instruments, ranked, activity, writer, weather, halts, .. } = self;
        let draw = |chance: &mut Chance| usize::from(ranked[activity.draw(chance)]);
        if halts.next_ns() <= time_ns {
            let candidate = draw(&mut writer.chance);
            return halts.proceed(instruments, candidate, writer);
        }
        weather.change(time_ns, &mut writer.chance, draw);
        let index = weather.hot(&mut writer.chance).unwrap_or_else(|| draw(&mut writer.chance));
        instruments[index].happen(weather.drift(), writer);
        // The rate is one of messages, and an event may be several.
        let messages = (writer.packet.next_sequence() - messages_before).max(1);
        self.next_ns += writer.chance.exponential(weather.gap_ns()) * messages as f64;
    }

    fn next_stage(&mut self) {
        self.stage += 1;
        self.place = 0;
        if let Some(Stage::Trading) = DAY.get(self.stage) {
            self.halts.begin(whole(self.next_ns));
            self.weather.open(whole(self.next_ns));
        }
    }
}

/// How long an exchange gathers messages before it sends a packet that is not full.
const PACKET_SPAN_NS: u64 = 50_000;

/// The most bytes, with their lengths, that one event writes: six executions.
const EVENT_LEN_MAX: usize = 256;
