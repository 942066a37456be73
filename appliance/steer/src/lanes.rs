//! The control of lanes: loads their programs, holds their maps, runs the program that sends.
//!
//! One [`Lanes`] is what one worker needs. It knows maps and programs, and nothing of sockets or sessions: which
//! connection becomes a lane, and what is sent when, is decided elsewhere.

pub mod buckets;
mod lookup;
mod memory;
mod sys;
pub mod table;

use std::os::fd::AsFd as _;
use std::ptr::NonNull;
use std::time::Duration;

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{BtfTracePoint, ProgramError, SchedClassifier, TcAttachType, TestRunAttrs, Xdp, xdp};
use aya::{Btf, Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use fanblade_abi::lane::record::ring_len;
use fanblade_abi::lane::segment::complete_sum;
use fanblade_abi::lane::work::{RUN_ITEMS_MAX, SLOTS_LEN, TEMPLATE_LEN, items_max};
use fanblade_abi::lane::{
    Item, LAYOUT_VERSION, Lane, LaneCounters, LaneHook, LaneVerdict, Lost, Path, Record, Sender, Sending,
};
use fanblade_abi::limits::LANES_MAX;
use fanblade_abi::lookup::{buckets_for, overflow_for};
use fanblade_abi::packet::parse;
use fanblade_abi::{Config, FlowKey};

use crate::error::{SteerError, errno};
use crate::probe;
use crate::steer::{ports, program, take};
use crate::sys::Plain;
use lookup::Lookup;
use sys::{Mapping, read_record};

pub use memory::memory;

/// Options for loading the programs of lanes.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// TCP ports whose connections can be lanes; at most [`PORTS_MAX`](fanblade_abi::limits::PORTS_MAX).
    pub ports: Vec<u16>,
    /// Lanes at most; [`memory`] says what they take.
    pub lanes_max: u32,
    /// Frames that the kernel makes before it hands them to the device, at most [`BATCH_MAX`]. With a small batch a
    /// peer on the same machine has room for the next one.
    pub batch: u32,
    /// The programs take the time from [`Lanes::set_test_time`]. For tests.
    pub has_test_clock: bool,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self { ports: Vec::new(), lanes_max: 65_536, batch: 64, has_test_clock: false }
    }
}

/// The greatest [`LaneOptions::batch`]: `TEST_XDP_MAX_BATCH` in the kernel's net/bpf/test_run.c.
pub const BATCH_MAX: u32 = 256;

/// Neighbours, with their ports and addresses of ours, that lanes can go to.
pub const PATHS_MAX: u32 = 4_096;

/// What became of the items of [`Lanes::send`]. Those that were refused say so themselves ([`Lanes::item`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Packets that were made and sent on to the device.
    pub frames: u32,
    /// Of these, packets that the device did not take: [`Lanes::lost`] says which.
    pub lost: u32,
    /// Of these, packets of which the device said nothing, because it is down or takes no frames of this kind at all.
    /// If there are any, it is not known which packets were sent.
    pub unknown: u32,
    /// What the device said of the newest loss, a negative error number; 0: it had no room.
    pub error: i32,
}

/// The result of running a program over a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRun {
    /// The program's answer (`XDP_DROP` is 1, `XDP_PASS` 2, `XDP_REDIRECT` 4; tcx "next" is -1, "drop" 2).
    pub action: i32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Mean time of one run.
    pub duration: Duration,
}

/// The programs of lanes and their maps. Dropping it detaches the programs.
pub struct Lanes {
    ebpf: Ebpf,
    batch: u32,
    /// The first item of the newest run.
    first: u32,
    lanes: Mapping<Lane>,
    paths: Mapping<Path>,
    items: Mapping<Item>,
    sender: Mapping<Sender>,
    slots: Mapping<u64>,
    lost: Mapping<Lost>,
    test_time: Mapping<u64>,
    lookup: Lookup,
    records: RingBuf<MapData>,
    verdicts: PerCpuArray<MapData, Plain<LaneCounters>>,
    /// Sums of the maps' memory, in bytes, as the kernel counts it.
    memory: u64,
}

impl Lanes {
    /// Loads the programs and makes their maps.
    pub fn load(options: &LaneOptions) -> Result<Self, SteerError> {
        let ports = ports(&options.ports)?;
        require("lanes_max", options.lanes_max, LANES_MAX)?;
        require("batch", options.batch, BATCH_MAX)?;
        probe::require_capabilities()?;

        let (test_clock, lanes_max) = (u32::from(options.has_test_clock), options.lanes_max);
        let paths_max = paths_max(lanes_max);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("TEST_CLOCK", &test_clock, true)
            .map_max_entries("LANES", lanes_max)
            .map_max_entries("BUCKETS", buckets_for(lanes_max))
            .map_max_entries("OVERFLOW", overflow_for(lanes_max))
            .map_max_entries("PATHS", paths_max)
            .map_max_entries("WORK", items_max(lanes_max))
            .map_max_entries("RECORDS", ring_len(lanes_max));
        let mut ebpf = loader.load(OBJECT)?;
        load_programs(&mut ebpf)?;

        let memory = ebpf.maps().map(|(_name, map)| sys::memory_of(map)).sum();
        let failed = |name: &'static str| move |error| SteerError::load(name, &error);
        let mut config: aya::maps::Array<_, Plain<Config>> =
            take(&mut ebpf, "LANE_CONFIG")?.try_into().map_err(failed("LANE_CONFIG"))?;
        let settings = Config { layout_version: LAYOUT_VERSION, workers: 0, ports };
        config.set(0, Plain(settings), 0).map_err(|cause| SteerError::Map { map: "LANE_CONFIG", cause })?;
        Ok(Self {
            batch: options.batch,
            first: 0,
            lanes: mapping(&mut ebpf, "LANES", lanes_max as usize)?,
            paths: mapping(&mut ebpf, "PATHS", paths_max as usize)?,
            items: mapping(&mut ebpf, "WORK", items_max(lanes_max) as usize)?,
            sender: mapping(&mut ebpf, "SENDER", 1)?,
            slots: mapping(&mut ebpf, "SLOTS", SLOTS_LEN / size_of::<u64>())?,
            lost: mapping(&mut ebpf, "LOST", RUN_ITEMS_MAX as usize)?,
            test_time: mapping(&mut ebpf, "TEST_TIME", 1)?,
            lookup: Lookup::new(
                mapping(&mut ebpf, "BUCKETS", buckets_for(lanes_max) as usize)?.into(),
                mapping(&mut ebpf, "LOOKUP", 1)?,
                take(&mut ebpf, "OVERFLOW")?.try_into().map_err(failed("OVERFLOW"))?,
            )?,
            records: take(&mut ebpf, "RECORDS")?.try_into().map_err(failed("RECORDS"))?,
            verdicts: take(&mut ebpf, "LANE_VERDICTS")?.try_into().map_err(failed("LANE_VERDICTS"))?,
            ebpf,
            memory,
        })
    }

    /// Memory that the maps take, in bytes, as the kernel says; on Linux before 6.4 it counts less than there is.
    #[must_use]
    pub const fn memory(&self) -> u64 {
        self.memory
    }

    /// Attaches the program that takes the clients' packets, in the interface's driver.
    pub fn attach_receive(&mut self, interface: &str) -> Result<(), SteerError> {
        self.attach_xdp(RECEIVE, interface)
    }

    /// Attaches the program that sends to an interface that is never up, one end of a spare veth pair: a program that
    /// is attached nowhere makes every [`Lanes::send`] wait 24 ms, in which the kernel enters it into its dispatcher
    /// and removes it again (`bpf_prog_change_xdp` in net/bpf/test_run.c).
    pub fn keep_ready(&mut self, spare_interface: &str) -> Result<(), SteerError> {
        self.attach_xdp(SEND, spare_interface)
    }

    /// Attaches the program that keeps resets of the kernel from the lanes' clients. Needs Linux 6.6.
    pub fn attach_guard(&mut self, interface: &str) -> Result<(), SteerError> {
        let program: &mut SchedClassifier = program(&mut self.ebpf, GUARD)?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let attached = program.attach_with_options(interface, TcAttachType::Egress, options);
        attached.map(|_link| ()).map_err(|error| SteerError::load(GUARD, &error))
    }

    /// Attaches the program that sees what the devices do not take. Without it, [`Sent::unknown`] is all that was sent.
    pub fn attach_drops(&mut self) -> Result<(), SteerError> {
        let program: &mut BtfTracePoint = program(&mut self.ebpf, DROPS)?;
        program.attach().map(|_link| ()).map_err(|error| SteerError::load(DROPS, &error))
    }

    fn attach_xdp(&mut self, name: &'static str, interface: &str) -> Result<(), SteerError> {
        let program: &mut Xdp = program(&mut self.ebpf, name)?;
        let attached = program.attach(interface, xdp::XdpMode::Driver);
        attached.map(|_link| ()).map_err(|error| SteerError::load(name, &error))
    }

    /// The state of a lane. While it is used, a program may change it between two fields that are read.
    #[must_use]
    pub fn lane(&self, index: u32) -> Option<Lane> {
        self.lanes.read(index)
    }

    /// Writes the state of a lane that is held, or that no flow leads to. The programs may see it half written: a lane
    /// in use stays held ([`Sending::HELD`]) in what is written, and is released afterwards.
    pub fn set_lane(&mut self, index: u32, lane: &Lane) -> Result<(), SteerError> {
        self.lanes.write(index, lane).ok_or_else(|| SteerError::beyond("lane", index, self.lanes.len()))
    }

    /// Holds a lane: nothing is sent, and what its client sends becomes [`Record::HELD`]. A program that runs at this
    /// moment may still take a packet as before; after `membarrier(MEMBARRIER_CMD_GLOBAL)` none does.
    pub fn hold(&mut self, index: u32) -> Result<(), SteerError> {
        let held = self.lanes.change_flags(index, Sending::HELD, 0);
        held.ok_or_else(|| SteerError::beyond("lane", index, self.lanes.len()))
    }

    /// Ends [`Lanes::hold`].
    pub fn release(&mut self, index: u32) -> Result<(), SteerError> {
        let released = self.lanes.change_flags(index, 0, Sending::HELD);
        released.ok_or_else(|| SteerError::beyond("lane", index, self.lanes.len()))
    }

    /// Writes a path. Lanes that go by it see the change at once, field by field.
    pub fn set_path(&mut self, index: u32, path: &Path) -> Result<(), SteerError> {
        self.paths.write(index, path).ok_or_else(|| SteerError::beyond("path", index, self.paths.len()))
    }

    /// From now on the flow's packets are the lane's, whose state is ready for them. The flow has no lane before.
    pub fn enter(&mut self, flow: &FlowKey, lane: u32) -> Result<(), SteerError> {
        self.lookup.enter(flow, lane, |other| self.is_lane_of(other, flow))
    }

    /// Are these the flow's addresses and ports?
    fn is_lane_of(&self, lane: u32, flow: &FlowKey) -> bool {
        let Some(Lane { sending, .. }) = self.lanes.read(lane) else { return false };
        let is_client = (sending.client, sending.client_port) == (flow.src, flow.src_port);
        let path = self.paths.read(sending.path.into());
        is_client && path.is_some_and(|path| (path.blade, path.blade_port) == (flow.dst, flow.dst_port))
    }

    /// From now on the packets of a flow that was entered with this lane go to the kernel. Was it there?
    pub fn leave(&mut self, flow: &FlowKey, lane: u32) -> Result<bool, SteerError> {
        self.lookup.leave(flow, lane)
    }

    /// Copies a payload into the slots, `at` so many bytes behind their beginning. A payload that an item names stays
    /// there until the client has acknowledged it.
    pub fn stage(&mut self, at: usize, payload: &[u8]) -> Result<(), SteerError> {
        self.slots.copy_in(at, payload).ok_or_else(|| SteerError::OutOfRange {
            what: "end of the payload",
            value: at.saturating_add(payload.len()) as u64,
            allowed: format!("at most {SLOTS_LEN}"),
        })
    }

    /// Writes an item. `place` is counted on and on: behind the last entry comes the first.
    pub fn set_item(&mut self, place: u32, item: &Item) {
        let _within: Option<()> = self.items.write(place & self.mask(), item);
    }

    /// An item, with its outcome once it was sent.
    #[must_use]
    pub fn item(&self, place: u32) -> Item {
        self.items.read(place & self.mask()).unwrap_or_default()
    }

    /// Entries of `WORK`, less one.
    fn mask(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(u32::MAX).wrapping_sub(1)
    }

    /// Sends the packets of `count` items from `first` on, in their order, by one interface. Their outcomes are
    /// [`Item::WAITING`] before. Costs some 13 µs and 0.2 µs an item; at most [`RUN_ITEMS_MAX`] at once.
    pub fn send(&mut self, interface: u32, first: u32, count: u32) -> Result<Sent, SteerError> {
        let end = self.prepare(interface, first, count)?;
        let mut left = count;
        while left > 0 {
            let attrs = TestRunAttrs::new().xdp_live_frames(self.batch);
            let options = TestRunOptions { data_in: Some(&TEMPLATE), repeat: left, attrs, ..TestRunOptions::new() };
            let result = program::<Xdp>(&mut self.ebpf, SEND)?.test_run(options);
            left = end.wrapping_sub(self.sender().cursor);
            match result {
                // A signal ends a run between two batches.
                Err(error) if errno(&error) == Some(libc::EINTR) => {}
                Err(error) => return Err(SteerError::load(SEND, &error)),
                Ok(_) => break,
            }
        }
        Ok(self.sent())
    }

    /// Gives a frame that was held back to the kernel, as if it had just come by the interface. Its flow must have left
    /// the lookup, and its socket must be there. A checksum that was left to a card is put in. Costs some 13 µs.
    ///
    /// # Errors
    /// The kernel does not take it: a frame beyond some 3,400 bytes (net/bpf/test_run.c), or no such interface. The
    /// client will send it again.
    pub fn give_back(&mut self, interface: u32, frame: &[u8]) -> Result<(), SteerError> {
        let mut frame = frame.to_vec();
        if let Ok(segment) = parse(frame.as_slice()) {
            complete_sum(&mut frame, &segment);
        }
        // `struct xdp_md` (include/uapi/linux/bpf.h): data, data_end, data_meta, ingress_ifindex and two more.
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let ctx: Vec<u8> = [0, len, 0, interface, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let attrs = TestRunAttrs::new().xdp_live_frames(1);
        let options =
            TestRunOptions { data_in: Some(&frame), ctx_in: Some(&ctx), repeat: 1, attrs, ..TestRunOptions::new() };
        let result = program::<Xdp>(&mut self.ebpf, GIVEBACK)?.test_run(options);
        result.map(drop).map_err(|error| SteerError::load(GIVEBACK, &error))
    }

    /// What became of the newest run.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let sender = self.sender();
        let newest = sender.losses.checked_sub(1).and_then(|at| self.lost.read(at));
        Sent {
            frames: sender.redirected,
            lost: sender.lost,
            unknown: sender.redirected.wrapping_sub(sender.passed),
            error: newest.map_or(0, |lost| lost.error),
        }
    }

    /// Fills `SENDER` for a run. Returns the place behind its last item.
    fn prepare(&mut self, interface: u32, first: u32, count: u32) -> Result<u32, SteerError> {
        if count > RUN_ITEMS_MAX {
            let allowed = format!("at most {RUN_ITEMS_MAX}");
            return Err(SteerError::OutOfRange { what: "number of items", value: count.into(), allowed });
        }
        let end = first.wrapping_add(count);
        let sender = Sender { cursor: first, end, mask: self.mask(), interface, ..Sender::default() };
        let _within: Option<()> = self.sender.write(0, &sender);
        self.first = first;
        Ok(end)
    }

    fn sender(&self) -> Sender {
        self.sender.read(0).unwrap_or_default()
    }

    /// The items of the newest run whose packets the device did not take, by their places.
    pub fn lost(&self) -> impl Iterator<Item = u32> + '_ {
        let sender = self.sender();
        let count = sender.end.wrapping_sub(self.first);
        let places = (0..count).map(|at| self.first.wrapping_add(at));
        let mut sent = places.filter(|place| self.item(*place).outcome == Item::SENT);
        let mut passed = 0;
        (0..sender.losses).filter_map(|at| self.lost.read(at)).flat_map(move |lost| {
            // The losses come in the order of the packets.
            let skipped = lost.first.saturating_sub(passed) as usize;
            passed = lost.first.saturating_add(lost.count);
            sent.by_ref().skip(skipped).take(lost.count as usize).collect::<Vec<_>>()
        })
    }

    /// The entries of `WORK` where they are mapped, for a writer that is no [`Lanes`]; and how many. They stay for as
    /// long as `self` lives.
    #[must_use]
    pub fn mapped_items(&self) -> (NonNull<Item>, usize) {
        self.items.place()
    }

    /// The words of `SLOTS`, likewise.
    #[must_use]
    pub fn mapped_slots(&self) -> (NonNull<u64>, usize) {
        self.slots.place()
    }

    /// The states of `LANES`, likewise.
    #[must_use]
    pub fn mapped_lanes(&self) -> (NonNull<Lane>, usize) {
        self.lanes.place()
    }

    /// Hands the oldest record of the ring buffer to `read`, and frees its place; `None`: there is none.
    pub fn next_record<T>(&mut self, read: impl FnOnce(&Record, &[u8]) -> T) -> Option<T> {
        loop {
            let bytes = self.records.next()?;
            // What is shorter than its head says was not written by our program.
            if let Some((record, rest)) = read_record(&bytes) {
                return Some(read(&record, rest));
            }
        }
    }

    /// A descriptor that is readable when there are records.
    #[must_use]
    pub fn records_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.records.as_fd()
    }

    /// Each verdict's name and count, summed over the CPUs.
    pub fn verdicts(&self) -> Result<[(&'static str, u64); LaneVerdict::ALL.len()], SteerError> {
        let values = self.verdicts.get(&0, 0).map_err(|cause| SteerError::Map { map: "LANE_VERDICTS", cause })?;
        Ok(LaneVerdict::ALL.map(|verdict| (verdict.name(), values.iter().map(|Plain(one)| one.count(verdict)).sum())))
    }

    /// Sets the clock, in nanoseconds, where [`LaneOptions::has_test_clock`] says that it is ours.
    pub fn set_test_time(&mut self, now_ns: u64) {
        let _written: Option<()> = self.test_time.write(0, &now_ns);
    }

    /// Runs a program over a frame, as if an interface had seen it (`BPF_PROG_TEST_RUN`): the counters count it.
    pub fn run(&mut self, hook: LaneHook, frame: &[u8], repeat: u32) -> Result<LaneRun, SteerError> {
        let mut out = vec![0; frame.len() + TEMPLATE_LEN];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat, ..TestRunOptions::new() };
        let (name, result) = match hook {
            LaneHook::Send => (SEND, program::<Xdp>(&mut self.ebpf, SEND)?.test_run(options)),
            LaneHook::Receive => (RECEIVE, program::<Xdp>(&mut self.ebpf, RECEIVE)?.test_run(options)),
            LaneHook::Guard => (GUARD, program::<SchedClassifier>(&mut self.ebpf, GUARD)?.test_run(options)),
            LaneHook::Giveback => (GIVEBACK, program::<Xdp>(&mut self.ebpf, GIVEBACK)?.test_run(options)),
        };
        let result = result.map_err(|error| SteerError::load(name, &error))?;
        out.truncate(result.data_size_out as usize);
        Ok(LaneRun { action: result.return_value.cast_signed(), frame: out, duration: result.duration })
    }

    /// As [`Lanes::send`] for one item, but nothing is sent: the packet that the program makes of the template is
    /// returned.
    pub fn try_send(&mut self, interface: u32, place: u32, template: &[u8]) -> Result<LaneRun, SteerError> {
        self.prepare(interface, place, 1)?;
        self.run(LaneHook::Send, template, 1)
    }
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), SteerError> {
    let failed = |name: &'static str| move |error: ProgramError| SteerError::load(name, &error);
    program::<Xdp>(ebpf, SEND)?.load().map_err(failed(SEND))?;
    program::<Xdp>(ebpf, RECEIVE)?.load().map_err(failed(RECEIVE))?;
    program::<SchedClassifier>(ebpf, GUARD)?.load().map_err(failed(GUARD))?;
    program::<Xdp>(ebpf, GIVEBACK)?.load().map_err(failed(GIVEBACK))?;
    let types = Btf::from_sys_fs().map_err(|error| SteerError::load(DROPS, &error))?;
    program::<BtfTracePoint>(ebpf, DROPS)?.load("xdp_devmap_xmit", &types).map_err(failed(DROPS))
}

fn mapping<T: sys::Shared>(ebpf: &mut Ebpf, name: &'static str, len: usize) -> Result<Mapping<T>, SteerError> {
    match take(ebpf, name)? {
        Map::Array(map) => Mapping::new(map.fd().as_fd(), len).map_err(|error| SteerError::load(name, &error)),
        other => Err(SteerError::load(name, &std::io::Error::other(format!("is {other:?}")))),
    }
}

fn paths_max(lanes_max: u32) -> u32 {
    lanes_max.min(PATHS_MAX)
}

fn require(what: &'static str, value: u32, max: u32) -> Result<(), SteerError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(SteerError::OutOfRange { what, value: value.into(), allowed: format!("1 to {max}") })
}

/// The packet that the sending program makes its packets of; every byte that is sent is written anew.
pub static TEMPLATE: [u8; TEMPLATE_LEN] = [0; TEMPLATE_LEN];

const OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/prebuilt/lanes.bpf.o");
const SEND: &str = "lane_send";
const RECEIVE: &str = "lane_receive";
const GUARD: &str = "lane_guard";
const GIVEBACK: &str = "lane_giveback";
const DROPS: &str = "lane_drops";
