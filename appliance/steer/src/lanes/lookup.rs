//! The lookup's maps: a [`Table`] over buckets, settings and overflow of the kernel.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::maps::{HashMap, MapData, MapError};
use fanblade_abi::FlowKey;
use fanblade_abi::limits::LANES_MAX;
use fanblade_abi::lookup::LookupSettings;

use super::buckets::MappedBuckets;
use super::sys::Mapping;
use super::table::{InsertError, Overflow, Table};
use crate::error::SteerError;
use crate::sys::Plain;

/// The maps of the lookup.
pub(super) struct Lookup {
    buckets: MappedBuckets,
    settings: Mapping<LookupSettings>,
    seed: [u64; 2],
    overflow: KernelOverflow,
}

impl Lookup {
    /// Takes fresh maps, and chooses the key of their hash.
    pub(super) fn new(
        buckets: MappedBuckets,
        mut settings: Mapping<LookupSettings>,
        overflow: HashMap<MapData, Plain<FlowKey>, u32>,
    ) -> Result<Self, SteerError> {
        let seed = seed().map_err(|error| SteerError::load("LOOKUP", &error))?;
        let count = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
        let fresh = LookupSettings { seed, buckets: count, overflowed: 0 };
        let _within: Option<()> = settings.write(0, &fresh);
        Ok(Self { buckets, settings, seed, overflow: KernelOverflow(Mutex::new(overflow)) })
    }

    /// Enters a flow. `is_flow`: is a lane the flow's?
    pub(super) fn enter(&self, flow: &FlowKey, lane: u32, is_flow: impl FnMut(u32) -> bool) -> Result<(), SteerError> {
        match self.table()?.insert(flow, lane, is_flow) {
            Ok(_place) => Ok(()),
            Err(InsertError::Duplicate(lane)) => Err(SteerError::FlowTaken { lane }),
            Err(InsertError::Index(lane)) => Err(SteerError::beyond("lane", lane, LANES_MAX as usize)),
            Err(InsertError::Overflow(cause)) => Err(failed(cause)),
        }
    }

    /// Takes out a flow that was entered with this lane. Was it there?
    pub(super) fn leave(&self, flow: &FlowKey, lane: u32) -> Result<bool, SteerError> {
        self.table()?.remove(flow, lane).map_err(failed)
    }

    fn table(&self) -> Result<Table<'_, &KernelOverflow>, SteerError> {
        let table = Table::new(&self.buckets, self.seed, self.settings.overflowed(), &self.overflow);
        table.ok_or_else(|| SteerError::beyond("number of buckets", 0, self.buckets.len()))
    }
}

/// The kernel's map of the flows whose buckets are full.
struct KernelOverflow(Mutex<HashMap<MapData, Plain<FlowKey>, u32>>);

impl KernelOverflow {
    fn map(&self) -> MutexGuard<'_, HashMap<MapData, Plain<FlowKey>, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Overflow for &KernelOverflow {
    type Error = MapError;

    fn get(&self, flow: &FlowKey) -> Result<Option<u32>, MapError> {
        match self.map().get(&Plain(*flow), 0) {
            Ok(lane) => Ok(Some(lane)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn insert(&self, flow: &FlowKey, index: u32) -> Result<(), MapError> {
        self.map().insert(Plain(*flow), index, BPF_NOEXIST)
    }

    fn remove(&self, flow: &FlowKey) -> Result<bool, MapError> {
        match self.map().remove(&Plain(*flow)) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn failed(cause: MapError) -> SteerError {
    SteerError::Map { map: "OVERFLOW", cause }
}

/// Random, so that nobody can choose ports that share a bucket.
fn seed() -> io::Result<[u64; 2]> {
    let mut bytes = [[0; 8]; 2];
    File::open("/dev/urandom")?.read_exact(bytes.as_flattened_mut())?;
    Ok(bytes.map(u64::from_ne_bytes))
}

/// Only a key that is not there (include/uapi/linux/bpf.h).
const BPF_NOEXIST: u64 = 1;
