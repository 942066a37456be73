//! What came by which line.

use super::clock::Running;
use crate::limits::ARRIVALS_LEN;
use crate::{Event, Line, Trouble, UnixNs};

/// The lines, and which packets came by which of them lately.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<State>,
    arrivals: Box<[Arrival]>,
    /// A hole on a line that closes within this time was none.
    reorder_ns: u64,
    silent_ns_max: u64,
}

#[derive(Debug)]
struct State {
    line: Line,
    /// The number after the highest that came by it in this session, and when it did; 0 before the first.
    next: u64,
    next_ns: Running,
    last_ns: Option<Running>,
    /// Holes that may close yet: the newest, the oldest first.
    holes: [Option<(u64, u64, Running)>; HOLES_LEN],
    lead_ns_sum: u64,
    leads: u64,
    is_silent: bool,
    is_back: bool,
}

/// When and where a packet came first.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    sequence: u64,
    received_ns: UnixNs,
    line: usize,
}

impl Lines {
    pub(super) fn new(names: &[String], reorder_ns: u64, silent_ns_max: u64) -> Self {
        let state = |name: &String| State {
            line: Line {
                name: name.clone(),
                packets: 0,
                bytes: 0,
                wins: 0,
                gaps: 0,
                kernel_drops: 0,
                lead_ns_mean: 0,
                lead_ns_max: 0,
                silent_ns: None,
            },
            next: 0,
            next_ns: Running::ZERO,
            last_ns: None,
            holes: [None; HOLES_LEN],
            lead_ns_sum: 0,
            leads: 0,
            is_silent: false,
            is_back: false,
        };
        let arrivals = vec![Arrival { sequence: 0, received_ns: UnixNs::default(), line: 0 }; ARRIVALS_LEN].into();
        Self { lines: names.iter().map(state).collect(), arrivals, reorder_ns, silent_ns_max }
    }

    /// A packet has come, of whatever kind.
    pub(super) fn packet(&mut self, line: usize, len: usize, now_ns: Running) {
        if let Some(state) = self.lines.get_mut(line) {
            state.line.packets += 1;
            state.line.bytes += len as u64;
            state.last_ns = Some(now_ns);
        }
    }

    /// The packet has the messages `from..to` of the session under way; `expected` comes next, and that is sure, or one
    /// packet has named more that nobody else knows.
    pub(super) fn position(
        &mut self,
        line: usize,
        (from, to): (u64, u64),
        (expected, is_sure): (u64, bool),
        now_ns: Running,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let Some(state) = self.lines.get_mut(line) else { return };
        state.count_holes(now_ns - self.reorder_ns);
        if state.next != 0 && from > state.next {
            state.note_hole(state.next, from, now_ns);
        } else if from < state.next {
            state.close_hole(from, to);
        }
        if to > state.next || state.next == 0 {
            (state.next, state.next_ns, state.is_back) = (to, now_ns, false);
        } else if to < state.next && now_ns.since(state.next_ns) > BACK_NS_MIN && !state.is_back && is_sure {
            state.is_back = true;
            let (line, from_sequence) = (state.line.name.as_str(), state.next);
            sink(Event::Trouble(Trouble::LineWentBack { line, from_sequence, sequence: to, expected }));
        }
    }

    /// The packet brought something that was not there.
    pub(super) fn won(&mut self, line: usize, sequence: u64, received_ns: UnixNs) {
        if let Some(state) = self.lines.get_mut(line) {
            state.line.wins += 1;
            if let Some(arrival) = self.arrivals.get_mut(place_of(sequence)) {
                *arrival = Arrival { sequence, received_ns, line };
            }
        }
    }

    /// The packet brought nothing new: another line was faster.
    pub(super) fn lost(&mut self, line: usize, sequence: u64, received_ns: UnixNs) {
        let Some(arrival) = self.arrivals.get_mut(place_of(sequence)) else { return };
        if arrival.sequence != sequence || arrival.line == line {
            return;
        }
        let Some(winner) = self.lines.get_mut(arrival.line) else { return };
        let lead_ns = received_ns.since(arrival.received_ns);
        // The next line counts, not the one after it.
        arrival.sequence = 0;
        winner.leads += 1;
        winner.lead_ns_sum = winner.lead_ns_sum.saturating_add(lead_ns);
        winner.line.lead_ns_max = winner.line.lead_ns_max.max(lead_ns);
    }

    /// The kernel's count of packets that it dropped.
    pub(super) fn set_kernel_drops(&mut self, line: usize, drops: u64) {
        if let Some(state) = self.lines.get_mut(line) {
            state.line.kernel_drops = drops;
        }
    }

    /// Numbers from `end` on do not exist after all.
    pub(super) fn retract(&mut self, end: u64) {
        for state in &mut self.lines {
            state.next = state.next.min(end);
        }
    }

    /// Numbers begin anew.
    pub(super) fn reset(&mut self) {
        for state in &mut self.lines {
            state.count_holes(Running(u64::MAX));
            (state.next, state.is_back) = (0, false);
        }
    }

    /// Takes note of lines that say nothing while others do.
    pub(super) fn check(&mut self, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        let newest_ns = self.lines.iter().filter_map(|state| state.last_ns).max();
        for state in &mut self.lines {
            state.count_holes(now_ns - self.reorder_ns);
            // One that has never said anything is measured by the one that said something first.
            let Some(newest_ns) = newest_ns else { continue };
            let last_ns = *state.last_ns.get_or_insert(newest_ns);
            let silent_ns = now_ns.since(last_ns);
            let is_silent = silent_ns > self.silent_ns_max && newest_ns.since(last_ns) > self.silent_ns_max / 2;
            let line = state.line.name.as_str();
            if is_silent && !state.is_silent {
                state.is_silent = true;
                sink(Event::Trouble(Trouble::LineSilent { line, silent_ms: silent_ns / 1_000_000 }));
            } else if state.is_silent && silent_ns <= self.silent_ns_max {
                state.is_silent = false;
                sink(Event::Trouble(Trouble::LineBack { line }));
            }
        }
    }

    pub(super) fn report(&self, now_ns: Running) -> Vec<Line> {
        let report = |state: &State| Line {
            lead_ns_mean: state.lead_ns_sum.checked_div(state.leads).unwrap_or(0),
            silent_ns: (state.line.packets > 0).then_some(state.last_ns).flatten().map(|last_ns| now_ns.since(last_ns)),
            ..state.line.clone()
        };
        self.lines.iter().map(report).collect()
    }
}

impl State {
    /// Holes found before this time will not close any more.
    fn count_holes(&mut self, before_ns: Running) {
        for hole in &mut self.holes {
            if hole.is_some_and(|(_, _, found_ns)| found_ns <= before_ns) {
                *hole = None;
                self.line.gaps += 1;
            }
        }
    }

    fn note_hole(&mut self, from: u64, to: u64, now_ns: Running) {
        self.holes.rotate_right(1);
        if let Some(first) = self.holes.first_mut()
            && first.replace((from, to, now_ns)).is_some()
        {
            // The oldest had to make room.
            self.line.gaps += 1;
        }
    }

    /// The numbers `from..to` were late. Usually they are a whole hole, or its beginning or end.
    fn close_hole(&mut self, from: u64, to: u64) {
        for hole in &mut self.holes {
            let Some((hole_from, hole_to, _)) = hole else { continue };
            if from <= *hole_from {
                *hole_from = to.max(*hole_from);
            } else if to >= *hole_to {
                *hole_to = from.min(*hole_to);
            }
            if hole_from >= hole_to {
                *hole = None;
            }
        }
    }
}

/// Numbers of packets rise by some thirty: multiplied they spread evenly.
fn place_of(sequence: u64) -> usize {
    let spread = sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - ARRIVALS_LEN.ilog2());
    usize::try_from(spread).unwrap_or(usize::MAX)
}

const HOLES_LEN: usize = 8;
/// A line that goes on below where it was so long ago is not late: it began again.
const BACK_NS_MIN: u64 = 100_000_000;
