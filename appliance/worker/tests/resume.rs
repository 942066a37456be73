//! Going on after a lost connection: `(epoch, seq)`.

mod common;

use common::{Blade, BladeConfig, Checker, ENGINES, Received};
use serde_json::json;

fn resume(subjects: &[&str], epoch: &str, seq: u64, mode: &str) -> String {
    json!({"op":"subscribe","id":1,"subjects":subjects,"mode":mode,"resume":{"epoch":epoch,"seq":seq}}).to_string()
}

#[test]
fn what_was_missed_is_replayed_then_live() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        for n in 1..=5_000u64 {
            blade.publish(&format!("/X/S{}/bbo", n % 10), &n.to_string());
        }
        let mut client = blade.client();
        client.send(&resume(&["/X/**"], "test-1", 1_000, "all"));
        let reply = client.message();
        let subjects = reply["subjects"].as_array().unwrap();
        assert!(subjects.iter().all(|subject| subject["recovered"] == true), "{engine}: {reply}");
        for n in 5_001..=5_100u64 {
            blade.publish(&format!("/X/S{}/bbo", n % 10), &n.to_string());
        }
        let mut checker = Checker::default();
        for seq in 1_001..=5_100u64 {
            let message = client.message();
            assert_eq!(message["q"], seq, "{engine}");
            checker.take(&message, true);
        }
    }
}

#[test]
fn a_conflating_client_resumes_at_the_newest() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        for n in 1..=100u64 {
            blade.publish(["/X/A/bbo", "/X/B/bbo"][usize::from(n > 50)], &n.to_string());
        }
        let mut client = blade.client();
        client.send(&resume(&["/X/*/bbo"], "test-1", 60, "conflate"));
        assert_eq!(client.message()["subjects"][0]["recovered"], true, "{engine}");
        assert_eq!(client.message()["q"], 100, "{engine}: A has nothing that is newer than 60");
    }
}

#[test]
fn what_is_gone_is_said_and_the_snapshot_sent() {
    for engine in ENGINES {
        let config = BladeConfig { index_len: 1_024, lane_len: 1 << 20, ..BladeConfig::default() };
        let mut blade = Blade::start_with(engine, config);
        blade.publish("/X/QUIET/bbo", "1");
        for n in 2..=5_000u64 {
            blade.publish("/X/BUSY/bbo", &n.to_string());
        }
        for (epoch, seq) in [("test-1", 10), ("other", 4_999), ("test-1", 1_000_000)] {
            let mut client = blade.client();
            client.send(&resume(&["/X/BUSY/bbo"], epoch, seq, "all"));
            let reply = client.message();
            assert_eq!(reply["subjects"][0]["recovered"], false, "{engine} {epoch} {seq}: {reply}");
            assert_eq!(client.message()["q"], 5_000, "{engine}");
        }
        // Of a subject that was silent since, nothing is missing.
        let mut client = blade.client();
        client.send(&resume(&["/X/QUIET/bbo"], "test-1", 10, "all"));
        assert_eq!(client.message()["subjects"][0]["recovered"], true, "{engine}");
        client.send(r#"{"op":"ping"}"#);
        assert_eq!(client.message()["op"], "pong", "{engine}: and nothing is sent");
    }
}

#[test]
fn a_resume_that_is_outrun_ends_with_a_close_frame_that_says_so() {
    for engine in ENGINES {
        let config = BladeConfig { index_len: 4_096, lane_len: 1 << 20, ..BladeConfig::default() };
        let mut blade = Blade::start_with(engine, config);
        let data = format!("\"{}\"", "x".repeat(300));
        let mut client = blade.client();
        for n in 0..2_000u64 {
            blade.publish(&format!("/X/S{}/bbo", n % 5), &data);
            if n % 100 == 0 {
                // The publisher must not overtake the worker itself.
                blade.wait_read();
            }
        }
        blade.wait_read();
        // It asks for more than its socket takes, and reads only when that has left the ring; and again.
        let mut seen = blade.seq - 1_500;
        for outrun in 1..=3 {
            let unsent = blade.stat("unsent");
            client.send(&resume(&["/X/**"], "test-1", seen, "all"));
            blade.wait_stat("unsent", |n| n > unsent);
            for n in 0..4_000u64 {
                blade.publish(&format!("/X/S{}/bbo", n % 5), &data);
                if n % 100 == 0 {
                    blade.wait_read();
                }
            }
            let mut frames = 0;
            let code = loop {
                match client.receive() {
                    Received::Text(message) if message["op"] == "subscribed" => {
                        let recovered = |subject: &serde_json::Value| subject["recovered"] == true;
                        assert!(message["subjects"].as_array().unwrap().iter().all(recovered), "{engine}: {message}");
                    }
                    Received::Text(message) => {
                        seen += 1;
                        frames += 1;
                        assert_eq!(message["q"], seen, "{engine}: out of order");
                    }
                    Received::Close(code, reason) => {
                        assert!(reason.contains("resume after the last frame"), "{engine}: {reason:?}");
                        break code;
                    }
                    other => panic!("{engine}: without a word: {other:?}"),
                }
            };
            assert_eq!(code, 4008, "{engine}");
            assert!((1..1_500).contains(&frames), "{engine}: {frames}");
            assert_eq!(client.receive(), Received::End);
            assert_eq!(blade.stat("resumes_outrun"), outrun);
            // What it has not got has left the ring by now. The next tries are from where the ring still is.
            client = blade.client();
            client.send(&resume(&["/X/**"], "test-1", seen, "all"));
            assert_eq!(client.message()["subjects"][0]["recovered"], false, "{engine}");
            client = blade.client();
            seen = blade.seq - 1_500;
        }
    }
}

#[test]
fn below_a_loss_upstream_nothing_is_recovered() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        for n in 1..=10u64 {
            blade.publish("/X/A/bbo", &n.to_string());
        }
        // Messages 11 to 20 never came, whatever subjects they would have changed.
        blade.writer.set_floor(20);
        blade.publish_at("/X/A/bbo", 21, "21");
        for (mode, seq, recovered) in
            [("all", 10, false), ("conflate", 10, false), ("all", 20, true), ("conflate", 20, true)]
        {
            let mut client = blade.client();
            client.send(&resume(&["/X/A/bbo"], "test-1", seq, mode));
            assert_eq!(client.message()["subjects"][0]["recovered"], recovered, "{engine} {mode} {seq}");
            assert_eq!(client.message()["q"], 21, "{engine} {mode} {seq}");
        }
    }
}
