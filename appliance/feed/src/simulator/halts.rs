//! Instruments in which trading stops for a while.

use super::instrument::{Instrument, State};
use super::message_writer::MessageWriter;
use crate::limits::SIMULATOR_HALTS_MAX;
use fanblade_wire::float::whole;

/// The halts in force, and when the next begins.
#[derive(Debug)]
pub(super) struct Halts {
    in_force: Vec<Halt>,
    next_begin_ns: u64,
}

#[derive(Debug)]
struct Halt {
    instrument: usize,
    /// When its next step is due.
    due_ns: u64,
    /// How often the auction that ends it is still to be announced; none before orders are invited to it.
    notices: Option<u32>,
    reason: [u8; 4],
}

impl Halts {
    pub(super) fn new() -> Self {
        Self { in_force: Vec::with_capacity(SIMULATOR_HALTS_MAX), next_begin_ns: u64::MAX }
    }

    /// The market has opened.
    pub(super) fn begin(&mut self, time_ns: u64) {
        self.next_begin_ns = time_ns + FIRST_AFTER_NS;
    }

    /// Begins nothing before this time.
    pub(super) fn skip_to(&mut self, time_ns: u64) {
        self.next_begin_ns = self.next_begin_ns.max(time_ns);
        for halt in &mut self.in_force {
            halt.due_ns = halt.due_ns.max(time_ns);
        }
    }

    /// When something is due.
    pub(super) fn next_ns(&self) -> u64 {
        self.in_force.iter().map(|halt| halt.due_ns).fold(self.next_begin_ns, u64::min)
    }

    /// Does the one thing that is due: the next step of a halt, or a new one in `candidate`.
    pub(super) fn proceed(&mut self, instruments: &mut [Instrument], candidate: usize, writer: &mut MessageWriter) {
        let now_ns = writer.time_ns;
        let Some(index) = self.in_force.iter().position(|halt| halt.due_ns <= now_ns) else {
            self.next_begin_ns = now_ns + whole(writer.chance.exponential(MEAN_BETWEEN_NS));
            if let Some(instrument) = instruments.get_mut(candidate)
                && instrument.state == State::Trading
                && self.in_force.len() < SIMULATOR_HALTS_MAX
            {
                self.in_force.push(Halt::begin(candidate, instrument, writer));
            }
            return;
        };
        let halt = &mut self.in_force[index];
        let over = instruments.get_mut(halt.instrument).is_none_or(|instrument| halt.proceed(instrument, writer));
        if over {
            self.in_force.swap_remove(index);
        }
    }
}

impl Halt {
    /// For news, or because the price has moved too fast.
    fn begin(index: usize, instrument: &mut Instrument, writer: &mut MessageWriter) -> Self {
        instrument.state = State::Halted;
        let paused = writer.chance.coin();
        let (state, reason) = if paused { (b'P', *b"LUDP") } else { (b'H', *b"T1  ") };
        instrument.trading_action(state, reason, writer);
        if paused {
            instrument.collar(writer);
        }
        let due_ns = writer.time_ns + u64::from(writer.chance.between(3_000, 10_000)) * 1_000_000;
        Self { instrument: index, due_ns, notices: None, reason }
    }

    /// Takes the next step; true if it was the last.
    fn proceed(&mut self, instrument: &mut Instrument, writer: &mut MessageWriter) -> bool {
        match self.notices {
            None => {
                instrument.trading_action(b'Q', self.reason, writer);
                self.notices = Some(writer.chance.between(3, 7));
            }
            Some(0) => {
                instrument.state = State::Trading;
                instrument.cross(b'H', writer);
                instrument.trading_action(b'T', self.reason, writer);
                return true;
            }
            Some(notices) => {
                instrument.imbalance(b'H', writer);
                self.notices = Some(notices - 1);
            }
        }
        self.due_ns = writer.time_ns + NOTICE_NS;
        false
    }
}

/// From the open to the first halt: soon enough for someone who has come to look.
const FIRST_AFTER_NS: u64 = 7_000_000_000;

/// Mean time from the beginning of one halt to that of the next.
const MEAN_BETWEEN_NS: f64 = 15e9;

/// From one announcement of an auction to the next. (Really five seconds.)
const NOTICE_NS: u64 = 500_000_000;
