//! What the screen shows, as plain values: no terminal, no clock, no network.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

use fanblade_admin::status::Status;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::collect::News;
use super::flows::{FlowRow, Flows};
use super::rates::{Rates, WorkerRow, quantiles};
use crate::commands::tap::meter::{self, SubjectRate};

/// All answers and key presses so far.
#[derive(Debug)]
pub(super) struct State {
    pub(super) address: String,
    pub(super) status: Option<Box<Status>>,
    pub(super) rates: Rates,
    /// Set while the last request had no answer.
    pub(super) lost: Option<Lost>,
    /// The newest is the last one.
    pub(super) history: VecDeque<Moment>,
    /// None: not yet known. The error says why it cannot be known.
    pub(super) subjects: Option<Result<meter::Rates, String>>,
    pub(super) flows: Option<Result<Flows, String>>,
    pub(super) focus: Pane,
    pub(super) is_paused: bool,
    pub(super) is_helping: bool,
    /// One entry per pane.
    sorts: [usize; Pane::ALL.len()],
    scrolls: [usize; Pane::ALL.len()],
}

/// Since when the blade has not answered, and why.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) since: Instant,
    pub(super) error: String,
}

/// The 99th percentiles of the two stages at one time, in nanoseconds; 0 where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) feed_to_publish: u64,
    pub(super) publish_to_send: u64,
}

/// The panes that can be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Feed,
    Latency,
    Workers,
    Subjects,
    Flows,
}

impl Pane {
    pub(super) const ALL: [Pane; 5] = [Pane::Feed, Pane::Latency, Pane::Workers, Pane::Subjects, Pane::Flows];

    pub(super) fn title(self) -> &'static str {
        match self {
            Pane::Feed => "Feed",
            Pane::Latency => "Latency",
            Pane::Workers => "Workers",
            Pane::Subjects => "Subjects",
            Pane::Flows => "Flows",
        }
    }

    /// Titles of the columns by which it can be sorted.
    fn sorts(self) -> &'static [&'static str] {
        match self {
            Pane::Feed | Pane::Latency => &[],
            Pane::Workers => &["worker", "sessions", "behind", "frames/s", "p99"],
            Pane::Subjects => &["frames/s", "JSON/s", "subject"],
            Pane::Flows => &["bit/s out", "bytes out", "lifetime"],
        }
    }

    /// The pane `step` further, in a circle.
    fn neighbour(self, step: usize) -> Pane {
        Pane::ALL[(self as usize + step) % Pane::ALL.len()]
    }
}

/// What a key press leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    Stay,
    Quit,
}

impl State {
    pub(super) fn new(address: &str) -> State {
        State {
            address: address.to_owned(),
            status: None,
            rates: Rates::default(),
            lost: None,
            history: VecDeque::with_capacity(HISTORY_LEN_MAX),
            subjects: None,
            flows: None,
            focus: Pane::Feed,
            is_paused: false,
            is_helping: false,
            sorts: [0; Pane::ALL.len()],
            scrolls: [0; Pane::ALL.len()],
        }
    }

    /// Whether everything is known that one picture can show.
    pub(super) fn is_complete(&self) -> bool {
        self.rates.messages.is_some() && self.subjects.is_some() && self.flows.is_some()
    }

    pub(super) fn take(&mut self, news: News) {
        // While paused the picture does not change, but a lost connection is still shown.
        match news {
            News::Status(Err(error)) => {
                let since = self.lost.as_ref().map_or_else(Instant::now, |lost| lost.since);
                self.lost = Some(Lost { since, error });
            }
            News::Status(Ok(status)) => {
                self.lost = None;
                if !self.is_paused {
                    self.take_status(status);
                }
            }
            _ if self.is_paused => {}
            News::Subjects(subjects) => self.subjects = Some(subjects),
            News::Flows(flows) => self.flows = Some(flows),
        }
        self.arrange();
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Reaction {
        if key.kind == KeyEventKind::Release {
            return Reaction::Stay;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if key.code == KeyCode::Char('q') || (is_control && key.code == KeyCode::Char('c')) {
            return Reaction::Quit;
        }
        // Any key closes the help.
        if std::mem::take(&mut self.is_helping) {
            return Reaction::Stay;
        }
        let scroll = &mut self.scrolls[self.focus as usize];
        match key.code {
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.focus = self.focus.neighbour(1),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => {
                self.focus = self.focus.neighbour(Pane::ALL.len() - 1);
            }
            KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *scroll += 1,
            KeyCode::PageUp => *scroll = scroll.saturating_sub(PAGE_ROWS),
            KeyCode::PageDown => *scroll += PAGE_ROWS,
            KeyCode::Home => *scroll = 0,
            KeyCode::End => *scroll = usize::MAX / 2,
            KeyCode::Char('s') => self.sort_otherwise(),
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('?') => self.is_helping = true,
            _ => {}
        }
        let last = self.rows(self.focus).saturating_sub(1);
        let scroll = &mut self.scrolls[self.focus as usize];
        *scroll = last.min(*scroll);
        Reaction::Stay
    }

    /// Title of the column by which a pane is sorted.
    pub(super) fn sorted_by(&self, pane: Pane) -> Option<&'static str> {
        pane.sorts().get(self.sorts[pane as usize]).copied()
    }

    /// Rows that are scrolled off the top.
    pub(super) fn scroll(&self, pane: Pane) -> usize {
        self.scrolls[pane as usize]
    }

    fn take_status(&mut self, status: Box<Status>) {
        self.rates = Rates::of(&status, self.status.as_deref());
        if self.status.as_ref().is_some_and(|before| before.pid != status.pid || before.uptime_ms > status.uptime_ms) {
            // The blade was started again.
            self.history.clear();
            self.subjects = None;
            self.flows = None;
        }
        if self.history.len() == HISTORY_LEN_MAX {
            self.history.pop_front();
        }
        let p99 = |stage| quantiles(stage).map_or(0, |(_, p99)| p99);
        self.history.push_back(Moment {
            feed_to_publish: p99(&status.latency_ns.feed_to_publish),
            publish_to_send: p99(&status.latency_ns.publish_to_send),
        });
        self.status = Some(status);
    }

    fn sort_otherwise(&mut self) {
        let sorts = self.focus.sorts().len();
        if let Some(next) = (self.sorts[self.focus as usize] + 1).checked_rem(sorts) {
            self.sorts[self.focus as usize] = next;
            self.arrange();
        }
    }

    /// Sorts all rows. The sort is stable, so that equal rows do not swap places.
    fn arrange(&mut self) {
        let [workers, subjects, flows] = [Pane::Workers, Pane::Subjects, Pane::Flows].map(|pane| self.sorted_by(pane));
        let highest = |value: Option<f64>| Reverse(value.unwrap_or(0.0).to_bits());
        let rows: &mut Vec<WorkerRow> = &mut self.rates.workers;
        rows.sort_by_key(|worker| worker.index);
        match workers {
            Some("sessions") => rows.sort_by_key(|worker| Reverse(worker.sessions)),
            Some("behind") => rows.sort_by_key(|worker| Reverse(worker.behind)),
            Some("frames/s") => rows.sort_by_key(|worker| highest(worker.frames)),
            Some("p99") => rows.sort_by_key(|worker| Reverse(worker.latency_ns.map(|(_, p99)| p99))),
            _ => {}
        }
        if let Some(Ok(rates)) = &mut self.subjects {
            let rows: &mut Vec<SubjectRate> = &mut rates.busiest;
            match subjects {
                Some("frames/s") => rows.sort_by_key(|row| highest(Some(row.frames_per_s))),
                Some("JSON/s") => rows.sort_by_key(|row| highest(Some(row.bytes_per_s))),
                _ => rows.sort_by(|a, b| a.subject.cmp(&b.subject)),
            }
        }
        if let Some(Ok(Flows { rows, .. })) = &mut self.flows {
            let rows: &mut Vec<FlowRow> = rows;
            match flows {
                Some("bit/s out") => rows.sort_by_key(|row| (highest(row.bits_out_per_s), Reverse(row.bytes_out))),
                Some("bytes out") => rows.sort_by_key(|row| Reverse(row.bytes_out)),
                _ => rows.sort_by_key(|row| Reverse(row.lifetime)),
            }
        }
    }

    fn rows(&self, pane: Pane) -> usize {
        match pane {
            Pane::Feed => self.rates.lines.len(),
            Pane::Latency => 0,
            Pane::Workers => self.rates.workers.len(),
            Pane::Subjects => self.subjects.iter().flatten().map(|rates| rates.busiest.len()).sum(),
            Pane::Flows => self.flows.iter().flatten().map(|flows| flows.rows.len()).sum(),
        }
    }
}

/// Five minutes, one moment a second: more than terminals have columns. The oldest goes.
pub(super) const HISTORY_LEN_MAX: usize = 300;
const PAGE_ROWS: usize = 10;

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;
    use fanblade_admin::status::{Line, Worker};

    fn press(state: &mut State, codes: &[KeyCode]) -> Reaction {
        codes.iter().fold(Reaction::Stay, |_, code| state.press(KeyEvent::from(*code)))
    }

    fn status(uptime_ms: u64, messages: u64) -> News {
        let mut status = Status { pid: 5, uptime_ms, ..Status::default() };
        status.feed.messages = messages;
        status.feed.lines = vec![Line::default(); 3];
        status.workers =
            [(0, 3), (1, 9), (2, 4)].map(|(index, sessions)| Worker { index, sessions, ..Worker::default() }).to_vec();
        News::Status(Ok(Box::new(status)))
    }

    fn subjects(rows: &[(&str, f64, f64)]) -> News {
        let busiest = rows
            .iter()
            .map(|(subject, frames_per_s, bytes_per_s)| SubjectRate {
                subject: (*subject).to_owned(),
                frames_per_s: *frames_per_s,
                bytes_per_s: *bytes_per_s,
                seq: 1,
                age_ns: 1,
            })
            .collect();
        News::Subjects(Ok(meter::Rates {
            epoch: String::new(),
            seconds: 1.0,
            frames_per_s: 0.0,
            bytes_per_s: 0.0,
            subjects: 9,
            subjects_busy: rows.len(),
            overtaken: 0,
            busiest,
        }))
    }

    fn order(state: &State) -> Vec<&str> {
        state.subjects.iter().flatten().flat_map(|rates| &rates.busiest).map(|row| row.subject.as_str()).collect()
    }

    #[test]
    fn panes_are_a_circle_and_each_has_its_order() {
        let mut state = State::new("blade:1");
        state.take(status(1000, 0));
        state.take(subjects(&[("/a", 2.0, 9000.0), ("/b", 30.0, 40.0), ("/c", 4.0, 500.0)]));
        assert_eq!(order(&state), ["/b", "/c", "/a"]);
        press(&mut state, &[KeyCode::Char('s')]);
        assert_eq!((state.focus, state.sorted_by(Pane::Feed)), (Pane::Feed, None), "nothing to sort by there");
        press(&mut state, &[KeyCode::Tab, KeyCode::Right, KeyCode::Char('s')]);
        assert_eq!((state.focus, state.sorted_by(Pane::Workers)), (Pane::Workers, Some("sessions")));
        assert_eq!(state.rates.workers.iter().map(|worker| worker.index).collect::<Vec<_>>(), [1, 2, 0]);
        press(&mut state, &[KeyCode::Right, KeyCode::Char('s')]);
        assert_eq!(order(&state), ["/a", "/c", "/b"], "by bytes");
        // Rows that come later are sorted in that order, too.
        state.take(subjects(&[("/x", 2.0, 1.0), ("/y", 1.0, 2.0)]));
        assert_eq!(order(&state), ["/y", "/x"]);
        press(&mut state, &[KeyCode::Char('s')]);
        assert_eq!(order(&state), ["/x", "/y"], "by name");
        press(&mut state, &[KeyCode::Right, KeyCode::Tab]);
        assert_eq!(state.focus, Pane::Feed);
        press(&mut state, &[KeyCode::BackTab]);
        assert_eq!(state.focus, Pane::Flows);
    }

    #[test]
    fn scrolling_ends_with_the_rows() {
        let mut state = State::new("blade:1");
        state.take(status(1000, 0));
        press(&mut state, &[KeyCode::Down; 9]);
        assert_eq!(state.scroll(Pane::Feed), 2);
        press(&mut state, &[KeyCode::Up]);
        assert_eq!(state.scroll(Pane::Feed), 1);
        press(&mut state, &[KeyCode::End]);
        assert_eq!(state.scroll(Pane::Feed), 2);
        press(&mut state, &[KeyCode::Home, KeyCode::Up, KeyCode::PageUp]);
        assert_eq!(state.scroll(Pane::Feed), 0);
        press(&mut state, &[KeyCode::Left, KeyCode::End, KeyCode::PageDown]);
        assert_eq!(state.scroll(Pane::Flows), 0, "nothing is there yet");
    }

    #[test]
    fn a_pause_keeps_the_picture_but_tells_a_loss() {
        let mut state = State::new("blade:1");
        state.take(status(1000, 0));
        press(&mut state, &[KeyCode::Char('p')]);
        state.take(status(2000, 70));
        state.take(subjects(&[("/a", 1.0, 1.0)]));
        assert_eq!((state.rates.messages, state.subjects.is_none()), (None, true));
        state.take(News::Status(Err("gone".to_owned())));
        let since = state.lost.as_ref().unwrap().since;
        state.take(News::Status(Err("still gone".to_owned())));
        let lost = state.lost.clone().unwrap();
        assert_eq!((lost.since, lost.error.as_str()), (since, "still gone"));
        press(&mut state, &[KeyCode::Char('p')]);
        state.take(status(3000, 100));
        assert!(state.lost.is_none());
        assert_eq!(state.rates.messages, Some(50.0));
        // The blade was started again: everything known of the previous one is forgotten.
        state.take(subjects(&[("/a", 1.0, 1.0)]));
        state.take(status(500, 10));
        assert_eq!((state.history.len(), state.subjects.is_none(), state.rates.messages), (1, true, None));
    }

    #[test]
    fn help_goes_with_any_key_and_quitting_works_everywhere() {
        let mut state = State::new("blade:1");
        assert_eq!(press(&mut state, &[KeyCode::Char('?')]), Reaction::Stay);
        assert!(state.is_helping);
        press(&mut state, &[KeyCode::Char('p')]);
        assert!(!state.is_helping && !state.is_paused);
        press(&mut state, &[KeyCode::Char('?')]);
        assert_eq!(press(&mut state, &[KeyCode::Char('q')]), Reaction::Quit);
        assert_eq!(state.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Reaction::Quit);
        assert_eq!(press(&mut state, &[KeyCode::Char('c')]), Reaction::Stay);
    }

    #[test]
    fn history_has_a_limit() {
        let mut state = State::new("blade:1");
        for second in 0..2 * HISTORY_LEN_MAX as u64 {
            state.take(status(second * 1000, 0));
        }
        assert_eq!(state.history.len(), HISTORY_LEN_MAX);
    }
}
