//! The connections that move most, as the kernel counted them.

use std::collections::HashMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fanblade_abi::FlowKey;
use fanblade_steer::{Flow, View};

use super::target::{INTERVAL, Target};

/// The open connections to the blade.
#[derive(Debug, Clone, Default)]
pub(super) struct Flows {
    pub(super) rows: Vec<FlowRow>,
    /// The table has more entries than were read.
    pub(super) is_cut: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct FlowRow {
    pub(super) client: String,
    /// None at the first reading.
    pub(super) bits_out_per_s: Option<f64>,
    pub(super) packets_out_per_s: Option<f64>,
    pub(super) bytes_out: u64,
    pub(super) lifetime: Duration,
}

/// Reads the flows repeatedly, until `tell` returns false because nobody listens any more.
pub(super) fn collect(
    pin_dir: &Path,
    target: impl Fn() -> Option<Target>,
    tell: impl Fn(Result<Flows, String>) -> bool,
) {
    let mut meter = FlowMeter::default();
    loop {
        let begun = Instant::now();
        if let Some(target) = target()
            && !tell(look(pin_dir, &target, &mut meter))
        {
            return;
        }
        // A large table takes a while to read; the thread uses at most a tenth of a CPU for it.
        thread::sleep(INTERVAL.max(begun.elapsed() * 9));
    }
}

fn look(pin_dir: &Path, target: &Target, meter: &mut FlowMeter) -> Result<Flows, String> {
    if let Some(reason) = &target.ebpf_lacks {
        return Err(match reason.as_str() {
            "" => "the blade runs without eBPF, so its flows are not counted".to_owned(),
            reason => format!("the blade runs without eBPF: {reason}"),
        });
    }
    if !target.is_local {
        return Err("the blade runs on another machine: only there the kernel's counts can be read".to_owned());
    }
    // Opened each time: a blade that was started again has other maps under the same names.
    let view = View::open_pinned(pin_dir).map_err(|error| format!("{error} (--pin-dir)"))?;
    let is_cut = view.flows().nth(FLOWS_MAX).is_some();
    let flows = view.flows().take(FLOWS_MAX);
    let rows = meter.rows(flows.filter(|flow| flow.server().port() == target.port), Instant::now());
    Ok(Flows { rows, is_cut })
}

/// Remembers the counts of the last reading.
#[derive(Debug, Default)]
struct FlowMeter {
    before: HashMap<FlowKey, Counts>,
    looked: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Tells a connection from an earlier one with the same addresses.
    first_ns: u64,
    bytes_out: u64,
    packets_out: u64,
}

impl FlowMeter {
    fn rows(&mut self, flows: impl Iterator<Item = Flow>, now: Instant) -> Vec<FlowRow> {
        let seconds = self.looked.map(|then| (now - then).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let mut counts = HashMap::with_capacity(self.before.len());
        let mut rows = Vec::with_capacity(self.before.len());
        for flow in flows.filter(|flow| !flow.counters.is_closed()) {
            let fanblade_abi::FlowCounters { first_ns, bytes_out, packets_out, .. } = flow.counters;
            // A connection that is new since the last reading has sent all its bytes within this interval.
            let zero = Counts { first_ns, bytes_out: 0, packets_out: 0 };
            let then = *self.before.get(&flow.key).filter(|then| then.first_ns == first_ns).unwrap_or(&zero);
            let rate = |now: u64, then: u64| seconds.map(|seconds| now.saturating_sub(then) as f64 / seconds);
            rows.push(FlowRow {
                client: flow.client().to_string(),
                bits_out_per_s: rate(bytes_out * 8, then.bytes_out * 8),
                packets_out_per_s: rate(packets_out, then.packets_out),
                bytes_out,
                lifetime: flow.lifetime(),
            });
            counts.insert(flow.key, Counts { first_ns, bytes_out, packets_out });
        }
        (self.before, self.looked) = (counts, Some(now));
        rows
    }
}

/// Each flow takes two system calls; beyond this number the list says that it is incomplete.
const FLOWS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use fanblade_abi::FlowCounters;

    use super::*;

    fn flow(port: u16, first_ns: u64, bytes_out: u64, packets_out: u64) -> Flow {
        let key = FlowKey { src_port: port, dst_port: 7400, ..FlowKey::default() };
        Flow { key, counters: FlowCounters { first_ns, bytes_out, packets_out, ..FlowCounters::default() } }
    }

    #[test]
    fn rates_are_differences_and_a_reused_port_begins_anew() {
        let mut meter = FlowMeter::default();
        let start = Instant::now();
        let rows = meter.rows([flow(1, 5, 1000, 10), flow(2, 6, 5000, 50)].into_iter(), start);
        assert_eq!(rows.iter().map(|row| row.bits_out_per_s).collect::<Vec<_>>(), [None, None]);
        let rows = meter.rows([flow(1, 5, 2000, 30), flow(2, 9, 400, 4)].into_iter(), start + Duration::from_secs(2));
        assert_eq!(rows.iter().map(|row| row.bits_out_per_s.unwrap()).collect::<Vec<_>>(), [4000.0, 1600.0]);
        assert_eq!(rows.iter().map(|row| row.packets_out_per_s.unwrap()).collect::<Vec<_>>(), [10.0, 2.0]);
        assert_eq!(meter.rows(std::iter::empty(), start + Duration::from_secs(3)), []);
        assert!(meter.before.is_empty(), "what is gone is forgotten");
    }
}
