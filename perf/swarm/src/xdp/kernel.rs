//! The kernel program and its maps.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use fanblade_measure::clock::nanoseconds;
use fanblade_swarm_abi::{BUCKETS, Counters, Settings, bucket_middle_ns};
use nix::time::{ClockId, clock_gettime};

use super::cable::SERVER_END;
use super::sys::Plain;
use super::table::Table;
use crate::tally::Latency;

/// Dropping it detaches the program.
pub(super) struct Kernel {
    ebpf: Ebpf,
    table: Arc<Table>,
    settings: Array<MapData, Plain<Settings>>,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    latencies: PerCpuArray<MapData, Plain<[u64; BUCKETS]>>,
}

impl Kernel {
    pub(super) fn load(subscribers: u32) -> anyhow::Result<Kernel> {
        let loaded = EbpfLoader::new().map_max_entries("SUBSCRIBERS", subscribers).load(OBJECT);
        let mut ebpf = loaded.context("cannot load the subscribers' program")?;
        for name in [SWARM, SERVER] {
            program(&mut ebpf, name)?.load().map_err(|error| refusal(name, &error))?;
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("the object has no map {name}"));
        let Map::Array(subscribers_map) = take("SUBSCRIBERS")? else {
            return Err(anyhow!("SUBSCRIBERS is another kind of map"));
        };
        let table =
            Table::map(subscribers_map.fd().as_fd(), subscribers).context("cannot map the subscribers' table")?;
        let table = Arc::new(table);
        let (settings, counters) = (take("SETTINGS")?.try_into()?, take("COUNTERS")?.try_into()?);
        let latencies = take("LATENCIES")?.try_into()?;
        Ok(Kernel { ebpf, table, settings, counters, latencies })
    }

    /// Attaches the program to the client end, and to the server's end if that is here, too.
    pub(super) fn attach(&mut self, interface: &str) -> anyhow::Result<()> {
        for (name, interface) in [(SERVER, SERVER_END), (SWARM, interface)] {
            if name == SERVER && nix::net::if_::if_nametoindex(interface).is_err() {
                continue;
            }
            let attached = program(&mut self.ebpf, name)?.attach(interface, XdpMode::Driver);
            attached.with_context(|| format!("cannot attach the subscribers' program to {interface}"))?;
        }
        Ok(())
    }

    pub(super) fn configure(&mut self, settings: &Settings) -> anyhow::Result<()> {
        Ok(self.settings.set(0, Plain(*settings), 0)?)
    }

    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The sum of all CPUs' counters.
    pub(super) fn counters(&self) -> anyhow::Result<Counters> {
        let each = self.counters.get(&0, 0)?;
        Ok(each.iter().fold(Counters::default(), |sum, Plain(one)| sum.plus(one)))
    }

    /// Latencies of the window's messages, right to 0.4 %; the longest is known exactly.
    pub(super) fn latencies(&self, longest_ns: u64) -> anyhow::Result<Latency> {
        let mut latency = Latency::default();
        for Plain(buckets) in self.latencies.get(&0, 0)?.iter() {
            for (number, count) in buckets.iter().enumerate() {
                latency.record_many(bucket_middle_ns(number).min(longest_ns), *count);
            }
        }
        Ok(latency)
    }
}

/// The error without the verifier's remarks on each instruction.
fn refusal(name: &str, error: &ProgramError) -> anyhow::Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            anyhow!("the kernel refuses the program `{name}`: {io_error}\n{}", last.join("\n"))
        }
        other => anyhow!("the kernel refuses the program `{name}`: {other}"),
    }
}

/// What to add to the program's clock to get the publisher's.
pub(super) fn realtime_offset_ns() -> anyhow::Result<u64> {
    let now = |clock| Ok::<_, anyhow::Error>(nanoseconds(clock_gettime(clock)?.into()));
    let mut best = (u64::MAX, 0);
    for _ in 0..10 {
        let before = now(ClockId::CLOCK_MONOTONIC)?;
        let real = now(ClockId::CLOCK_REALTIME)?;
        let took = now(ClockId::CLOCK_MONOTONIC)? - before;
        best = best.min((took, real.wrapping_sub(before + took / 2)));
    }
    Ok(best.1)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    let program: Result<&mut Xdp, ProgramError> =
        ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?.try_into();
    Ok(program?)
}

const LOG_LINES: usize = 5;
const SWARM: &str = "swarm";
const SERVER: &str = "server_end";
const OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../ebpf/prebuilt/swarm.bpf.o");
