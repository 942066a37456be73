//! The engine without sockets: subscribers in an XDP program (`ebpf/swarm`) on the client end of a veth pair.
//!
//! A subscriber is an address, a port and an entry of 32 bytes in a map that is shared with the program. We open the
//! connections by raw packets (SYN; acknowledgement and upgrade request; subscription) and see in the entries what the
//! server answered; unanswered packets are sent again. From then on the program does everything, and we look at its
//! counters.

pub mod cable;
mod kernel;
mod mac;
mod opening;
mod packet;
mod pongs;
mod seen;
mod sys;
mod table;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fanblade_swarm_abi::{ANSWERED, Counters, OVER, Pattern, Settings, Subscriber};
use fanblade_wire::UnixNs;
use serde_json::{Value, json};

use super::engine::{Engine, Measured, Opened};
use super::marker::Marker;
use super::plan::{Plan, Sources};
use super::reading::{Boundary, Preamble};
use super::tally::Tally;
use super::window::Window;
use cable::{Cable, SERVER_MAC};
use kernel::Kernel;
pub(crate) use mac::Mac;
use opening::Openings;
use packet::{Ends, Wire};
use pongs::Pongs;

/// Options of this engine beyond the plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// None: the engine lays a veth pair of its own.
    pub(crate) interface: Option<String>,
    pub(crate) server_mac: Option<Mac>,
    pub(crate) drop_per_mille: u16,
}

pub(crate) struct Xdp {
    plan: Arc<Plan>,
    kernel: Kernel,
    wire: Wire,
    pongs: Option<Pongs>,
    settings: Settings,
    window_end_ns: u64,
    before: Counts,
    // Dropped last, with the interfaces.
    _cable: Option<Cable>,
}

impl Xdp {
    pub(crate) fn start(plan: &Arc<Plan>, options: &Options) -> anyhow::Result<Xdp> {
        cable::require_root()?;
        let mut settings = settings(plan)?;
        settings.drop_per_mille = options.drop_per_mille.into();
        let cable = match options.interface {
            Some(_) => None,
            None => Some(Cable::lay(*plan.addr.ip()).context("cannot set up a veth pair to the server")?),
        };
        let interface = options.interface.as_deref().unwrap_or(cable::CLIENT_END);
        let mut kernel = Kernel::load(plan.connections)?;
        kernel.configure(&settings)?;
        kernel.attach(interface)?;
        let wire = Wire::open(interface, options.server_mac.unwrap_or(SERVER_MAC))?;
        let asking = Wire::open(interface, options.server_mac.unwrap_or(SERVER_MAC))?;
        let pongs = Some(Pongs::look_after(&settings, kernel.table(), plan.addr, asking)?);
        let plan = Arc::clone(plan);
        let before = Counts::default();
        Ok(Xdp { plan, kernel, wire, pongs, settings, window_end_ns: 0, before, _cable: cable })
    }

    fn counts(&self) -> anyhow::Result<Counts> {
        Ok(Counts { program: self.kernel.counters()?, retransmitted: cable::segments_retransmitted()? })
    }
}

impl Engine for Xdp {
    fn open(&mut self) -> anyhow::Result<Opened> {
        self.settings.realtime_offset_ns = kernel::realtime_offset_ns()?;
        self.kernel.configure(&self.settings)?;
        Openings::new(&self.plan, &self.settings, self.kernel.table(), &mut self.wire).run()
    }

    /// The subscribers have no habits: `settings` has seen to that.
    fn fall_into_habits(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn begin(&mut self, window: Window) -> anyhow::Result<()> {
        self.settings.realtime_offset_ns = kernel::realtime_offset_ns()?;
        (self.settings.from_ns, self.settings.to_ns) = (window.from_ns, window.to_ns);
        self.kernel.configure(&self.settings)?;
        self.window_end_ns = window.to_ns;
        self.before = self.counts()?;
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<Measured> {
        let rest_ns = self.window_end_ns.saturating_sub(UnixNs::now().0);
        std::thread::sleep(Duration::from_nanos(rest_ns) + SILENCE);
        let mut seen = self.kernel.counters()?.messages;
        let mut waited = SILENCE;
        while waited < STRAGGLERS_MAX {
            std::thread::sleep(SILENCE);
            waited += SILENCE;
            let now = self.kernel.counters()?.messages;
            if std::mem::replace(&mut seen, now) == now {
                break;
            }
        }
        let after = self.counts()?;
        let mut tally = Tally::new();
        let latencies = self.kernel.latencies(after.program.latency_max_ns)?;
        tally.take_counters(&after.program.since(&self.before.program), &latencies);
        seen::count(&self.plan.subjects, self.settings.sequence.len > 0, || self.kernel.table().iter(), &mut tally);
        let transport = transport(&after, &self.before);
        Ok(Measured { tally, busy_percent: 0.0, pass_max: Duration::ZERO, transport })
    }

    /// Closes by a reset, so that the same addresses and ports can be used again at once.
    fn close(&mut self) -> anyhow::Result<()> {
        self.pongs.take().map_or(Ok(()), Pongs::end)?;
        for client in 0..self.plan.connections {
            let entry = self.kernel.table().read(client);
            self.kernel.table().clear(client);
            if (ANSWERED..OVER).contains(&entry.state) {
                let ends = Ends::new(&self.settings, client, self.plan.addr);
                self.wire.send(&ends, entry.sent, entry.next, packet::RESET, &[])?;
            }
        }
        Ok(())
    }

    fn bytes_per_connection(&self) -> usize {
        size_of::<Subscriber>()
    }
}

/// All that is counted at all times.
#[derive(Default)]
struct Counts {
    program: Counters,
    retransmitted: u64,
}

/// What became of the segments: a message that was lost on its way and sent again is late, not lost.
fn transport(after: &Counts, before: &Counts) -> Value {
    let program = after.program.since(&before.program);
    let Counters { segments, again, ahead, dropped, strays, unanswered, pings, pongs_again, resets, .. } = program;
    json!({
        "segments": segments,
        "received_again": again,
        "ahead_of_missing_ones": ahead,
        "dropped_on_purpose": dropped,
        "retransmitted_by_server": after.retransmitted.saturating_sub(before.retransmitted),
        "strays": strays,
        "unanswered": unanswered,
        "pings": pings,
        "resets": resets,
        "pongs_sent_again": pongs_again,
        "heads_lost": program.heads_lost,
    })
}

/// Makes settings of the plan, and refuses what the program cannot do.
fn settings(plan: &Plan) -> anyhow::Result<Settings> {
    ensure!(
        plan.reading.boundary == Boundary::Frame,
        "the xdp engine counts WebSocket messages: --boundary timestamp needs --engine sockets"
    );
    ensure!(plan.lists.is_none(), "subscribers of the xdp engine have one subject each: lists need --engine sockets");
    ensure!(plan.upgrade.is_some(), "the xdp engine needs an upgrade to WebSocket");
    ensure!(
        plan.habits.stalled_per_mille == 0 && plan.habits.slow_per_mille == 0,
        "subscribers of the xdp engine all read at once: slow and stalled ones need --engine sockets"
    );
    let Preamble::Messages(preamble) = plan.reading.preamble else {
        bail!("the xdp engine supports only a number of messages as the preamble");
    };
    let pattern = |marker: &Option<Marker>, name: &str| -> anyhow::Result<Pattern> {
        let Some(marker) = marker else { return Ok(Pattern::default()) };
        let text = marker.text().and_then(Pattern::new);
        text.with_context(|| format!("{name}: the xdp engine supports only text:PATTERN, with at most eight bytes"))
    };
    let addr_first = match plan.sources {
        Sources::Any => cable::CLIENTS_FIRST,
        Sources::Range { first, .. } => first,
    };
    Ok(Settings {
        from_ns: u64::MAX,
        to_ns: u64::MAX,
        timestamp: pattern(&plan.reading.timestamp, "--timestamp")?,
        sequence: pattern(&plan.reading.sequence, "--sequence")?,
        addr_first: addr_first.into(),
        port_first: PORT_FIRST,
        ports: PORTS,
        subscribers: plan.connections,
        preamble: preamble.into(),
        ..Settings::default()
    })
}

/// Nothing comes after this much silence: a segment that is lost twice is sent for the third time after 0.6 s.
const SILENCE: Duration = Duration::from_secs(1);
const STRAGGLERS_MAX: Duration = Duration::from_secs(30);
/// The first port on each address.
const PORT_FIRST: u32 = 1_024;
const PORTS: u32 = 64_000;

#[cfg(test)]
mod tests {
    use super::super::lists::{Lists, Shape};
    use super::super::plan::Upgrade;
    use super::*;

    #[test]
    fn what_the_program_cannot_do_is_refused() {
        let addr = "10.63.0.1:80".parse().unwrap();
        let plan = |change: &dyn Fn(&mut Plan)| {
            let mut plan = Plan::simple(addr, 5, Some(Upgrade::to(addr, "/").unwrap()));
            change(&mut plan);
            settings(&plan).map_err(|error| error.to_string())
        };
        assert_eq!(plan(&|_| {}).unwrap().addr_first, u32::from(cable::CLIENTS_FIRST));
        let marked = plan(&|plan| plan.reading.sequence = Some(r#"text:"n":"#.parse().unwrap())).unwrap();
        assert_eq!(Some(marked.sequence), Pattern::new(br#""n":"#));
        let refusal = |change: &dyn Fn(&mut Plan)| plan(change).unwrap_err();
        assert!(refusal(&|plan| plan.habits.slow_per_mille = 1).contains("--engine sockets"));
        let lists = Lists::new(Shape { per_client: 2, exponent: 1.0 }, 5, 1).unwrap();
        assert!(refusal(&|plan| plan.lists = Some(lists.clone())).contains("--engine sockets"));
        assert!(refusal(&|plan| plan.reading.boundary = Boundary::Timestamp).contains("WebSocket message"));
        assert!(refusal(&|plan| plan.reading.preamble = "text:hi".parse().unwrap()).contains("preamble"));
        assert!(refusal(&|plan| plan.reading.timestamp = Some("u64le@4".parse().unwrap())).contains("--timestamp"));
    }
}
