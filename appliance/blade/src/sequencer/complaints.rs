//! Logs what is wrong with the feed without flooding the log: the first complaint of each kind at once, later ones as
//! one line per interval, with their number.

use fanblade_feed::UnixNs;

/// Messages are missing.
pub(super) const GAP: &str = "gap in the feed";
/// Framing that could not be read.
pub(super) const MALFORMED: &str = "malformed feed";
/// A message that cannot be parsed.
pub(super) const MESSAGE: &str = "malformed message";
/// The ring refused a frame or a subject.
pub(super) const REFUSED: &str = "frame refused by the ring";

/// Complaints by kind, which is what a log line begins with. All kinds are named in the code, and few.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<(&'static str, State)>);

#[derive(Debug, Default)]
struct State {
    logged_ns: Option<UnixNs>,
    /// Complaints since then, and the text of a recent one.
    silenced: u64,
    newest: String,
}

impl Complaints {
    /// Notes a complaint; `what` is called only if its text may be needed.
    pub(super) fn note(&mut self, kind: &'static str, now_ns: UnixNs, what: impl FnOnce() -> String) {
        let known = self.0.iter().position(|(known, _)| *known == kind);
        let at = known.unwrap_or_else(|| {
            self.0.push((kind, State::default()));
            self.0.len() - 1
        });
        let state = &mut self.0[at].1;
        match state.logged_ns {
            Some(then) if now_ns.since(then) < INTERVAL_NS => {
                state.silenced += 1;
                // Few of the texts are enough to report, and a flood costs next to nothing.
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

    /// Logs the complaints that were held back.
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
