//! Reading the maps: the same for the daemon and for `fanblade flows`, which needs only the pins.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use fanblade_abi::{Config, FlowCounters, FlowKey, LAYOUT_VERSION, Verdict, VerdictCounters, WorkerSlot};

use crate::error::{SteerError, chain};
use crate::limits::FLOW_STEPS_PER_ENTRY_MAX;
use crate::pins;
use crate::sys::Plain;

/// A read-only view of the maps.
pub struct View {
    flows: HashMap<MapData, Plain<FlowKey>, Plain<FlowCounters>>,
    verdicts: PerCpuArray<MapData, Plain<VerdictCounters>>,
    workers: Array<MapData, Plain<WorkerSlot>>,
    config: Array<MapData, Plain<Config>>,
}

/// One connection and its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Addresses and ports.
    pub key: FlowKey,
    /// Its counters.
    pub counters: FlowCounters,
}

impl Flow {
    /// The remote end.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(address(self.key.src), self.key.src_port)
    }

    /// Our end.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(address(self.key.dst), self.key.dst_port)
    }

    /// The time from the first packet to the newest.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.counters.last_ns.saturating_sub(self.counters.first_ns))
    }
}

impl View {
    /// Opens the maps that a blade has pinned. A blade that was told to keep its pins need not be running any more.
    pub fn open_pinned(dir: &Path) -> Result<Self, SteerError> {
        let nothing = |cause: String| SteerError::NothingPinned { dir: dir.to_owned(), cause };
        if let Some(reason) = pins::incompatibility(dir, None).map_err(|error| nothing(chain(&error)))? {
            return Err(nothing(reason));
        }
        let open = |name: &'static str| {
            MapData::from_pin(dir.join(name)).map_err(|error| nothing(format!("{name}: {}", chain(&error))))
        };
        let view = Self::new(
            Map::LruHashMap(open("FLOWS")?),
            Map::PerCpuArray(open("VERDICTS")?),
            Map::Array(open("WORKERS")?),
            Map::Array(open("CONFIG")?),
        )
        .map_err(|error| nothing(chain(&error)))?;
        match view.config()?.layout_version {
            LAYOUT_VERSION => Ok(view),
            other => Err(nothing(format!("layout version {other}, this program reads {LAYOUT_VERSION}"))),
        }
    }

    pub(crate) fn new(flows: Map, verdicts: Map, workers: Map, config: Map) -> Result<Self, MapError> {
        Ok(Self {
            flows: flows.try_into()?,
            verdicts: verdicts.try_into()?,
            workers: workers.try_into()?,
            config: config.try_into()?,
        })
    }

    /// The flows, in the order of the hash table. Flows that come or go meanwhile may be missed or seen twice; after
    /// [`FLOW_STEPS_PER_ENTRY_MAX`] steps per entry of the table the listing ends.
    pub fn flows(&self) -> impl Iterator<Item = Flow> + '_ {
        let capacity = self.flows_max().map_or(usize::MAX, |entries| entries as usize);
        self.flows
            .iter()
            .take(capacity.saturating_mul(FLOW_STEPS_PER_ENTRY_MAX))
            .map_while(Result::ok)
            .map(|(Plain(key), Plain(counters))| Flow { key, counters })
    }

    /// One flow.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowCounters>, SteerError> {
        match self.flows.get(&Plain(*key), 0) {
            Ok(Plain(counters)) => Ok(Some(counters)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(cause) => Err(SteerError::Map { map: "FLOWS", cause }),
        }
    }

    /// Size of the flow table.
    pub fn flows_max(&self) -> Result<u32, SteerError> {
        let info = aya::maps::IterableMap::map(&self.flows).info();
        Ok(info.map_err(|cause| SteerError::Map { map: "FLOWS", cause })?.max_entries())
    }

    /// Each verdict's name and count, summed over the CPUs.
    pub fn verdicts(&self) -> Result<[(&'static str, u64); Verdict::ALL.len()], SteerError> {
        let values = self.verdicts.get(&0, 0).map_err(|cause| SteerError::Map { map: "VERDICTS", cause })?;
        Ok(Verdict::ALL.map(|verdict| (verdict.name(), values.iter().map(|Plain(one)| one.count(verdict)).sum())))
    }

    /// One verdict's count, summed over the CPUs.
    pub fn verdict(&self, verdict: Verdict) -> Result<u64, SteerError> {
        Ok(self.verdicts()?[verdict as usize].1)
    }

    /// The workers in use: weight, load, number of connections steered.
    pub fn workers(&self) -> Result<Vec<WorkerSlot>, SteerError> {
        (0..self.config()?.workers)
            .map(|worker| self.workers.get(&worker, 0).map(|Plain(slot)| slot))
            .collect::<Result<_, _>>()
            .map_err(|cause| SteerError::Map { map: "WORKERS", cause })
    }

    /// The settings of the programs.
    pub fn config(&self) -> Result<Config, SteerError> {
        self.config.get(&0, 0).map(|Plain(config)| config).map_err(|cause| SteerError::Map { map: "CONFIG", cause })
    }

    pub(crate) fn set_config(&mut self, config: Config) -> Result<(), SteerError> {
        self.config.set(0, Plain(config), 0).map_err(|cause| SteerError::Map { map: "CONFIG", cause })
    }
}

fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        let mut key = FlowKey { src_port: 40_000, dst_port: 9001, ..FlowKey::default() };
        key.src[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 7]);
        key.dst = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        let flow = Flow { key, counters: FlowCounters { first_ns: 5, last_ns: 1_000_005, ..FlowCounters::default() } };
        assert_eq!(flow.client().to_string(), "10.0.0.7:40000");
        assert_eq!(flow.server().to_string(), "[2001:db8::1]:9001");
        assert_eq!(flow.lifetime(), Duration::from_millis(1));
    }
}
