//! What is wrong with the feed goes to the log, but cannot flood it: the first of each kind at once, later ones as one
//! line an interval, with their number.

/// Kinds of complaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Messages are missing.
    Gap,
    /// Framing that could not be read.
    Malformed,
    /// A message that is none.
    Message,
    /// The ring took no frame or subject.
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct Complaints([State; KINDS.len()]);

#[derive(Debug, Default)]
struct State {
    logged_ns: Option<u64>,
    /// Since then, and the newest of them in words.
    silenced: u64,
    newest: String,
}

impl Complaints {
    /// Takes note of one; `what` is asked for its words only when they may be needed.
    pub(super) fn note(&mut self, kind: Kind, now_ns: u64, what: impl FnOnce() -> String) {
        let state = &mut self.0[kind as usize];
        match state.logged_ns {
            Some(then) if now_ns.saturating_sub(then) < INTERVAL_NS => {
                state.silenced += 1;
                // The words of one in so many are enough to report, and a flood costs next to nothing.
                if state.silenced.is_power_of_two() {
                    state.newest = what();
                }
            }
            _ => {
                state.flush(kind);
                state.logged_ns = Some(now_ns);
                tracing::warn!("{}: {}", kind.title(), what());
            }
        }
    }

    /// Reports what was held back.
    pub(super) fn flush(&mut self) {
        for (state, kind) in self.0.iter_mut().zip(KINDS) {
            state.flush(kind);
        }
    }
}

impl State {
    fn flush(&mut self, kind: Kind) {
        if self.silenced > 0 {
            tracing::warn!("{}: {} more, such as: {}", kind.title(), self.silenced, self.newest);
            self.silenced = 0;
        }
    }
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Kind::Gap => "gap in the feed",
            Kind::Malformed => "malformed feed",
            Kind::Message => "malformed message",
            Kind::Refused => "frame refused by the ring",
        }
    }
}

const KINDS: [Kind; 4] = [Kind::Gap, Kind::Malformed, Kind::Message, Kind::Refused];
const INTERVAL_NS: u64 = 10_000_000_000;
