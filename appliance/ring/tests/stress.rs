//! One writer at full speed over a tiny ring, three reader processes that check every byte that they accept.

use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanblade_ring::{Descriptor, Lane, Lapped, NewFrame, Payloads, Reader, RingConfig, SubjectId, UnixNs, Writer};
use fanblade_testkit::{Child, PATIENCE};

const READERS: usize = 3;
const SUBJECTS: u32 = 24;
const DURATION: Duration = Duration::from_millis(1500);
/// What a reader prints then.
const ENOUGH: &str = "enough";
/// The writer's last epoch, which ends the readers.
const LAST_EPOCH: &str = "over";
/// Where a reader process finds the ring.
const RING_PATH: &str = "FANBLADE_STRESS_RING";

#[test]
fn no_torn_frame_is_ever_accepted() {
    // The smallest lanes and a small index: a lap takes microseconds.
    let config = RingConfig { index_len: 64, lane_len: [8192, 4096, 0, 4096], subjects_max: 32, checksums: true };
    let mut writer = Writer::create(&config, "running").unwrap();
    let subjects: Vec<SubjectId> =
        (0..SUBJECTS).map(|n| writer.subject(&format!("/V/{n}/bbo"), u16::try_from(n).unwrap()).unwrap()).collect();
    let path = format!("/proc/{}/fd/{}", std::process::id(), writer.fd().as_raw_fd());
    let readers: Vec<Running> = (0..READERS).map(|_| Running::start(&path)).collect();

    let start = Instant::now();
    let mut seq = 0;
    // A busy machine may start the readers late.
    while start.elapsed() < DURATION || !readers.iter().all(Running::has_seen_enough) {
        assert!(start.elapsed() < PATIENCE, "the readers have not seen enough");
        for _ in 0..256 {
            seq += 1;
            publish(&mut writer, &subjects, seq);
        }
    }
    writer.set_epoch(LAST_EPOCH).unwrap();
    let tallies: Vec<Tally> = readers.into_iter().map(Running::tally).collect();
    println!("{:?}\n{tallies:#?}", writer.stats());
    let sum = |part: fn(&Tally) -> u64| tallies.iter().map(part).sum::<u64>();
    assert_eq!(sum(|tally| tally.torn), 0, "{tallies:?}");
    assert_eq!(sum(|tally| tally.wrong), 0, "{tallies:?}");
    // Otherwise this would have shown nothing.
    assert!(tallies.iter().all(Tally::is_enough), "{tallies:?}");
    assert!(writer.stats().refreshed > 0);
}

/// Everything in a payload follows from `seq`, lane and subject.
fn publish(writer: &mut Writer, subjects: &[SubjectId], seq: u64) {
    // Subject 0 takes most, so that the others are refreshed again and again.
    let subject = if seq.is_multiple_of(5) { subjects[(seq / 5) as usize % subjects.len()] } else { subjects[0] };
    let payloads: [Vec<u8>; 4] = std::array::from_fn(|lane| payload(seq, lane));
    let payloads: Payloads<'_> = std::array::from_fn(|lane| payloads[lane].as_slice());
    let update = NewFrame {
        subject,
        channel: u16::try_from(subject.0).unwrap(),
        seq,
        ts_feed_ns: UnixNs(seq),
        ts_publish_ns: UnixNs(!seq),
    };
    writer.publish(&update, &payloads).unwrap();
}

fn payload(seq: u64, lane: usize) -> Vec<u8> {
    let lane = lane as u64;
    let len = 1 + (seq * 7 + lane * 13) % 60;
    vec![seq.wrapping_mul(31).wrapping_add(lane).to_le_bytes()[0]; usize::try_from(len).unwrap()]
}

/// A reader process: this binary again, running only the test below.
struct Running {
    child: Child,
    has_seen_enough: Arc<AtomicBool>,
    /// All that it has printed.
    text: Option<JoinHandle<String>>,
}

impl Running {
    fn start(path: &str) -> Self {
        let mut child = Child::spawn(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "reader_process", "--ignored", "--nocapture", "--test-threads=1"])
                .env(RING_PATH, path)
                .stdout(Stdio::piped()),
        );
        let has_seen_enough = Arc::new(AtomicBool::new(false));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let seen = Arc::clone(&has_seen_enough);
        let text = std::thread::spawn(move || {
            let mut text = String::new();
            for line in stdout.lines().map_while(Result::ok) {
                seen.fetch_or(line == ENOUGH, Relaxed);
                text += &format!("{line}\n");
            }
            text
        });
        Self { child, has_seen_enough, text: Some(text) }
    }

    fn has_seen_enough(&self) -> bool {
        self.has_seen_enough.load(Relaxed)
    }

    fn tally(mut self) -> Tally {
        let text = self.text.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        let line = text.lines().find_map(|line| line.split_once("tally ")).unwrap_or_else(|| panic!("{text}")).1;
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [accepted, lapped, caught, torn, wrong] = numbers[..] else { panic!("{text}") };
        Tally { accepted, lapped, caught, torn, wrong }
    }
}

#[derive(Debug, Default)]
struct Tally {
    /// Frames that passed validation.
    accepted: u64,
    /// Descriptors that were gone already.
    lapped: u64,
    /// Frames that were overwritten during the copy, which validation noticed.
    caught: u64,
    /// Frames that passed validation with a wrong checksum.
    torn: u64,
    /// Frames that passed, but are not what their descriptor says.
    wrong: u64,
}

impl Tally {
    /// Enough to show something: frames were read, gone before it came, and overwritten while it read.
    fn is_enough(&self) -> bool {
        self.accepted > 1_000 && self.lapped > 0 && self.caught > 0
    }
}

#[test]
#[ignore = "the reader process of no_torn_frame_is_ever_accepted, which runs it"]
fn reader_process() {
    let path = std::env::var(RING_PATH).expect("to be run by no_torn_frame_is_ever_accepted only");
    let reader = Reader::open(std::fs::File::open(path).unwrap().as_fd()).unwrap();
    let mut tally = Tally::default();
    let mut bytes = Vec::new();
    let mut cursor = reader.oldest();
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut round = 0_u32;
    let mut is_told = false;
    while reader.epoch().1 != LAST_EPOCH && Instant::now() < deadline {
        // In turn: follow the tail, start at the edge, look up a last value.
        round = round.wrapping_add(1);
        if !is_told && tally.is_enough() {
            is_told = true;
            println!("\n{ENOUGH}");
        }
        let index = match round % 8 {
            0 => reader.newest(SubjectId(round / 8 % SUBJECTS)).unwrap_or_default(),
            1 => reader.oldest(),
            2 => reader.oldest().back(8),
            _ if cursor < reader.tail() => cursor,
            _ => continue,
        };
        cursor = index.next();
        match reader.descriptor(index) {
            Ok(descriptor) => check(&reader, &descriptor, &mut bytes, &mut tally),
            Err(Lapped) => {
                tally.lapped += 1;
                cursor = reader.oldest();
            }
        }
    }
    let Tally { accepted, lapped, caught, torn, wrong } = tally;
    println!("\ntally {accepted} {lapped} {caught} {torn} {wrong}");
}

fn check(reader: &Reader, descriptor: &Descriptor, bytes: &mut Vec<u8>, tally: &mut Tally) {
    for lane in [Lane::Json, Lane::Binary, Lane::Sse] {
        bytes.clear();
        if reader.copy_frame(descriptor, lane, bytes) == Err(Lapped) {
            tally.caught += 1;
            return;
        }
        tally.accepted += 1;
        let expected = payload(descriptor.seq, lane as usize);
        tally.torn += u64::from(crc32fast::hash(bytes) != descriptor.lanes[lane as usize].crc);
        tally.wrong += u64::from(!bytes.ends_with(&expected) || descriptor.ts_publish_ns != UnixNs(!descriptor.seq));
    }
}
