//! What a publish costs: `cargo run --release -p fanblade-ring --example publish_cost`.
//!
//! One thread, no readers, several laps; 40,000 subjects with power-law activity, as a market has. The figures are the
//! thread's CPU time in ns per publish, the best of five runs.

use fanblade_ring::{LANES, Lane, NewFrame, RingConfig, SubjectId, UnixNs, Writer, pair};
use nix::time::{ClockId, clock_gettime};

const SUBJECTS: u32 = 40_000;
const PUBLISHES: u64 = 1_000_000;

fn main() {
    println!("payload bytes: JSON / binary                     plain   checksums   one waker");
    for (json, binary) in [(64, 0), (500, 0), (500, 64), (1000, 0)] {
        let plain = best(json, binary, false, false);
        let checksums = best(json, binary, true, false);
        let waker = best(json, binary, false, true);
        println!("{json:>13} / {binary:<32} {plain:>6.0} {checksums:>11.0} {waker:>11.0}");
    }
    one_subject();
    copies();
}

fn best(json: usize, binary: usize, checksums: bool, waker: bool) -> f64 {
    (0..5).map(|_| run(json, binary, checksums, waker)).fold(f64::INFINITY, f64::min)
}

fn run(json: usize, binary: usize, checksums: bool, waker: bool) -> f64 {
    let lane_len = [128 << 20, if binary > 0 { 16 << 20 } else { 0 }, 0, 0];
    let mut writer = Writer::create(&RingConfig { checksums, lane_len, ..RingConfig::default() }, "cost").unwrap();
    if waker {
        writer.add_waker(pair().unwrap().0);
    }
    let subjects: Vec<SubjectId> = (0..SUBJECTS).map(|n| writer.subject(&format!("/V/{n}/bbo"), 2).unwrap()).collect();
    let (json, binary) = (vec![b'j'; json], vec![b'b'; binary]);
    let mut seq = 0;
    let mut publish = |subject| {
        seq += 1;
        let update = NewFrame { subject, channel: 2, seq, ts_feed_ns: UnixNs(seq), ts_publish_ns: UnixNs(seq) };
        let payloads: [&[u8]; LANES] = [&json, &binary, b"", b""];
        writer.publish(&update, &payloads).unwrap();
    };
    subjects.iter().for_each(|subject| publish(*subject));
    let mut random = 88_172_645_463_325_252_u64;
    let start = cpu_ns();
    for _ in 0..PUBLISHES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The cube of a uniform number: one percent of the subjects takes a fifth of the frames.
        let uniform = (random >> 11) as f64 / (1_u64 << 53) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to SUBJECTS - 1")]
        let place = (uniform * uniform * uniform * f64::from(SUBJECTS)) as usize;
        publish(subjects[place]);
    }
    (cpu_ns() - start) / PUBLISHES as f64
}

/// How much of the above is refreshing and cold memory.
fn one_subject() {
    let config = RingConfig { index_len: 1 << 12, lane_len: [1 << 20, 0, 0, 0], subjects_max: 16, checksums: false };
    let mut writer = Writer::create(&config, "cost").unwrap();
    let subject = writer.subject("/V/A/bbo", 2).unwrap();
    let payload = [b'j'; 500];
    let start = cpu_ns();
    for seq in 0..PUBLISHES {
        let update = NewFrame { subject, channel: 2, seq, ts_feed_ns: UnixNs(seq), ts_publish_ns: UnixNs(seq) };
        writer.publish(&update, &[&payload, b"", b"", b""]).unwrap();
    }
    println!("500 bytes, one subject, ring within the cache: {:.0}", (cpu_ns() - start) / PUBLISHES as f64);
}

/// The reader's side.
fn copies() {
    let mut writer = Writer::create(&RingConfig::default(), "cost").unwrap();
    let subject = writer.subject("/V/A/bbo", 2).unwrap();
    let payload = [b'j'; 500];
    for seq in 0..50_000 {
        let update = NewFrame { subject, channel: 2, seq, ts_feed_ns: UnixNs(seq), ts_publish_ns: UnixNs(seq) };
        writer.publish(&update, &[&payload, b"", b"", b""]).unwrap();
    }
    let reader = writer.open_reader().unwrap();
    let mut frame = Vec::with_capacity(1024);
    let (oldest, tail) = (reader.oldest(), reader.tail());
    let frames = tail.since(oldest) as f64;
    let start = cpu_ns();
    let sum: u64 = oldest.until(tail).map(|index| reader.descriptor(index).unwrap().lanes[0].position.0).sum();
    let descriptor_ns = (cpu_ns() - start) / frames;
    let start = cpu_ns();
    for index in oldest.until(tail) {
        frame.clear();
        reader.copy_frame(&reader.descriptor(index).unwrap(), Lane::Json, &mut frame).unwrap();
    }
    let copy_ns = (cpu_ns() - start) / frames;
    println!(
        "reader: descriptor {descriptor_ns:.0}, descriptor and copy of 500 bytes {copy_ns:.0} (control {})",
        sum % 10
    );
}

fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}
