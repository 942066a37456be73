//! The publisher: an open loop. The schedule decides when a message is due, and the message says so; how fast the
//! server takes messages does not matter. A delay of the publisher or of the server shows in the clients' latencies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use fanblade_swarm::window::Window;
use fanblade_wire::UnixNs;
use fanblade_wire::float::whole;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use super::definition::Phase;
use super::message;

/// Where messages go in: a server's input.
pub(crate) trait Outlet: Send {
    /// Takes a message of a subject; the outlet may keep it until [`Self::flush`].
    fn publish(&mut self, subject: u32, payload: &[u8]) -> anyhow::Result<()>;

    /// Sends the messages that it has kept.
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// A publisher at work, in a thread of its own.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<Published>>>,
}

/// What the publisher has done.
pub(crate) struct Published {
    /// Messages of the window, by subject.
    pub(crate) counts: Vec<u32>,
    /// The longest delay of the publisher itself within the window.
    pub(crate) late_max: Duration,
}

struct Shared {
    from_ns: AtomicU64,
    to_ns: AtomicU64,
    stops: AtomicBool,
}

/// What the publisher must do.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) subjects: u32,
    pub(crate) payload_len: usize,
    /// Whether each message names its subject.
    pub(crate) names_subjects: bool,
    /// Played one after the other, and again.
    pub(crate) phases: Vec<Phase>,
    pub(crate) cpu: Option<usize>,
}

impl Publisher {
    /// Begins to publish.
    pub(crate) fn start(schedule: Schedule, mut outlet: Box<dyn Outlet>) -> anyhow::Result<Publisher> {
        let shared = Shared {
            from_ns: AtomicU64::new(u64::MAX),
            to_ns: AtomicU64::new(u64::MAX),
            stops: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let thread = std::thread::Builder::new().name("publisher".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&schedule, outlet.as_mut(), &shared)
        })?;
        Ok(Publisher { shared, thread: Some(thread) })
    }

    /// Counts the messages that are due in this window, which must lie ahead.
    pub(crate) fn count(&self, window: Window) {
        self.shared.to_ns.store(window.to_ns, Relaxed);
        self.shared.from_ns.store(window.from_ns, Relaxed);
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<Published> {
        self.shared.stops.store(true, Relaxed);
        let thread = self.thread.take().context("the publisher was stopped already")?;
        thread.join().map_err(|_| anyhow!("the publisher has panicked"))?.context("cannot publish")
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.stops.store(true, Relaxed);
    }
}

fn run(schedule: &Schedule, outlet: &mut dyn Outlet, shared: &Shared) -> anyhow::Result<Published> {
    if let Some(cpu) = schedule.cpu {
        fanblade_net::affinity::pin_thread(cpu)?;
    }
    // Without the privilege the publisher is late more often, and says so.
    let _ = fanblade_measure::sys::run_first();
    let mut published = Published { counts: vec![0; schedule.subjects as usize], late_max: Duration::ZERO };
    let mut payload = Vec::new();
    let mut due = Due::new(&schedule.phases, schedule.subjects, UnixNs::now().0);
    while !shared.stops.load(Relaxed) {
        let now = UnixNs::now().0;
        let window = Window { from_ns: shared.from_ns.load(Relaxed), to_ns: shared.to_ns.load(Relaxed) };
        while due.at_ns() <= now {
            let at_ns = due.at_ns();
            let (subject, number) = due.next();
            let named = schedule.names_subjects.then_some(subject);
            message::write(&mut payload, named, number, at_ns, schedule.payload_len);
            outlet.publish(subject, &payload)?;
            if at_ns >= window.from_ns && at_ns < window.to_ns {
                published.counts[subject as usize] += 1;
                published.late_max = published.late_max.max(Duration::from_nanos(now - at_ns));
            }
        }
        outlet.flush()?;
        // Does not wake for each single message if there are very many.
        let wake_ns = due.at_ns().max(now + TICK_NS_MIN);
        let wake = TimeSpec::from_duration(Duration::from_nanos(wake_ns.min(now + TICK_NS_MAX)));
        // An interrupted sleep only means that it looks earlier than it must.
        let _ = clock_nanosleep(ClockId::CLOCK_REALTIME, ClockNanosleepFlags::TIMER_ABSTIME, &wake);
    }
    Ok(published)
}

/// When which message is due: the subjects take turns, evenly spread over each second of a phase.
struct Due<'a> {
    phases: &'a [Phase],
    subjects: u32,
    phase: usize,
    /// When the present phase began, and how many messages have been due in it.
    phase_begun_ns: u64,
    in_phase: u64,
    all: u64,
}

impl<'a> Due<'a> {
    fn new(phases: &'a [Phase], subjects: u32, now_ns: u64) -> Due<'a> {
        Due { phases, subjects, phase: 0, phase_begun_ns: now_ns, in_phase: 0, all: 0 }
    }

    fn at_ns(&mut self) -> u64 {
        loop {
            let Some(phase) = self.phases.get(self.phase) else { return u64::MAX };
            let per_s = phase.messages_per_s * f64::from(self.subjects);
            let at_s = self.in_phase as f64 / per_s;
            if at_s < phase.seconds {
                return self.phase_begun_ns + whole(at_s * 1e9);
            }
            self.phase_begun_ns += whole(phase.seconds * 1e9);
            self.in_phase = 0;
            self.phase = (self.phase + 1) % self.phases.len();
        }
    }

    /// Subject and number of the message that is due at [`Self::at_ns`].
    fn next(&mut self) -> (u32, u64) {
        let all = self.all;
        self.all += 1;
        self.in_phase += 1;
        #[expect(clippy::cast_possible_truncation, reason = "less than `subjects`")]
        let subject = (all % u64::from(self.subjects)) as u32;
        (subject, all / u64::from(self.subjects) + 1)
    }
}

/// The shortest time between two looks at the clock.
const TICK_NS_MIN: u64 = 100_000;
/// The longest time between them, to see in time whether to stop.
const TICK_NS_MAX: u64 = 50_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly_and_phases_follow_each_other() {
        let phases = [Phase { seconds: 1.0, messages_per_s: 2.0 }, Phase { seconds: 0.5, messages_per_s: 8.0 }];
        let mut due = Due::new(&phases, 2, 1_000);
        let all: Vec<_> = (0..14).map(|_| (due.at_ns() - 1_000, due.next())).collect();
        let expected_ms = [0, 250, 500, 750, 1000, 1062, 1125, 1187, 1250, 1312, 1375, 1437, 1500, 1750];
        assert_eq!(all.iter().map(|it| it.0 / 1_000_000).collect::<Vec<_>>(), expected_ms);
        assert_eq!(all.iter().map(|it| it.1).take(4).collect::<Vec<_>>(), [(0, 1), (1, 1), (0, 2), (1, 2)]);
        assert_eq!(Due::new(&[], 2, 0).at_ns(), u64::MAX);
    }
}
