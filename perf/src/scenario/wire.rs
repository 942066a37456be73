//! A run from wire to wire: one packet of the exchange comes in, one frame goes out to each subscriber, and one clock
//! tells when each step happened.
//!
//! ```text
//! exchange ─packet─▶ kernel ─▶ sequencer ─▶ ring ─▶ worker ─frame─▶ kernel ─▶ client
//!                    stamp 1                stamp 2                 stamp 3   stamp 4
//! ```
//! 1: SO_TIMESTAMPNS of a second socket in the group, which has the same stamp for the same packet; 2: in the ring's
//! entry; 3: SO_TIMESTAMPNS of the client's socket, where loopback hands the segment over; 4: the clock, once the
//! client has the bytes. Exchange and clients are one thread, which does not sleep if it has a CPU of its own.

mod clients;
mod exchange;
mod stamps;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use fanblade_measure::cpu_time::cpu_time;
use fanblade_measure::report::rounded;
use fanblade_swarm::tally::{Latency, Position};
use fanblade_wire::UnixNs;
use fanblade_wire::float::whole;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde_json::{Value, json};

use super::cpus::Cpus;
use super::definition::Scenario;
use super::results::Run;
use super::server::blade::{Blade, merge};
use super::server::{Server as _, ServerKind};
use clients::{Clients, Receipt};
use exchange::Exchange;

pub(super) fn run(scenario: &Scenario, kind: ServerKind, cpus: &Cpus) -> anyhow::Result<Run> {
    ensure!(kind == ServerKind::Blade, "a run from wire to wire can follow only the blade: use --server blade");
    let timetable = Timetable::new(scenario)?;
    let mut blade = Blade::launch(configuration(scenario, cpus)?, &scenario.mode, &cpus.server)?;
    let published = stamps::Ring::of(blade.pid())?;
    // The exchange's packet begins the session, before anybody subscribes.
    let exchange = Exchange::open(exchange::GROUP)?;
    let cpu = cpus.clients.first().copied().context("no CPU for the clients")?;
    let is_alone = !cpus.server.contains(&cpu);
    let clients = Clients::connect(blade.addr(), exchange::SUBJECT, scenario.subscribers)?;
    // Pins a thread of its own, because children of this thread would inherit its CPU.
    let played = std::thread::scope(|scope| {
        let player = scope.spawn(|| {
            fanblade_net::affinity::pin_thread(cpu)?;
            Player::new(timetable, exchange, clients, is_alone)?.play(|| cpu_time(&[blade.pid()]))
        });
        player.join().map_err(|_| anyhow::anyhow!("the clients' thread has panicked"))?
    })?;
    let published = published.times(timetable.messages)?;
    // The blade renews its figures of the last seconds every second.
    std::thread::sleep(Duration::from_millis(1_100));
    let (counters, configuration) = (blade.counters()?, blade.configuration());
    blade.kill();
    Ok(result(&played, &published, timetable, scenario, &counters, configuration))
}

/// The blade's configuration: what the measurement needs, and what the scenario wants.
fn configuration(scenario: &Scenario, cpus: &Cpus) -> anyhow::Result<toml::Table> {
    let line = format!("{}@lo", exchange::GROUP);
    // With two CPUs each thread of the data path has one of its own.
    let pinned = if let [sequencer, worker, ..] = cpus.server[..] { vec![sequencer, worker] } else { Vec::new() };
    let mut table = toml::Table::try_from(json!({
        "feed": {"source": "moldudp64", "moldudp64": {"lines": [line], "join": "live"}},
        "data": {"listen": "127.0.0.1:0", "workers": 1, "cpus": pinned},
        "admin": {"listen": "127.0.0.1:0"},
        "ebpf": {"enabled": false},
        // No pings: the clients only listen.
        "limits": {"ping_interval_ms": "600s"},
        "log": {"level": "warn"},
    }))?;
    merge(&mut table, &scenario.blade);
    Ok(table)
}

/// When each message is due: an open loop.
#[derive(Debug, Clone, Copy)]
struct Timetable {
    /// Messages of warm-up and window together; the first has number 1.
    messages: u64,
    warmup: u64,
    interval_ns: u64,
}

impl Timetable {
    fn new(scenario: &Scenario) -> anyhow::Result<Timetable> {
        let per_s = scenario.messages_per_s();
        ensure!(per_s > 0.0, "a run from wire to wire needs a phase with `messages_per_s` above 0");
        let (warmup, window) = (whole(scenario.warmup_s * per_s), whole(scenario.duration_s * per_s));
        let messages = warmup + window;
        ensure!(window > 0, "no message is due in {} s", scenario.duration_s);
        ensure!(
            messages <= MESSAGES_MAX,
            "{messages} messages are more than the ring keeps ({MESSAGES_MAX}): shorten --duration"
        );
        let copies = messages * u64::from(scenario.subscribers);
        ensure!(
            copies <= COPIES_MAX,
            "{copies} copies are more than can be recorded one by one ({COPIES_MAX}): use fewer --subscribers"
        );
        Ok(Timetable { messages, warmup, interval_ns: whole(1e9 / per_s) })
    }
}

/// Exchange and clients at work.
struct Player {
    timetable: Timetable,
    exchange: Exchange,
    stamps: stamps::Kernel,
    clients: Clients,
    epoll: Epoll,
    /// Set to when the next packet is due; none if the thread does not sleep.
    timer: Option<TimerFd>,
}

/// What the player has seen. Message number n is at index n - 1; `receipts` has a row for each message.
struct Played {
    /// When the kernel received each packet.
    received_ns: Vec<u64>,
    receipts: Vec<Receipt>,
    clients: usize,
    late_max_ns: u64,
    cpu: Duration,
}

impl Player {
    fn new(timetable: Timetable, exchange: Exchange, clients: Clients, is_alone: bool) -> anyhow::Result<Player> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stamps = stamps::Kernel::join(exchange::GROUP, timetable.messages)?;
        for (client, stream) in clients.streams().enumerate() {
            epoll.add(stream, EpollEvent::new(EpollFlags::EPOLLIN, client as u64))?;
        }
        epoll.add(&stamps, EpollEvent::new(EpollFlags::EPOLLIN, STAMPS))?;
        let timer = (!is_alone).then(|| TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK)).transpose()?;
        if let Some(timer) = &timer {
            epoll.add(timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        }
        Ok(Player { timetable, exchange, stamps, clients, epoll, timer })
    }

    /// Sends each packet when it is due, and takes the copies that come meanwhile, until all have come or the last one
    /// is too late.
    fn play(mut self, cpu_time: impl Fn() -> anyhow::Result<Duration>) -> anyhow::Result<Played> {
        let Timetable { messages, warmup, interval_ns } = self.timetable;
        let copies = usize::try_from(messages)? * self.clients.len();
        let mut receipts = vec![Receipt::default(); copies];
        let (mut sent, mut late_max_ns, mut cpu_before) = (0, 0, Duration::ZERO);
        let mut due_ns = UnixNs::now().0 + LEAD_NS;
        let mut events = [EpollEvent::empty(); 64];
        self.sleep_until(due_ns)?;
        let mut left = copies;
        while left > 0 {
            let now = UnixNs::now().0;
            if now >= due_ns {
                if sent == messages {
                    // Messages that have not come by now are lost.
                    break;
                }
                if sent == warmup {
                    cpu_before = cpu_time()?;
                }
                self.exchange.send()?;
                sent += 1;
                late_max_ns = if sent > warmup { late_max_ns.max(now - due_ns) } else { 0 };
                due_ns += if sent == messages { PATIENCE_NS } else { interval_ns };
                self.sleep_until(due_ns)?;
            }
            let timeout = if self.timer.is_some() { EpollTimeout::NONE } else { EpollTimeout::ZERO };
            let count = self.epoll.wait(&mut events, timeout).or_else(again)?;
            for event in &events[..count] {
                match event.data() {
                    STAMPS => self.stamps.take()?,
                    // It has woken the thread, and there is nothing else to do.
                    TIMER => {}
                    client => left -= self.clients.receive(usize::try_from(client)?, &mut receipts)?,
                }
            }
        }
        let cpu = cpu_time()? - cpu_before;
        self.stamps.take()?;
        Ok(Played { received_ns: self.stamps.times, receipts, clients: self.clients.len(), late_max_ns, cpu })
    }

    fn sleep_until(&self, ns: u64) -> anyhow::Result<()> {
        let Some(timer) = &self.timer else { return Ok(()) };
        let at = TimeSpec::from_duration(Duration::from_nanos(ns));
        Ok(timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }
}

/// An interruption by a signal is no event.
fn again(errno: nix::Error) -> nix::Result<usize> {
    if errno == nix::Error::EINTR { Ok(0) } else { Err(errno) }
}

/// Makes figures of what was seen of each copy in the window.
fn result(
    played: &Played,
    published_ns: &[u64],
    timetable: Timetable,
    scenario: &Scenario,
    counters: &Value,
    configuration: Value,
) -> Run {
    // Records the latency of each copy in the window: as a whole, by stage, and by place in the fan-out.
    let mut all = Latency::default();
    let mut position = Position::default();
    let mut stages = [const { None }; STAGES.len()].map(|_: Option<()>| Latency::default());
    let (mut delivered, mut unseen) = (0u64, 0u64);
    let rows = played.receipts.chunks_exact(played.clients).zip(&played.received_ns).zip(published_ns);
    for ((row, &received_ns), &published_ns) in rows.skip(usize::try_from(timetable.warmup).unwrap_or(usize::MAX)) {
        // A packet without both stamps has no stages; its copies count as lost.
        if received_ns == 0 || published_ns == 0 {
            unseen += 1;
            continue;
        }
        let mut row: Vec<&Receipt> = row.iter().filter(|receipt| receipt.taken_ns > 0).collect();
        // The rank is the place in the fan-out.
        row.sort_by_key(|receipt| receipt.taken_ns);
        for (rank, receipt) in (1..).zip(&row) {
            let times = [received_ns, published_ns, receipt.arrived_ns, receipt.taken_ns];
            for (stage, step) in stages.iter_mut().zip(times.windows(2)) {
                stage.record(step[1].saturating_sub(step[0]));
            }
            let latency_ns = receipt.taken_ns.saturating_sub(received_ns);
            all.record(latency_ns);
            position.record(rank, scenario.subscribers, latency_ns);
        }
        delivered += row.len() as u64;
    }
    // Every client should have a copy of each packet.
    let packets = timetable.messages - timetable.warmup;
    let expected = packets * u64::from(scenario.subscribers);
    let lost = expected - delivered;
    // The figures, a line for people, and what went wrong.
    let latency = all.percentiles();
    let stages: serde_json::Map<_, _> =
        STAGES.iter().zip(&stages).map(|(name, stage)| ((*name).to_owned(), stage.percentiles())).collect();
    let summary = format!(
        "p50 {} p99 {} p99.9 {} max {} µs; medians of the stages: {}; {lost} of {expected} lost",
        latency["p50"],
        latency["p99"],
        latency["p999"],
        latency["max"],
        STAGES.map(|name| format!("{name} {}", stages[name]["p50"])).join(", "),
    );
    let failure = (lost > 0).then(|| format!("{lost} of {expected} copies were not seen ({unseen} packets)"));
    let figures = json!({
        "packets": packets,
        "delivered": delivered,
        "expected": expected,
        "lost": lost,
        "exchange_late_max_us": played.late_max_ns / 1_000,
        "latency_us": latency,
        "latency_ccdf": all.ccdf(),
        "stages_us": stages,
        "position": position.report(),
        "server_cpu_percent": rounded(100.0 * played.cpu.as_secs_f64() / scenario.duration_s, 1),
        "server_counters": counters,
    });
    let p50 = latency["p50"].as_f64().unwrap_or(f64::MAX);
    Run { cost_us: p50, figures, configuration, summary, failure }
}

/// The stages of a copy, in their order.
const STAGES: [&str; 3] = ["kernel_to_publish", "publish_to_frame", "frame_to_client"];
/// Entries that the ring keeps at least, by the blade's default settings.
const MESSAGES_MAX: u64 = 100_000;
/// Each copy takes 16 bytes.
const COPIES_MAX: u64 = 20_000_000;
const LEAD_NS: u64 = 100_000_000;
/// How long to wait for the last message.
const PATIENCE_NS: u64 = 2_000_000_000;
const STAMPS: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
