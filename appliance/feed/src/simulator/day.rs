//! The programme of a day.

use zerocopy::byteorder::big_endian::U64;

use super::instrument::Instrument;
use super::message_writer::MessageWriter;
use super::trading::On;
use crate::itch::{MwcbLevels, SystemEvent};

/// A part of the day.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// A system event, once.
    System(u8),
    /// The levels of the market-wide circuit breaker, once.
    BreakerLevels,
    /// Something for each instrument in turn.
    Each(Step),
    /// The open market, until the day ends.
    Trading,
}

/// What is done for each instrument.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Directory,
    TradingAction,
    RegSho,
    Makers,
    /// An order on each side.
    Quotes,
    /// News of the opening auction.
    OpeningImbalance,
    OpeningCross,
    ClosingImbalance,
    ClosingCross,
}

/// The whole day, as of a real one, with what takes hours before the open in three seconds.
pub(super) const DAY: &[Stage] = &[
    Stage::System(b'O'),
    Stage::Each(Step::Directory),
    Stage::BreakerLevels,
    Stage::Each(Step::TradingAction),
    Stage::Each(Step::RegSho),
    Stage::Each(Step::Makers),
    Stage::System(b'S'),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::OpeningImbalance),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::OpeningImbalance),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::Quotes),
    Stage::Each(Step::OpeningImbalance),
    Stage::System(b'Q'),
    Stage::Each(Step::OpeningCross),
    Stage::Trading,
    Stage::Each(Step::ClosingImbalance),
    Stage::System(b'M'),
    Stage::Each(Step::ClosingCross),
    Stage::System(b'E'),
    Stage::System(b'C'),
];

impl Stage {
    /// How many steps it has, for so many instruments.
    pub(super) fn steps(self, instruments: usize) -> usize {
        match self {
            Stage::Each(_) => instruments,
            Stage::System(_) | Stage::BreakerLevels | Stage::Trading => 1,
        }
    }

    /// How long one of its steps takes; none where that is chance.
    pub(super) fn step_ns(self, instruments: usize) -> Option<f64> {
        match self {
            Stage::System(_) | Stage::BreakerLevels => Some(10_000.0),
            Stage::Each(Step::Directory | Step::TradingAction | Step::RegSho | Step::Makers) => Some(5_000.0),
            Stage::Each(Step::Quotes | Step::OpeningImbalance) => Some(QUOTING_NS / instruments as f64),
            Stage::Each(Step::OpeningCross | Step::ClosingImbalance | Step::ClosingCross) => Some(20_000.0),
            Stage::Trading => None,
        }
    }

    /// Does one of its steps. (There is an instrument wherever there is a step for each.)
    pub(super) fn perform(self, instrument: Option<&mut Instrument>, writer: &mut MessageWriter) {
        match (self, instrument) {
            (Stage::System(event), _) => {
                writer.send(&SystemEvent { header: writer.header(SystemEvent::KIND, 0), event });
            }
            (Stage::BreakerLevels, _) => writer.send(&MwcbLevels {
                header: writer.header(MwcbLevels::KIND, 0),
                // 7, 13 and 20 % below 6,000.
                level1: U64::new(558_000_000_000),
                level2: U64::new(522_000_000_000),
                level3: U64::new(480_000_000_000),
            }),
            (Stage::Each(step), Some(instrument)) => step.perform(instrument, writer),
            (Stage::Each(_), None) | (Stage::Trading, _) => {}
        }
    }
}

impl Step {
    fn perform(self, instrument: &mut Instrument, writer: &mut MessageWriter) {
        match self {
            Step::Directory => instrument.directory(writer),
            Step::TradingAction => instrument.trading_action(b'T', *b"    ", writer),
            Step::RegSho => instrument.reg_sho(writer),
            Step::Makers => instrument.makers(writer),
            Step::Quotes => {
                instrument.add(On::Bids, writer);
                instrument.add(On::Asks, writer);
            }
            Step::OpeningImbalance => instrument.imbalance(b'O', writer),
            Step::OpeningCross => instrument.cross(b'O', writer),
            Step::ClosingImbalance => instrument.imbalance(b'C', writer),
            Step::ClosingCross => instrument.cross(b'C', writer),
        }
    }
}

/// How long each of the twelve rounds of quoting before the open takes.
const QUOTING_NS: f64 = 220_000_000.0;
