//! Going on after a lost connection: `(epoch, seq)`.

mod common;

use common::{Blade, BladeConfig, Checker, ENGINES};
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
