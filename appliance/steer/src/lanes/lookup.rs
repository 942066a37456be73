//! Entering flows into the lookup and taking them out, by one writer: looking for a free slot and filling it are two
//! steps. How a flow is found is said in [`fanblade_abi::lookup`].

use std::fs::File;
use std::io::{self, Read as _};

use aya::maps::{HashMap, MapData, MapError};
use fanblade_abi::FlowKey;
use fanblade_abi::lookup::{BUCKET_SLOTS, Bucket, FlowHash, LookupSettings, entry, words};

use super::sys::Mapping;
use crate::error::SteerError;
use crate::sys::Plain;

/// The maps of the lookup.
pub(super) struct Lookup {
    buckets: Mapping<Bucket>,
    settings: Mapping<LookupSettings>,
    overflow: HashMap<MapData, Plain<FlowKey>, u32>,
}

impl Lookup {
    /// Takes fresh maps, and chooses the key of their hash.
    pub(super) fn new(
        buckets: Mapping<Bucket>,
        mut settings: Mapping<LookupSettings>,
        overflow: HashMap<MapData, Plain<FlowKey>, u32>,
    ) -> Result<Self, SteerError> {
        let seed = seed().map_err(|error| SteerError::load("LOOKUP", &error))?;
        let count = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
        let fresh = LookupSettings { seed, buckets: count, overflowed: 0 };
        let _within: Option<()> = settings.write(0, &fresh);
        Ok(Self { buckets, settings, overflow })
    }

    /// Enters a flow into the emptier of its buckets, or, when both are full, into the overflow.
    pub(super) fn enter(&mut self, flow: &FlowKey, lane: u32) -> Result<(), SteerError> {
        let (hash, choices) = self.hash(flow);
        let free = |bucket: &u32| self.slots(*bucket).into_iter().filter(|slot| *slot == FREE).count();
        let emptier = if free(&choices[1]) > free(&choices[0]) { choices[1] } else { choices[0] };
        if let Some(slot) = self.slots(emptier).into_iter().position(|slot| slot == FREE) {
            self.buckets.set_slot(emptier, slot, entry(hash.tag(), lane));
            return Ok(());
        }
        // Readers look into the overflow from before the flow is there.
        self.settings.count_overflowed(1);
        self.overflow.insert(Plain(*flow), lane, 0).map_err(|cause| {
            self.settings.count_overflowed(-1);
            failed(cause)
        })
    }

    /// Takes out a flow that was entered with this lane. Was it there?
    pub(super) fn leave(&mut self, flow: &FlowKey, lane: u32) -> Result<bool, SteerError> {
        let (hash, choices) = self.hash(flow);
        for bucket in choices {
            let entry = entry(hash.tag(), lane);
            if let Some(slot) = self.slots(bucket).into_iter().position(|slot| slot == entry) {
                self.buckets.set_slot(bucket, slot, FREE);
                return Ok(true);
            }
        }
        match self.overflow.get(&Plain(*flow), 0) {
            Ok(there) if there == lane => {}
            Ok(_) | Err(MapError::KeyNotFound) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        self.overflow.remove(&Plain(*flow)).map_err(failed)?;
        self.settings.count_overflowed(-1);
        Ok(true)
    }

    fn hash(&self, flow: &FlowKey) -> (FlowHash, [u32; 2]) {
        let settings = self.settings.read(0).unwrap_or_default();
        let hash = FlowHash::new(settings.seed, &words(flow));
        (hash, hash.buckets(settings.buckets))
    }

    fn slots(&self, bucket: u32) -> [u64; BUCKET_SLOTS] {
        self.buckets.read(bucket).unwrap_or_default().slots
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

const FREE: u64 = 0;
