//! What is wrong with the feed goes to the log, but cannot flood it: the first of each kind at once, later ones as one
//! line an interval, with their number.

/// Messages are missing.
pub(super) const GAP: &str = "gap in the feed";
/// Framing that could not be read.
pub(super) const MALFORMED: &str = "malformed feed";
/// A message that is none.
pub(super) const MESSAGE: &str = "malformed message";
/// The ring took no frame or subject.
pub(super) const REFUSED: &str = "frame refused by the ring";

/// By kind, which is what a line begins with. Kinds are few: they are named in the code.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<(&'static str, State)>);

#[derive(Debug, Default)]
struct State {
    logged_ns: Option<u64>,
    /// Since then, and the newest of them in words.
    silenced: u64,
    newest: String,
}

impl Complaints {
    /// Takes note of one; `what` is asked for its words only when they may be needed.
    pub(super) fn note(&mut self, kind: &'static str, now_ns: u64, what: impl FnOnce() -> String) {
        let known = self.0.iter().position(|(known, _)| *known == kind);
        let at = known.unwrap_or_else(|| {
            self.0.push((kind, State::default()));
            self.0.len() - 1
        });
        let state = &mut self.0[at].1;
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
                tracing::warn!("{kind}: {}", what());
            }
        }
    }

    /// Reports what was held back.
    pub(super) fn flush(&mut self) {
        for (kind, state) in &mut self.0 {
            state.flush(kind);
        }
    }
}

impl State {
    fn flush(&mut self, kind: &str) {
        if self.silenced > 0 {
            tracing::warn!("{kind}: {} more, such as: {}", self.silenced, self.newest);
            self.silenced = 0;
        }
    }
}

const INTERVAL_NS: u64 = 10_000_000_000;
