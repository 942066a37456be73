//! What the clients have counted.

use std::collections::BTreeMap;

use fanblade_swarm_abi::{CLOSES, Counters};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::frames::FrameFault;
use super::plan::Habit;

/// All counts of a window.
pub struct Tally {
    readers: Class,
    slow: Class,
    stalled: Class,
    pub(crate) position: Position,
    pub(crate) changed: Changed,
    /// For each subject that lists held throughout: messages of the window that any client has seen.
    pub(crate) subjects_seen: Vec<Option<u32>>,
}

/// Lists that were changed within the window, and how long the server took for the changes.
#[derive(Default)]
pub(crate) struct Changed {
    pub(crate) made: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    /// From the request to the last reply.
    pub(crate) latency: Latency,
}

/// The counts of clients that read in the same way.
#[derive(Default)]
pub(crate) struct Class {
    pub(crate) clients: u64,
    /// Messages of the window, each counted once.
    pub(crate) messages: u64,
    /// Messages that were published before the window or after it.
    pub(crate) outside: u64,
    /// Messages without a timestamp: replies, notices.
    pub(crate) others: u64,
    pub(crate) bytes: u64,
    /// Numbers left out between two messages of a client, in the window or not.
    pub(crate) missing: u64,
    /// Places where numbers were left out.
    pub(crate) gaps: u64,
    /// Messages that came again, or behind a later one.
    pub(crate) repeated: u64,
    /// Messages of a subject that the client does not have.
    pub(crate) unasked: u64,
    /// Messages that came first after a change, but are from before it.
    pub(crate) snapshots: u64,
    pub(crate) pings: u64,
    /// Messages of the window that were due for sure by the lists; counted only if there are lists.
    pub(crate) due: u64,
    /// Messages of the window that a client should have got and has not.
    pub(crate) lost: u64,
    /// Clients that have lost messages.
    pub(crate) losers: u64,
    pub(crate) lost_most: u64,
    /// Close frames by code.
    closes: BTreeMap<u16, u64>,
    /// Connections that ended without a close frame.
    ended: u64,
    faults: u64,
    /// The first thing that went wrong with a connection.
    example: Option<String>,
    pub(crate) latency: Latency,
}

/// Latencies by the position in the fan-out: whether a client was the first of its subject's to get a message, the
/// second, and so on.
#[derive(Default)]
pub struct Position {
    first: Latency,
    last: Latency,
    /// Count and sum in nanoseconds of each tenth of the clients.
    tenths: [(u64, u64); 10],
}

/// Nanoseconds from a message's timestamp to its receipt.
#[derive(Clone)]
pub struct Latency(Histogram<u64>);

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            readers: Class::default(),
            slow: Class::default(),
            stalled: Class::default(),
            position: Position::default(),
            changed: Changed::default(),
            subjects_seen: Vec::new(),
        }
    }

    /// Takes what the program of the xdp engine has counted in a window. All its subscribers are readers.
    pub(crate) fn take_counters(&mut self, counters: &Counters, latency: &Latency) {
        let it = &mut self.readers;
        it.messages += counters.messages;
        it.outside += counters.outside;
        it.others += counters.others;
        it.bytes += counters.bytes;
        it.missing += counters.missing;
        it.gaps += counters.gaps;
        it.repeated += counters.repeated;
        it.pings += counters.pongs;
        it.ended += counters.ended + counters.resets;
        it.faults += counters.torn + counters.heads_lost;
        for (code, count) in (1_000..).zip(counters.closes).filter(|(_, count)| *count > 0) {
            // The last place is for all codes that have none of their own (RFC 6455, 7.1.5: 1005 stands for no code).
            let code = if code == CODE_OTHER { 1_005 } else { code };
            *it.closes.entry(code).or_default() += count;
        }
        it.latency.merge(latency);
    }

    pub(crate) fn class(&mut self, habit: Habit) -> &mut Class {
        match habit {
            Habit::Reader => &mut self.readers,
            Habit::Slow => &mut self.slow,
            Habit::Stalled => &mut self.stalled,
        }
    }

    /// Numbers that readers are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.readers.missing
    }

    pub(crate) fn messages(&self) -> u64 {
        self.readers.messages + self.slow.messages + self.stalled.messages
    }

    /// The first thing that went wrong with a connection.
    pub(crate) fn trouble(&self) -> Option<&str> {
        [&self.readers, &self.slow, &self.stalled].into_iter().find_map(|class| class.example.as_deref())
    }

    pub(crate) fn merge(&mut self, other: Tally) {
        self.readers.merge(other.readers);
        self.slow.merge(other.slow);
        self.stalled.merge(other.stalled);
        self.position.merge(&other.position);
        self.changed.merge(&other.changed);
    }

    /// Complaints about the server; there are none if every client that reads has got everything once and is still
    /// connected.
    pub fn complaints(&self) -> Vec<String> {
        let it = &self.readers;
        let mut complaints = Vec::new();
        let mut complain = |count: u64, what: &str| {
            if count > 0 {
                complaints.push(format!("{count} {what}"));
            }
        };
        complain(it.lost, "messages lost");
        complain(it.missing, "messages missing in a client's sequence");
        complain(it.repeated, "messages repeated");
        complain(it.unasked, "messages that nobody has asked for");
        complain(self.changed.refused, "changes refused");
        complain(self.changed.unanswered, "changes without an answer");
        complain(it.faults, "streams torn");
        complain(it.closes.values().sum(), "connections closed by the server");
        complain(it.ended, "connections ended by the server without a close frame");
        if let Some(example) = &it.example {
            complaints.push(example.clone());
        }
        complaints
    }

    /// The figures for a result, as a JSON object.
    pub fn report(&self) -> Value {
        let mut report = self.readers.report();
        report["position"] = self.position.report();
        if !self.subjects_seen.is_empty() {
            let Class { unasked, snapshots, due, .. } = &self.readers;
            (report["unasked"], report["snapshots"]) = ((*unasked).into(), (*snapshots).into());
            report["due"] = (*due).into();
            report["changes"] = self.changed.report();
            report["subjects_seen"] = self.subjects_seen.clone().into();
        }
        for (name, class) in [("slow", &self.slow), ("stalled", &self.stalled)] {
            if class.clients > 0 {
                report[name] = class.report();
            }
        }
        report
    }
}

impl Class {
    /// Counts a client that has received `messages` of `expected` messages.
    pub(crate) fn client(&mut self, messages: u32, expected: u32) {
        let lost = u64::from(expected.saturating_sub(messages));
        self.clients += 1;
        self.lost += lost;
        self.losers += u64::from(lost > 0);
        self.lost_most = self.lost_most.max(lost);
    }

    /// Counts a client with a list: what it should have received for sure, and what it has lost of that.
    pub(crate) fn client_with_list(&mut self, due: u64, lost: u64) {
        self.clients += 1;
        self.due += due;
        self.lost += lost;
        self.losers += u64::from(lost > 0);
        self.lost_most = self.lost_most.max(lost);
    }

    /// Keeps an example of something wrong that is counted elsewhere.
    pub(crate) fn wrong(&mut self, what: String) {
        self.example.get_or_insert(what);
    }

    pub(crate) fn closed(&mut self, code: u16, reason: &[u8]) {
        *self.closes.entry(code).or_default() += 1;
        self.example.get_or_insert_with(|| format!("closed with {code}: {}", String::from_utf8_lossy(reason)));
    }

    pub(crate) fn ended(&mut self, errno: i32) {
        self.ended += 1;
        self.example.get_or_insert_with(|| match errno {
            0 => "the server ended a connection without a close frame".to_owned(),
            errno => format!("a connection ended: {}", std::io::Error::from_raw_os_error(errno)),
        });
    }

    pub(crate) fn fault(&mut self, client: u32, fault: FrameFault) {
        self.faults += 1;
        self.example.get_or_insert_with(|| format!("client {client}: {fault}"));
    }

    fn merge(&mut self, other: Class) {
        self.clients += other.clients;
        self.messages += other.messages;
        self.outside += other.outside;
        self.others += other.others;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.gaps += other.gaps;
        self.repeated += other.repeated;
        self.unasked += other.unasked;
        self.snapshots += other.snapshots;
        self.pings += other.pings;
        self.due += other.due;
        self.lost += other.lost;
        self.losers += other.losers;
        self.lost_most = self.lost_most.max(other.lost_most);
        self.ended += other.ended;
        self.faults += other.faults;
        for (code, count) in other.closes {
            *self.closes.entry(code).or_default() += count;
        }
        self.example = self.example.take().or(other.example);
        self.latency.merge(&other.latency);
    }

    fn report(&self) -> Value {
        let closes: Map<_, _> = self.closes.iter().map(|(code, count)| (code.to_string(), (*count).into())).collect();
        json!({
            "clients": self.clients,
            "delivered": self.messages,
            "lost": self.lost,
            "clients_with_loss": self.losers,
            "lost_most": self.lost_most,
            "missing": self.missing,
            "gaps": self.gaps,
            "repeated": self.repeated,
            "outside_window": self.outside,
            "other_messages": self.others,
            "bytes": self.bytes,
            "pings_answered": self.pings,
            "closed": closes,
            "ended": self.ended,
            "torn": self.faults,
            "latency_us": self.latency.percentiles(),
            "latency_ccdf": self.latency.ccdf(),
        })
    }
}

impl Changed {
    fn merge(&mut self, other: &Changed) {
        self.made += other.made;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.latency.merge(&other.latency);
    }

    fn report(&self) -> Value {
        json!({
            "made": self.made,
            "refused": self.refused,
            "unanswered": self.unanswered,
            "reply_us": self.latency.percentiles(),
        })
    }
}

impl Position {
    /// Records that a client received a message of `members` clients as number `rank` of them, from 1.
    pub fn record(&mut self, rank: u32, members: u32, latency_ns: u64) {
        if rank == 1 {
            self.first.record(latency_ns);
        }
        if rank == members {
            self.last.record(latency_ns);
        }
        let tenth = u64::from(rank - 1) * 10 / u64::from(members.max(rank));
        let (count, sum) = &mut self.tenths[usize::try_from(tenth).unwrap_or_default()];
        *count += 1;
        *sum += latency_ns;
    }

    fn merge(&mut self, other: &Position) {
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        for ((count, sum), (more, of)) in self.tenths.iter_mut().zip(&other.tenths) {
            *count += more;
            *sum += of;
        }
    }

    /// Latencies of the first and the last receivers, and the means of each tenth of them.
    pub fn report(&self) -> Value {
        let mean = |&(count, sum): &(u64, u64)| (count > 0).then(|| rounded(sum as f64 / count as f64 / 1e3));
        json!({
            "first_us": self.first.percentiles(),
            "last_us": self.last.percentiles(),
            "tenths_mean_us": self.tenths.iter().map(mean).collect::<Vec<_>>(),
        })
    }
}

impl Default for Latency {
    fn default() -> Self {
        let bounds = Histogram::new_with_bounds(NS_MIN, NS_MAX, 3);
        // The bounds are constants, and a test makes one.
        Latency(bounds.unwrap_or_else(|_| unreachable!("bounds of a histogram")))
    }
}

impl Latency {
    /// Records a latency. One beyond the histogram counts as its end.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    pub(crate) fn record_many(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    pub(crate) fn merge(&mut self, other: &Latency) {
        // Fails only if the other's bounds are wider.
        let _ = self.0.add(&other.0);
    }

    /// In microseconds; null if there are no latencies.
    pub fn percentiles(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let at = |quantile| rounded(self.0.value_at_quantile(quantile) as f64 / 1e3);
        json!({
            "p50": at(0.5),
            "p90": at(0.9),
            "p99": at(0.99),
            "p999": at(0.999),
            "p9999": at(0.9999),
            "max": rounded(self.0.max() as f64 / 1e3),
            "mean": rounded(self.0.mean() / 1e3),
            "stdev": rounded(self.0.stdev() / 1e3),
        })
    }

    /// Pairs of microseconds and the share of messages that took longer, for a plot.
    pub fn ccdf(&self) -> Vec<[f64; 2]> {
        let mut points: Vec<[f64; 2]> = Vec::new();
        for step in self.0.iter_quantiles(CCDF_STEPS_PER_HALVING) {
            let point = [rounded(step.value_iterated_to() as f64 / 1e3), 1.0 - step.quantile()];
            if point[1] > 0.0 && points.last().is_none_or(|last| last[0] < point[0]) {
                points.push(point);
            }
        }
        points
    }
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Where [`Counters`] counts the codes that have no place of their own.
#[expect(clippy::cast_possible_truncation, reason = "1,015")]
const CODE_OTHER: u16 = 999 + CLOSES as u16;
/// A microsecond to an hour, three digits: 190 KiB.
const NS_MIN: u64 = 1_000;
const NS_MAX: u64 = 3_600_000_000_000;
const CCDF_STEPS_PER_HALVING: u32 = 3;
