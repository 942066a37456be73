//! The lookup of lanes: no flow is lost, whatever the load, the ports and the threads.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use fanblade_abi::FlowKey;
use fanblade_abi::limits::LANES_MAX;
use fanblade_abi::lookup::{BUCKET_SLOTS, FlowHash, Slots, buckets_for, overflow_for, words};
use fanblade_steer::lanes::buckets::MappedBuckets;
use fanblade_steer::lanes::table::{InsertError, Overflow, Place, SharedBucket, Table};
use proptest::prelude::*;

const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

#[test]
fn a_million_flows_at_a_load_of_four_fifths_are_all_found_also_after_lanes_have_come_and_gone() {
    const FLOWS: u32 = 1_000_000;
    let buckets = buckets(FLOWS * 10 / 64);
    let overflowed = AtomicU32::new(0);
    let table = table(&buckets, &overflowed, overflow_for(FLOWS));
    let mut flows: Vec<FlowKey> = (0..FLOWS).map(client).collect();
    for (index, flow) in (0..).zip(&flows) {
        table.insert(flow, index, |other| flows[other as usize] == *flow).unwrap();
    }
    let filled = table.overflowed();
    assert_eq!(compared(&table, &flows), 1, "lanes compared for one flow");

    // Two million go, in an order that has nothing to do with the one they came in, each for another.
    for step in 0..2 * FLOWS {
        let index = u32::try_from(mixed(u64::from(step)) % u64::from(FLOWS)).unwrap();
        let place = index as usize;
        assert!(table.remove(&flows[place], index).unwrap(), "flow {index} was lost");
        flows[place] = client(FLOWS + step);
        let flow = flows[place];
        table.insert(&flow, index, |other| flows[other as usize] == flow).unwrap();
    }
    let compared = compared(&table, &flows);
    let replaced = table.overflowed();
    println!("{filled} of {FLOWS} overflowed, then {replaced}; at most {compared} lanes were compared for a flow");
    // 40, and some twenty thousand: the same in every run, as the seed is.
    assert!(filled < 100 && (10_000..overflow_for(FLOWS)).contains(&replaced), "{filled}, {replaced}");
}

#[test]
fn nearly_nothing_overflows_at_the_size_that_is_made_however_often_lanes_are_replaced() {
    const FLOWS: u32 = 50_000;
    let buckets = buckets(buckets_for(FLOWS));
    let overflowed = AtomicU32::new(0);
    let table = table(&buckets, &overflowed, overflow_for(FLOWS));
    let mut flows: Vec<FlowKey> = (0..FLOWS).map(client).collect();
    for (index, flow) in (0..).zip(&flows) {
        table.insert(flow, index, |_| false).unwrap();
    }
    for step in 0..20 * FLOWS {
        let index = u32::try_from(mixed(u64::from(step)) % u64::from(FLOWS)).unwrap();
        let flow = &mut flows[index as usize];
        assert!(table.remove(flow, index).unwrap());
        *flow = client(FLOWS + step);
        table.insert(flow, index, |_| false).unwrap();
    }
    compared(&table, &flows);
    assert_eq!(table.overflowed(), 0);
}

#[test]
fn ports_and_addresses_in_a_row_spread_like_any_others() {
    let network = Ipv4Addr::new(203, 0, 113, 0).to_bits();
    let one_client = (0..=u16::MAX).map(|port| flow(network, port)).collect();
    let a_network = (0..256).flat_map(|host| (0..256).map(move |port| flow(network + host, 32_768 + port))).collect();
    let one_port = (0..65_536).map(|host| flow(network + host, 40_000)).collect();
    // Ports that differ in their upper bits only, as if the peer knew the width of an unkeyed table.
    let steps = (0..256).flat_map(|host| (0..256).map(move |port| flow(network + host * 256, port * 256))).collect();
    let sets: [(&str, Vec<FlowKey>); 4] =
        [("one client", one_client), ("a network", a_network), ("one port", one_port), ("steps", steps)];
    for (name, flows) in sets {
        for seed in [[0, 0], SEED, [u64::MAX, 1]] {
            // At a load of 0.8, where bad luck shows: 3 of 65,536 are expected to overflow.
            let buckets = buckets(65_536 * 10 / 64);
            let overflowed = AtomicU32::new(0);
            let table = Table::new(&buckets, seed, &overflowed, Model::new(overflow_for(65_536))).unwrap();
            for (index, flow) in (0..).zip(&flows) {
                table.insert(flow, index, |other| flows[other as usize] == *flow).unwrap();
            }
            compared(&table, &flows);
            assert!(table.overflowed() < 30, "{name}, {seed:x?}: {} overflowed", table.overflowed());
        }
    }
}

#[test]
fn flows_with_equal_tags_in_the_same_buckets_are_told_apart() {
    // Among 300,000 flows some ten pairs have the same tag of 32 bits; two buckets are everybody's.
    let mut tags = HashMap::new();
    let pair = (0..300_000).map(client).find_map(|flow| {
        let twin = tags.insert(FlowHash::new(SEED, &words(&flow)).tag(), flow)?;
        Some([twin, flow])
    });
    let flows = pair.expect("two flows with the same tag");
    let buckets = buckets(2);
    let overflowed = AtomicU32::new(0);
    let table = table(&buckets, &overflowed, 0);
    for (index, flow) in (0..).zip(&flows) {
        assert_eq!(find(&table, flow, &flows[..index as usize]), None);
        let is_flow = |other: u32| flows[other as usize] == *flow;
        assert_eq!(table.insert(flow, index, is_flow).unwrap(), Place::Bucket);
        assert!(matches!(table.insert(flow, 7, is_flow), Err(InsertError::Duplicate(lane)) if lane == index));
    }
    assert_eq!(compared(&table, &flows), 2);
    assert!(table.remove(&flows[0], 0).unwrap());
    assert_eq!(find(&table, &flows[0], &flows), None);
    assert_eq!(find(&table, &flows[1], &flows), Some(1));
}

#[test]
fn indices_beyond_the_last_lane_are_refused() {
    let buckets = buckets(2);
    let overflowed = AtomicU32::new(0);
    let table = table(&buckets, &overflowed, 0);
    for index in [LANES_MAX, u32::MAX] {
        assert!(matches!(table.insert(&client(1), index, |_| false), Err(InsertError::Index(_))));
    }
    for (index, flow) in [(LANES_MAX - 1, client(1)), (0, client(2))] {
        table.insert(&flow, index, |_| false).unwrap();
        assert_eq!(table.find(&flow, |found| found == index).unwrap(), Some(index));
    }
}

#[test]
fn a_table_without_two_halves_is_refused() {
    let overflowed = AtomicU32::new(0);
    for count in [0, 1, 3] {
        assert!(Table::new(&buckets(count), SEED, &overflowed, Model::new(0)).is_none(), "{count} buckets");
    }
}

#[test]
fn threads_neither_lose_nor_double_an_entry_and_a_reader_finds_the_flows_that_stay() {
    const THREADS: u32 = 4;
    const FLOWS_PER_THREAD: u32 = 40;
    const ROUNDS: u32 = 3_000;
    // 144 slots: 40 flows that stay and up to 160 that come and go want them, so threads meet in every bucket and
    // overflow often.
    let buckets = buckets(18);
    let overflowed = AtomicU32::new(0);
    let table = &table(&buckets, &overflowed, 200);
    let all: &Vec<FlowKey> = &(0..(THREADS + 1) * FLOWS_PER_THREAD).map(client).collect();
    let of_thread = |thread: u32| thread * FLOWS_PER_THREAD..(thread + 1) * FLOWS_PER_THREAD;
    let insert = |index: u32| {
        let flow = all[index as usize];
        table.insert(&flow, index, |other| all[other as usize] == flow).unwrap()
    };
    // Those that stay find room before the others come, or, every other one, while they are at work.
    of_thread(THREADS).filter(|index| index % 2 == 0).for_each(|index| _ = insert(index));
    let staying: &Vec<AtomicBool> = &of_thread(THREADS).map(|index| AtomicBool::new(index % 2 == 0)).collect();
    let (stop, reads, overflows) = (&AtomicBool::new(false), &AtomicU64::new(0), &AtomicU64::new(0));

    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for (index, stays) in of_thread(THREADS).zip(staying) {
                    if stays.load(Ordering::Acquire) {
                        assert_eq!(find(table, &all[index as usize], all), Some(index), "a flow that stays");
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        for index in of_thread(thread) {
                            overflows.fetch_add(u64::from(insert(index) == Place::Overflow), Ordering::Relaxed);
                        }
                        if round == ROUNDS / 2 {
                            // A quarter of the late ones.
                            for index in of_thread(THREADS).filter(|index| index % (2 * THREADS) == 2 * thread + 1) {
                                insert(index);
                                staying[(index - THREADS * FLOWS_PER_THREAD) as usize].store(true, Ordering::Release);
                            }
                        }
                        for index in of_thread(thread) {
                            assert!(table.remove(&all[index as usize], index).unwrap(), "flow {index} was lost");
                        }
                    }
                })
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
    });

    let (reads, overflows) = (reads.load(Ordering::Relaxed), overflows.load(Ordering::Relaxed));
    println!("{reads} reads, {overflows} insertions into the overflow");
    assert!(reads > 0 && overflows > 0);
    assert_eq!(entries(&buckets) + table.overflowed(), FLOWS_PER_THREAD);
    for index in of_thread(THREADS) {
        assert!(table.remove(&all[index as usize], index).unwrap());
    }
    assert_eq!((entries(&buckets), table.overflowed()), (0, 0), "an entry stood twice");
}

#[test]
fn threads_that_want_the_same_slot_both_get_one() {
    const ROUNDS: u32 = 2_000_000;
    // Two empty buckets: every thread wants the first slot of the left one.
    let buckets = buckets(2);
    let overflowed = AtomicU32::new(0);
    let table = &table(&buckets, &overflowed, 0);
    std::thread::scope(|scope| {
        for index in 0..4 {
            scope.spawn(move || {
                let flow = client(index);
                for round in 0..ROUNDS {
                    table.insert(&flow, index, |found| found == index).unwrap();
                    assert!(table.remove(&flow, index).unwrap(), "flow {index} was lost in round {round}");
                }
            });
        }
    });
    assert_eq!(entries(&buckets), 0, "an entry stood twice");
}

#[test]
fn two_mappings_of_one_map_show_the_same_entries() {
    const BUCKETS: u32 = 100;
    let map = nix::sys::memfd::memfd_create("fanblade-test-buckets", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&map, i64::from(BUCKETS) * 64).unwrap();
    let (writer, reader) =
        (MappedBuckets::map(map.as_fd(), BUCKETS).unwrap(), MappedBuckets::map(map.as_fd(), BUCKETS).unwrap());
    let overflowed = AtomicU32::new(0);
    let flows: Vec<FlowKey> = (0..400).map(client).collect();
    for (index, flow) in (0..).zip(&flows) {
        table(&writer, &overflowed, 0).insert(flow, index, |_| false).unwrap();
    }
    drop(writer);
    assert_eq!(compared(&table(&reader, &overflowed, 0), &flows), 1);
    assert_eq!(MappedBuckets::map(map.as_fd(), 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    Remove(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..60_u32, 0..3_u32).prop_map(|(n, kind)| if kind == 0 { Step::Remove(n) } else { Step::Insert(n) });
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Few slots (16 to 64) and a small overflow (0 to 8), so that all of it fills up and empties again.
    #[test]
    fn a_table_does_what_a_hash_map_does(seed: [u64; 2], halves in 1..5_u32, room in 0..8_u32, steps in steps()) {
        let buckets = buckets(2 * halves);
        let overflowed = AtomicU32::new(0);
        let table = Table::new(&buckets, seed, &overflowed, Model::new(room)).unwrap();
        let flows: Vec<FlowKey> = (0..60).map(client).collect();
        let mut model = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(index) => {
                    let flow = flows[index as usize];
                    let before = (entries(&buckets), table.overflowed());
                    match table.insert(&flow, index, |other| flows[other as usize] == flow) {
                        Ok(place) => {
                            prop_assert!(model.insert(flow, index).is_none());
                            let grown = match place {
                                Place::Bucket => (before.0 + 1, before.1),
                                Place::Overflow => (before.0, before.1 + 1),
                            };
                            prop_assert_eq!((entries(&buckets), table.overflowed()), grown);
                        }
                        Err(InsertError::Duplicate(lane)) => prop_assert_eq!(model.get(&flow), Some(&lane)),
                        Err(InsertError::Overflow(_)) => {
                            prop_assert!(!model.contains_key(&flow));
                            prop_assert_eq!((entries(&buckets), table.overflowed()), (before.0, room));
                        }
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    }
                }
                Step::Remove(index) => {
                    let flow = flows[index as usize];
                    prop_assert!(!table.remove(&flow, index + 100).unwrap(), "another index");
                    prop_assert_eq!(table.remove(&flow, index).unwrap(), model.remove(&flow).is_some());
                }
            }
            for flow in &flows {
                prop_assert_eq!(find(&table, flow, &flows), model.get(flow).copied());
            }
        }
    }
}

/// The kernel's hash map, as far as the table knows it.
struct Model {
    flows: Mutex<HashMap<FlowKey, u32>>,
    entries_max: usize,
}

impl Model {
    fn new(entries_max: u32) -> Self {
        Self { flows: Mutex::default(), entries_max: entries_max as usize }
    }
}

impl Overflow for Model {
    type Error = io::Error;

    fn get(&self, flow: &FlowKey) -> io::Result<Option<u32>> {
        Ok(self.flows.lock().unwrap().get(flow).copied())
    }

    fn insert(&self, flow: &FlowKey, index: u32) -> io::Result<()> {
        let mut flows = self.flows.lock().unwrap();
        assert!(!flows.contains_key(flow), "the flow is there already");
        if flows.len() == self.entries_max {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        flows.insert(*flow, index);
        Ok(())
    }

    fn remove(&self, flow: &FlowKey) -> io::Result<bool> {
        Ok(self.flows.lock().unwrap().remove(flow).is_some())
    }
}

fn buckets(count: u32) -> Vec<SharedBucket> {
    (0..count).map(|_| SharedBucket::default()).collect()
}

fn table<'a>(buckets: &'a [SharedBucket], overflowed: &'a AtomicU32, entries_max: u32) -> Table<'a, Model> {
    Table::new(buckets, SEED, overflowed, Model::new(entries_max)).unwrap()
}

fn find(table: &Table<'_, Model>, flow: &FlowKey, flows: &[FlowKey]) -> Option<u32> {
    table.find(flow, |index| flows.get(index as usize) == Some(flow)).unwrap()
}

/// Finds every flow under its index. Returns the most lanes that were compared for one.
fn compared(table: &Table<'_, Model>, flows: &[FlowKey]) -> u32 {
    let mut most = 0;
    for (index, flow) in (0..).zip(flows) {
        let mut compared = 0;
        let found = table.find(flow, |other| {
            compared += 1;
            flows[other as usize] == *flow
        });
        assert_eq!(found.unwrap(), Some(index), "{flow:?}");
        most = most.max(compared);
    }
    most
}

/// Slots in use.
fn entries(buckets: &[SharedBucket]) -> u32 {
    let used = |bucket: &SharedBucket| (0..BUCKET_SLOTS).filter(|slot| bucket.load(*slot) != 0).count();
    buckets.iter().map(|bucket| u32::try_from(used(bucket)).unwrap()).sum()
}

/// The nth of many clients: a port each from all of 10.0.0.0/8, in a row.
fn client(n: u32) -> FlowKey {
    flow(Ipv4Addr::new(10, 0, 0, 0).to_bits() + n % (1 << 24), 40_000 + u16::try_from(n >> 24).unwrap())
}

fn flow(address: u32, src_port: u16) -> FlowKey {
    let mapped = |address: Ipv4Addr| address.to_ipv6_mapped().octets();
    let dst = mapped(Ipv4Addr::new(192, 0, 2, 1));
    FlowKey { src: mapped(Ipv4Addr::from_bits(address)), dst, src_port, dst_port: 9001 }
}

/// The nth number of a sequence without order (SplitMix64).
fn mixed(n: u64) -> u64 {
    let mut mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
