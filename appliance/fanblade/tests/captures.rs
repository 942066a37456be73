//! Packet captures, played by a blade and by the test exchange.

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use common::exchange::{Exchange, file_messages, join, loopback_group, messages, receive_until_end};
use common::{expected_frames, simulated_file};
use fanblade_feed::moldudp64::PacketBuilder;
use fanblade_testkit::Blade;

/// The capture of an exchange that publishes these messages in session `FRIDAY` to 239.192.1.1:26400, with the same
/// heartbeats to 239.192.1.2 in between. The packets with these numbers are missing.
fn capture_of(directory: &Path, all: &[(u64, Vec<u8>)], missing: &[u64]) -> PathBuf {
    // The file header: nanoseconds, little-endian, Ethernet.
    let mut file = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    let mut record = |group: u8, payload: &[u8]| {
        let udp_len = 8 + u16::try_from(payload.len()).unwrap();
        let ip = [
            &[0x45, 0][..],
            &(20 + udp_len).to_be_bytes(),
            &[0, 0, 0, 0, 1, 17, 0, 0, 10, 0, 0, 1, 239, 192, 1, group],
        ];
        let udp = [&40_000_u16.to_be_bytes()[..], &26_400_u16.to_be_bytes(), &udp_len.to_be_bytes(), &[0, 0]];
        let frame =
            [&[1, 0, 0x5e, 0x40, 1, group, 2, 0, 0, 0, 0, 1, 8, 0], &ip.concat()[..], &udp.concat(), payload].concat();
        // 2019-12-30, half past nine in New York.
        let frame_len = u32::try_from(frame.len()).unwrap();
        let words = [1_577_716_200, 0, frame_len, frame_len];
        file.extend_from_slice(&words.map(u32::to_le_bytes).concat());
        file.extend_from_slice(&frame);
    };
    let mut builder = PacketBuilder::new(*b"FRIDAY    ", 1, 1_400);
    for packet in all.chunks(20) {
        for (_, message) in packet {
            assert!(builder.push(message));
        }
        if !missing.contains(&packet[0].0) {
            record(1, builder.finish());
        }
        record(2, PacketBuilder::new(*b"MONDAY    ", 1, 20).finish());
        builder.reset();
    }
    record(1, builder.end_of_session());
    record(1, builder.bytes());
    let path = directory.join("a.pcap");
    std::fs::write(&path, file).unwrap();
    path
}

#[test]
fn a_blade_plays_a_capture_as_it_plays_the_file_of_its_messages() {
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 3_000);
    let capture = capture_of(directory.path(), &file_messages(&file), &[]);
    let expected = expected_frames(&file);
    let feed = format!("file:{}", capture.display());
    let blade = Blade::start(&["--workers", "1", "--wait-for", "1", "--feed", &feed]);
    let count = expected.len().to_string();
    let output = blade.subscribe(&["/NASDAQ/**", "--mode", "all", "--count", &count, "--for", "50"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let frames: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"s\":")).collect();
    assert!(frames == expected, "{} frames, not {count}", frames.len());
    let status = blade.until("the capture's end", |status| status["feed"]["state"] == "finished");
    assert_eq!(status["epoch"], "20191230-1", "{status:#}");
    blade.until_logged("the feed has ended after");
    let log = blade.log();
    assert!(log.contains("the packets to 239.192.1.1:26400 are played, not those to 239.192.1.2:26400 (150"), "{log}");
    assert!(log.contains("150 packets were none to 239.192.1.1:26400, 0 were not captured whole"), "{log}");
}

#[test]
fn what_a_capture_lacks_is_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let all = file_messages(&simulated_file(&directory, 2_000));
    let capture = capture_of(directory.path(), &all, &[1, 401, 421, 1_001]);
    let feed = format!("file:{}#239.192.1.1:26400", capture.display());
    let blade = Blade::start(&["--workers", "1", "--feed", &feed]);
    let status = blade.until("the capture's end", |status| status["feed"]["state"] == "finished");
    // Messages before the first packet are no gap: the capture began there.
    let feed = &status["feed"];
    assert_eq!((&feed["gaps"], &feed["gap_messages"]), (&2.into(), &60.into()), "{status:#}");
    assert_eq!(feed["messages"], 2_000 - 80, "{status:#}");
}

#[test]
fn a_capture_is_published_again() {
    let directory = tempfile::tempdir().unwrap();
    let all = file_messages(&simulated_file(&directory, 2_000));
    let capture = capture_of(directory.path(), &all, &[1, 401, 421, 1_001]);
    let group = loopback_group();
    let receiver = receive_until_end(join(&group));
    let exchange = Exchange::start(&[
        capture.to_str().unwrap(),
        "--to",
        &group,
        "--speed",
        "max",
        "--rate",
        "5000",
        "--linger",
        "0",
    ]);
    assert_eq!(exchange.ready["session"], "FRIDAY");
    let got = messages(&receiver.join().unwrap());
    let there = all.iter().filter(|(seq, _)| !matches!(seq, 1..=20 | 401..=440 | 1_001..=1_020));
    let expected: Vec<_> = (1..).zip(there.map(|(_, bytes)| bytes.clone())).collect();
    assert!(got == expected, "{} messages, not {}", got.len(), expected.len());
    assert_eq!(exchange.report()["messages"], 1_920);
}

/// Compresses a file, appends `tail`, and returns the new file's path.
fn gzipped(file: &Path, tail: &[u8]) -> PathBuf {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(file).unwrap()).unwrap();
    let path = PathBuf::from(format!("{}.gz", file.display()));
    std::fs::write(&path, [&encoder.finish().unwrap()[..], tail].concat()).unwrap();
    path
}

#[test]
fn what_follows_gzip_is_ignored_and_no_fault() {
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 2_000);
    let capture = capture_of(directory.path(), &file_messages(&file), &[]);
    for original in [file, capture] {
        for (tail, is_told) in [(&[0; 4_096][..], false), (b"garbage", true)] {
            let path = gzipped(&original, tail);
            let blade = Blade::start(&["--workers", "1", "--feed", &format!("file:{}", path.display())]);
            let status = blade.until("the end", |status| status["feed"]["state"] == "finished");
            let feed = &status["feed"];
            assert_eq!((&feed["messages"], &feed["malformed"]), (&2_000.into(), &0.into()), "{status:#}");
            blade.until_logged("the feed has ended after");
            let log = blade.log();
            assert_eq!(log.contains("is no gzip and is ignored"), is_told, "{log}");
            assert!(!log.contains("corrupt") && !log.contains("truncated"), "{log}");
            assert_eq!(blade.get("/metrics").1.contains("fanblade_feed_troubles_total{kind=\"gzip_tail\"} 1"), is_told);
        }
    }
}

#[test]
fn a_capture_of_another_link_layer_is_played_and_published_or_its_link_type_said() {
    let directory = tempfile::tempdir().unwrap();
    let all = file_messages(&simulated_file(&directory, 2_000));
    let capture = capture_of(directory.path(), &all, &[]);
    let mut bytes = std::fs::read(&capture).unwrap();
    // The link type "Ethernet, and 4 bytes of frame check sequence."
    bytes[23] = 0x44;
    std::fs::write(&capture, &bytes).unwrap();
    let blade = Blade::start(&["--workers", "1", "--feed", &format!("file:{}", capture.display())]);
    let status = blade.until("the end", |status| status["feed"]["state"] == "finished");
    assert_eq!((&status["feed"]["messages"], &status["epoch"]), (&2_000.into(), &"20191230-1".into()), "{status:#}");
    bytes[20] = 105;
    std::fs::write(&capture, &bytes).unwrap();
    for command in
        [&["run", "--no-ebpf", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--feed"][..], &["replay"]]
    {
        let place = capture.display().to_string();
        let place = if command.len() > 1 { format!("file:{place}") } else { place };
        let to = ["--to", "239.192.1.1:26400@lo"];
        let output = std::process::Command::new(common::FANBLADE)
            .args(command)
            .arg(place)
            .args(if command.len() > 1 { &[][..] } else { &to })
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{error}");
        let told = "no UDP was found among its 202 packets: 202 of link type 105 (IEEE 802.11), which is not read";
        assert!(error.contains(told), "{error}");
    }
}
