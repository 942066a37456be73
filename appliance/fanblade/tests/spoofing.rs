//! A stranger sends to the exchange's multicast groups.

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::exchange::{Exchange, file_messages, loopback_group};
use common::{FANBLADE, expected_frames, simulated_file};
use fanblade_feed::moldudp64::{HEADER_LEN, PacketBuilder};
use fanblade_testkit::{Blade, Child};

/// A socket that sends to groups by loopback.
fn sender() -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.into()
}

fn address(group: &str) -> SocketAddr {
    group.split('@').next().unwrap().parse().unwrap()
}

fn packet(session: [u8; 10], sequence: u64, messages: &[&[u8]]) -> Vec<u8> {
    let mut builder = PacketBuilder::new(session, sequence, 1_400);
    for message in messages {
        assert!(builder.push(message));
    }
    builder.finish().to_vec()
}

fn blade(directory: &tempfile::TempDir, lines: &[&str], section: &str) -> Blade {
    let lines: Vec<String> = lines.iter().map(|line| format!("{line:?}")).collect();
    let file = directory.path().join("blade.toml");
    let lines = lines.join(", ");
    let config = format!(
        "[feed]\nsource = \"moldudp64\"\ndate = \"2019-12-30\"\n[feed.moldudp64]\nlines = [{lines}]\n{section}\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--config"]).arg(&file);
    Blade::spawn(command)
}

/// Sends false packets, so far apart that each one comes alone, until it is stopped.
fn lie(group: &str, session: [u8; 10], done: &AtomicBool) -> u64 {
    let (socket, to) = (sender(), address(group));
    let mut lies = 0;
    while !done.load(Relaxed) {
        let ahead = 1_500_000 + 200_000 * lies;
        let mut other = *b"FALSE00000";
        other[5..].copy_from_slice(format!("{:05}", lies % 100_000).as_bytes());
        let lie = match lies % 6 {
            0 => packet(other, 1, &[b"a message of nobody's"]),
            1 => packet(session, ahead, &[]),
            2 => packet(other, 700 + lies, &[]),
            3 => packet(session, ahead, &[b"far ahead", b"and further"]),
            4 => PacketBuilder::new(other, 9, HEADER_LEN).end_of_session().to_vec(),
            _ => PacketBuilder::new(session, ahead, HEADER_LEN).end_of_session().to_vec(),
        };
        socket.send_to(&lie, to).unwrap();
        lies += 1;
        std::thread::sleep(Duration::from_millis(40));
    }
    lies
}

#[test]
fn a_liar_beside_the_exchange_costs_no_message_and_no_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 12_000);
    let expected = expected_frames(&file);
    for lines in [1, 2] {
        let groups = [loopback_group(), loopback_group()];
        let names: Vec<&str> = groups.iter().take(lines).map(String::as_str).collect();
        let mut args = vec![file.to_str().unwrap(), "--to", &groups[0]];
        if lines == 2 {
            args.extend(["--to-b", &groups[1]]);
        }
        args.extend(["--requests", "127.0.0.1:0", "--speed", "max", "--rate", "3000", "--linger", "60"]);
        args.extend(["--wait-for", "stdin"]);
        let mut exchange = Exchange::start(&args);
        let mut session = [b' '; 10];
        session[..exchange.ready["session"].len()].copy_from_slice(exchange.ready["session"].as_bytes());
        let blade = blade(&directory, &names, &format!("requests = [\"{}\"]", exchange.address("requests")));
        let mut listener = blade.subscriber(&["/NASDAQ/**", "--mode", "all", "--for", "100"]);
        let count = expected.len().to_string();
        let listener = Child::spawn(listener.args(["--count", &count]).stdout(Stdio::piped()).stderr(Stdio::null()));
        blade.until("the subscriber", |status| status["totals"]["sessions_subscribed"] == 1);
        let done = AtomicBool::new(false);
        let (lies, output) = std::thread::scope(|scope| {
            exchange.begin();
            blade.until("the session", |status| status["feed"]["messages"].as_u64() > Some(100));
            let liar = scope.spawn(|| lie(&groups[lines - 1], session, &done));
            let output = listener.output();
            done.store(true, Relaxed);
            (liar.join().unwrap(), output)
        });
        let text = String::from_utf8(output.stdout).unwrap();
        let frames: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"s\":")).collect();
        let differs = frames.iter().zip(&expected).position(|(got, expected)| got != expected);
        assert_eq!((differs, frames.len()), (None, expected.len()), "{}", blade.log());
        let status = blade.until("all lies", |status| status["feed"]["suspected"].as_u64() >= Some(lies / 2));
        let epoch = format!("20191230-{}", exchange.ready["session"]);
        assert_eq!((&status["epoch"], &status["feed"]["gaps"]), (&epoch.into(), &0.into()), "{status:#}");
        assert_eq!(status["feed"]["state"], "live", "{status:#}");
        assert!(lies > 20, "{lies} lies");
        let metrics = blade.get("/metrics").1;
        assert!(metrics.contains("fanblade_feed_sessions_total 1\n"), "{metrics}");
        blade.until_logged("packets of whoever sends to the group are taken");
        blade.until_logged("nothing is believed of it until that is proven");
    }
}

#[test]
fn a_session_that_begins_anew_has_an_epoch_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let messages = file_messages(&simulated_file(&directory, 300));
    let group = loopback_group();
    let blade = blade(&directory, &[&group], "stale_ms_max = \"2s\"\nproof_ms = \"500ms\"");
    let (socket, to) = (sender(), address(&group));
    let send = |sequence: u64| {
        let (_, message) = &messages[usize::try_from(sequence - 1).unwrap() % messages.len()];
        socket.send_to(&packet(*b"FRIDAY    ", sequence, &[message]), to).unwrap();
    };
    let play = |from: u64, to: u64| {
        (from..to).for_each(|sequence| {
            send(sequence);
            std::thread::sleep(Duration::from_millis(1));
        });
    };
    // Numbers so high that the new numbering does not overtake them before it is believed.
    play(1_000_001, 1_000_201);
    let is_live = |status: &serde_json::Value| status["feed"]["state"] == "live";
    let status = blade.until("the messages", |status| status["feed"]["messages"] == 200);
    assert_eq!(status["epoch"], "20191230-FRIDAY", "{status:#}");
    std::thread::sleep(Duration::from_millis(200));
    // Begin again from 1, slowly, until the new numbering is believed.
    let next = std::cell::Cell::new(1);
    let status = blade.until("the new numbering", |status| {
        play(next.get(), next.get() + 5);
        next.set(next.get() + 5);
        status["epoch"] == "20191230-FRIDAY.2"
    });
    assert_eq!(status["feed"]["gaps"], 0, "{status:#}");
    let total = 200 + next.get() - 1;
    blade.until("all of it", |status| status["feed"]["messages"] == total && is_live(status));
    blade.until_logged("stale: what comes is not new, or not proven");
}
