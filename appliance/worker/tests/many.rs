//! Very many subjects: more frames than one send takes slices, none of which adjoin, and every one must come.

mod common;

use common::{Blade, BladeConfig, Checker, Client, ENGINES, Received};
use fanblade_net::ListenOptions;
use fanblade_worker::Batching;

/// Around what one send takes (1,024 slices), and well beyond.
const COUNTS: [usize; 8] = [1_021, 1_022, 1_023, 1_024, 1_025, 1_500, 2_049, 3_000];

fn config() -> BladeConfig {
    // So much room in the socket that the kernel takes what a catching-up session is sent in one pass.
    let listen = ListenOptions {
        sndbuf_bytes: Some(512 * 1024),
        notsent_lowat_bytes: Some(1 << 20),
        ..ListenOptions::default()
    };
    BladeConfig { index_len: 1 << 19, lane_len: 1 << 26, listen, ..BladeConfig::default() }
}

/// A value for each of `count` quotes; between every two a frame of another channel, so that no two adjoin.
fn publish_round(blade: &mut Blade, count: usize, round: usize, filler_len: usize) {
    let data = format!(r#"{{"round":{round},"filler":"{}"}}"#, "x".repeat(filler_len));
    for subject in 0..count {
        blade.publish(&format!("/V/S{subject}/bbo"), &data);
        blade.publish(&format!("/V/S{subject}/other"), "0");
    }
}

/// Has the newest value of each of `count` quotes come?
fn has_all(checker: &Checker, count: usize, round: usize) -> bool {
    checker.newest.len() == count && checker.newest.values().all(|data| data["round"] == round)
}

/// Reads the replies to a subscription, to the last; frames that come between go to `checker`.
fn replies(client: &mut Client, checker: &mut Checker, all: bool) {
    loop {
        let message = client.message();
        match message["op"].as_str() {
            Some("subscribed") if message["more"] != true => return,
            Some("subscribed") => {}
            Some(_) => panic!("{message}"),
            None => checker.take(&message, all),
        }
    }
}

#[test]
fn a_session_behind_on_very_many_subjects_gets_the_newest_of_each() {
    for engine in ENGINES {
        for count in COUNTS {
            let mut blade = Blade::start_with(engine, config());
            let mut slow = blade.client();
            publish_round(&mut blade, count, 0, 0);
            let mut checker = Checker::default();
            slow.subscribe(&["/V/*/bbo"], "conflate");
            replies(&mut slow, &mut checker, false);
            // It stops reading, and more comes than its socket takes.
            for round in 1..=4 {
                publish_round(&mut blade, count, round, 2_000_000 / count);
            }
            blade.wait_stat("sessions_behind", |n| n == 1);
            publish_round(&mut blade, count, 5, 0);
            blade.wait_read();
            until_all(&mut slow, &mut checker, count, 5, false, &format!("{engine}, {count} subjects"));
            assert_eq!(checker.frames + checker.dropped, 6 * count as u64, "{engine}, {count}: the account is wrong");
            blade.wait_stat("sessions_behind", |n| n == 0);
        }
    }
}

#[test]
fn a_session_behind_in_all_gets_every_frame_of_very_many_subjects() {
    for engine in ENGINES {
        for count in COUNTS {
            let mut blade = Blade::start_with(engine, config());
            let mut slow = blade.client();
            publish_round(&mut blade, count, 0, 0);
            let mut checker = Checker::default();
            slow.subscribe(&["/V/*/bbo"], "all");
            replies(&mut slow, &mut checker, true);
            for round in 1..=4 {
                publish_round(&mut blade, count, round, 1_000_000 / count);
            }
            blade.wait_stat("sessions_behind", |n| n == 1);
            publish_round(&mut blade, count, 5, 0);
            blade.wait_read();
            until_all(&mut slow, &mut checker, count, 5, true, &format!("{engine}, {count} subjects"));
            assert_eq!((checker.frames, checker.gap_notices), (6 * count as u64, 0), "{engine}, {count}");
        }
    }
}

#[test]
fn very_many_gaps_are_told_and_no_frame_is_lost_beside_them() {
    for engine in ENGINES {
        for count in [511, 512, 513, 1_500] {
            // The ring holds some three rounds.
            let config = BladeConfig { lane_len: 1 << 22, ..config() };
            let mut blade = Blade::start_with(engine, config);
            let mut slow = blade.client();
            publish_round(&mut blade, count, 0, 0);
            let mut checker = Checker::default();
            slow.subscribe(&["/V/*/bbo"], "all");
            replies(&mut slow, &mut checker, true);
            // In `all` to the quotes, in `conflate` to something: both sorts of notices.
            slow.subscribe(&["/V/S0/other"], "conflate");
            replies(&mut slow, &mut checker, true);
            for round in 1..=12 {
                publish_round(&mut blade, count, round, 1_000_000 / count);
                // The publisher must not overtake the worker itself.
                blade.wait_read();
            }
            publish_round(&mut blade, count, 13, 0);
            blade.wait_read();
            let mut quotes = Checker::default();
            while !has_all(&quotes, count, 13) {
                let message = next(&mut slow, &format!("{engine}, {count} subjects"));
                let is_other = message["s"] == "/V/S0/other";
                checker.take(&message, !is_other);
                if !is_other && message["op"].is_null() {
                    quotes.take(&message, false);
                }
            }
            assert!(checker.gap_notices >= count as u64, "{engine}: {} gaps of {count}", checker.gap_notices);
        }
    }
}

#[test]
fn a_burst_or_a_window_of_very_many_subjects_reaches_current_sessions_whole() {
    for engine in ENGINES {
        for ms_max in [0, 300] {
            let window = Batching { subjects: "/V/**".to_owned(), ms_max, bytes_max: 64 << 20 };
            let mut blade = Blade::start_with(engine, BladeConfig { batching: vec![window], ..config() });
            publish_round(&mut blade, 3_000, 0, 0);
            let mut client = blade.client();
            let mut checker = Checker::default();
            client.subscribe(&["/V/*/bbo"], "all");
            replies(&mut client, &mut checker, true);
            publish_round(&mut blade, 3_000, 1, 0);
            until_all(&mut client, &mut checker, 3_000, 1, true, engine);
            assert_eq!(checker.frames, 6_000, "{engine}, a window of {ms_max} ms");
        }
    }
}

#[test]
fn who_resumes_very_many_subjects_misses_none() {
    for engine in ENGINES {
        for mode in ["all", "conflate"] {
            for count in [1_023, 3_000] {
                let mut blade = Blade::start_with(engine, config());
                for round in 0..3 {
                    publish_round(&mut blade, count, round, 0);
                }
                // From the end of the first round.
                let seq = 2 * count;
                let mut client = blade.client();
                client.send(&format!(
                    r#"{{"op":"subscribe","subjects":["/V/*/bbo"],"mode":"{mode}","resume":{{"epoch":"test-1","seq":{seq}}}}}"#
                ));
                let mut checker = Checker::default();
                let all = mode == "all";
                replies(&mut client, &mut checker, all);
                publish_round(&mut blade, count, 3, 0);
                until_all(&mut client, &mut checker, count, 3, all, &format!("{engine}, {mode}, {count}"));
                if all {
                    assert_eq!(checker.frames, 3 * count as u64, "{engine}, {count}");
                }
            }
        }
    }
}

fn next(client: &mut Client, what: &str) -> serde_json::Value {
    match client.receive_within(common::PATIENCE) {
        Some(Received::Text(message)) => message,
        other => panic!("{what}: instead of what is owed: {other:?}"),
    }
}

fn until_all(client: &mut Client, checker: &mut Checker, count: usize, round: usize, all: bool, what: &str) {
    while !has_all(checker, count, round) {
        checker.take(&next(client, what), all);
    }
}
