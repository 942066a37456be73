//! Entering flows into the lookup and taking them out, by several threads at once.
//!
//! # Who may write
//!
//! Any thread, each its own flows: those of the sessions that it holds. A bucket has flows of all of them, and every
//! change of a slot is a compare-and-swap, so that two threads that want one slot do not overwrite each other: the
//! second looks again. **The same flow has one writer at a time.** The kernel has one socket for it, and so one worker;
//! where a connection begins anew on the addresses of an old one, the old lane has been removed before the kernel sees
//! its SYN. A flow that still has a lane is refused.
//!
//! # Memory order
//!
//! A slot is filled with release order: who finds the index (acquire here, an address dependency in a kernel program)
//! finds the lane's state as it was before. A slot is freed with release order as well, but a reader may have read the
//! entry just before: the index may be given to another flow only once no running program can be using the lane, or if
//! programs compare the key of the lane again after each step that matters.
//!
//! `overflowed` is counted up before a flow goes into the overflow and down after it has left, so that a reader that
//! sees 0 misses none whose insertion has returned. A process that is killed in between leaves it too high, which
//! costs readers a lookup and loses nothing.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use fanblade_abi::FlowKey;
use fanblade_abi::limits::LANES_MAX;
use fanblade_abi::lookup::{self, BUCKET_SLOTS, Bucket, Buckets, FlowHash, Slots};
use thiserror::Error;

/// A [`Bucket`] that kernel programs read, and other threads and processes write, at the same time.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct SharedBucket([AtomicU64; BUCKET_SLOTS]);

const _: () = assert!(size_of::<SharedBucket>() == size_of::<Bucket>());
const _: () = assert!(align_of::<SharedBucket>() == align_of::<Bucket>());

/// The flows whose buckets are full: a hash map of the kernel, or a model of it.
pub trait Overflow {
    /// What the system says when it fails.
    type Error;

    /// The index of a flow's lane.
    ///
    /// # Errors
    ///
    /// The system's, other than "there is none".
    fn get(&self, flow: &FlowKey) -> Result<Option<u32>, Self::Error>;

    /// Enters a flow that is not there (`BPF_NOEXIST`).
    ///
    /// # Errors
    ///
    /// The system's: E2BIG if the map is full, ENOMEM.
    fn insert(&self, flow: &FlowKey, index: u32) -> Result<(), Self::Error>;

    /// Takes a flow out. Was it there?
    ///
    /// # Errors
    ///
    /// The system's, other than "there is none".
    fn remove(&self, flow: &FlowKey) -> Result<bool, Self::Error>;
}

/// Why a flow was not entered.
#[derive(Debug, Error)]
pub enum InsertError<E> {
    /// The flow has a lane already.
    #[error("the flow has lane {0} already")]
    Duplicate(u32),
    /// There is no such lane.
    #[error("lane {0} is beyond the last, {last}", last = LANES_MAX - 1)]
    Index(u32),
    /// Both buckets are full and the overflow takes no more, or it cannot be read: the flow stays a socket.
    #[error("the overflow of the lanes' lookup: {0}")]
    Overflow(#[from] E),
}

/// Where a flow was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a slot of one of its buckets.
    Bucket,
    /// In the overflow.
    Overflow,
}

/// The lookup's buckets and overflow, shared with the kernel programs.
pub struct Table<'a, O> {
    buckets: &'a [SharedBucket],
    count: u32,
    seed: [u64; 2],
    overflowed: &'a AtomicU32,
    overflow: O,
}

impl<'a, O: Overflow> Table<'a, O> {
    /// A view of the maps. `seed` and `overflowed` are those of the [`LookupSettings`](lookup::LookupSettings), and
    /// there are as many `buckets` as these say.
    ///
    /// `None` if the buckets do not have two halves: none, an odd number, or more than 2^32.
    #[must_use]
    pub fn new(buckets: &'a [SharedBucket], seed: [u64; 2], overflowed: &'a AtomicU32, overflow: O) -> Option<Self> {
        let count = u32::try_from(buckets.len()).ok().filter(|count| *count >= 2 && count % 2 == 0)?;
        Some(Self { buckets, count, seed, overflowed, overflow })
    }

    /// Enters a flow whose lane is ready for its packets.
    ///
    /// `is_flow` compares the whole key of a lane with the flow; it is asked about lanes with the flow's tag.
    ///
    /// # Errors
    ///
    /// The flow has a lane already, there is no such index, or there is no room: nothing has changed then.
    pub fn insert(
        &self,
        flow: &FlowKey,
        index: u32,
        is_flow: impl FnMut(u32) -> bool,
    ) -> Result<Place, InsertError<O::Error>> {
        if index >= LANES_MAX {
            return Err(InsertError::Index(index));
        }
        if let Some(index) = self.find(flow, is_flow)? {
            return Err(InsertError::Duplicate(index));
        }
        let hash = self.hash(flow);
        if self.fill(hash, lookup::entry(hash.tag(), index)) {
            return Ok(Place::Bucket);
        }
        // Readers look into the overflow from before the flow is there.
        self.overflowed.fetch_add(1, Ordering::AcqRel);
        if let Err(error) = self.overflow.insert(flow, index) {
            self.overflowed.fetch_sub(1, Ordering::AcqRel);
            return Err(InsertError::Overflow(error));
        }
        Ok(Place::Overflow)
    }

    /// Takes out a flow whose lane has this index. Was it there, under this index?
    ///
    /// No key is compared: the index of another flow's lane would take that one out if both had the same tag.
    ///
    /// # Errors
    ///
    /// The overflow's.
    pub fn remove(&self, flow: &FlowKey, index: u32) -> Result<bool, O::Error> {
        let hash = self.hash(flow);
        let entry = lookup::entry(hash.tag(), index);
        for slot in self.choices(hash).into_iter().flat_map(|bucket| &bucket.0) {
            if slot.compare_exchange(entry, FREE, Ordering::Release, Ordering::Relaxed).is_ok() {
                return Ok(true);
            }
        }
        if self.overflowed() == 0 || self.overflow.get(flow)? != Some(index) || !self.overflow.remove(flow)? {
            return Ok(false);
        }
        self.overflowed.fetch_sub(1, Ordering::AcqRel);
        Ok(true)
    }

    /// The index of a flow's lane, as a kernel program finds it.
    ///
    /// # Errors
    ///
    /// The overflow's.
    pub fn find(&self, flow: &FlowKey, mut is_flow: impl FnMut(u32) -> bool) -> Result<Option<u32>, O::Error> {
        let found = lookup::find(self, self.count, self.hash(flow), |index| is_flow(index).then_some(index));
        if found.is_some() || self.overflowed() == 0 {
            return Ok(found);
        }
        self.overflow.get(flow)
    }

    /// Flows in the overflow.
    #[must_use]
    pub fn overflowed(&self) -> u32 {
        self.overflowed.load(Ordering::Acquire)
    }

    /// Puts an entry into the emptier bucket, the left one if they are level. False if both are full.
    #[must_use]
    fn fill(&self, hash: FlowHash, entry: u64) -> bool {
        let [left, right] = self.choices(hash);
        loop {
            let order = if free(right) > free(left) { [right, left] } else { [left, right] };
            // The other one as well: the emptier may have filled up meanwhile.
            let mut slots = order.into_iter().flat_map(|bucket| &bucket.0);
            let Some(slot) = slots.find(|slot| slot.load(Ordering::Relaxed) == FREE) else { return false };
            // Each time that this fails, another thread has got on.
            if slot.compare_exchange(FREE, entry, Ordering::Release, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
    }

    fn hash(&self, flow: &FlowKey) -> FlowHash {
        FlowHash::new(self.seed, &lookup::words(flow))
    }

    fn choices(&self, hash: FlowHash) -> [&'a SharedBucket; 2] {
        // Both are below `count`, as `FlowHash::buckets` says.
        hash.buckets(self.count).map(|index| &self.buckets[index as usize])
    }
}

impl<O> fmt::Debug for Table<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the buckets, which are many, nor the seed, which is a secret.
        f.debug_struct("Table").field("count", &self.count).field("overflowed", self.overflowed).finish_non_exhaustive()
    }
}

impl<'a, O> Buckets for Table<'a, O> {
    type Bucket = &'a SharedBucket;

    fn bucket(&self, index: u32) -> Option<&'a SharedBucket> {
        self.buckets.get(index as usize)
    }
}

impl Slots for &SharedBucket {
    fn load(&self, slot: usize) -> u64 {
        self.0[slot].load(Ordering::Acquire)
    }
}

/// The number of free slots.
fn free(bucket: &SharedBucket) -> usize {
    bucket.0.iter().filter(|slot: &&AtomicU64| slot.load(Ordering::Relaxed) == FREE).count()
}

/// The entry of a slot that nobody uses.
const FREE: u64 = 0;
