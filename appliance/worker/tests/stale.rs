//! What is known to be wrong is not served as current: whoever comes is told, whoever is there, too, and nobody twice.

mod common;

use common::{Blade, BladeConfig, Client, ENGINES, Received};
use serde_json::{Value, json};

fn notice(kind: &str) -> Value {
    json!({"op": "notice", "kind": kind, "source": "test"})
}

#[test]
fn whoever_comes_while_a_source_is_stale_is_told_in_the_reply() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let seq = blade.publish("/X/A/v", "1");
        let mut before = blade.subscriber(&["/X/A/v"], "all");
        assert_eq!(before.message()["q"], seq);
        blade.writer.set_stale(true);
        assert_eq!(before.message(), notice("stale"), "{engine}");

        // By a request, by the address, resuming, with no match yet, in either mode, and once more by one who knows.
        let is_told = |reply: &Value| {
            assert_eq!(reply["op"], "subscribed", "{engine}: {reply}");
            (reply["stale"] == true, reply["source"].clone())
        };
        let told = (true, json!("test"));
        let mut coming = Vec::new();
        for request in [
            json!({"op": "subscribe", "subjects": ["/X/A/v"]}),
            json!({"op": "subscribe", "subjects": ["/X/**"], "mode": "all", "snapshot": false}),
            json!({"op": "subscribe", "subjects": ["/Y/*/v"], "mode": "all"}),
            json!({"op": "subscribe", "subjects": ["/X/A/v"], "resume": {"epoch": "test-1", "seq": seq}, "mode": "all"}),
            json!({"op": "subscribe", "subjects": ["/X/A/v"], "resume": {"epoch": "other", "seq": 7}}),
        ] {
            let mut client = blade.client();
            client.send(&request.to_string());
            assert_eq!(is_told(&client.message()), told, "{engine}: {request}");
            coming.push(client);
        }
        let mut by_address = Client::connect(blade.address, "/v1/stream?subjects=/X/A/v", None);
        assert_eq!(is_told(&by_address.message()), told, "{engine}");
        coming.push(by_address);
        let mut binary = Client::connect(blade.address, "/v1/stream?subjects=/Z/A/v", Some("fanblade.v1.binary"));
        assert_eq!(is_told(&binary.message()), told, "{engine}");
        coming.push(binary);
        before.subscribe(&["/X/B/v"], "all");
        assert_eq!(is_told(&before.message()), told, "{engine}");
        coming.push(before);

        // Everybody who was told so is told that it is over.
        blade.writer.set_stale(false);
        for client in &mut coming {
            let told = std::iter::repeat_with(|| client.receive())
                .find(|received| matches!(received, Received::Text(message) if message["kind"].is_string()));
            assert_eq!(told, Some(Received::Text(notice("live"))), "{engine}");
        }
        let mut after = blade.client();
        after.subscribe(&["/X/A/v"], "all");
        assert_eq!(after.message()["stale"], Value::Null, "{engine}");
    }
}

#[test]
fn no_change_is_lost_however_fast_they_follow_each_other_and_however_much_is_told() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut client = blade.subscriber(&["/X/**"], "all");
        let mut is_stale = false;
        for round in 0..2_000 {
            blade.writer.set_stale(round % 2 == 0);
            // Each is preceded by the other, and the last is the truth.
            while let Some(Received::Text(message)) = client.receive_within(std::time::Duration::ZERO) {
                assert_eq!(message, notice(if is_stale { "live" } else { "stale" }), "{engine}");
                is_stale = !is_stale;
            }
        }
        blade.writer.set_stale(true);
        let seq = blade.publish("/X/A/v", "1");
        loop {
            let message = client.message();
            if message["q"] == seq {
                break;
            }
            assert_eq!(message, notice(if is_stale { "live" } else { "stale" }), "{engine}");
            is_stale = !is_stale;
        }
        // Notices are not ordered against frames; but the last one comes.
        while !is_stale {
            assert_eq!(client.message(), notice("stale"), "{engine}");
            is_stale = true;
        }
    }
}

#[test]
fn a_reply_in_many_parts_says_so_in_each() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        for number in 0..200 {
            blade.publish(&format!("/X/S{number}/v"), "1");
        }
        blade.writer.set_stale(true);
        let mut client = blade.client();
        client.send(r#"{"op":"subscribe","subjects":["/X/**"],"snapshot":false}"#);
        let mut subjects = 0;
        loop {
            let reply = client.message();
            assert_eq!((&reply["stale"], &reply["source"]), (&json!(true), &json!("test")), "{engine}: {reply}");
            subjects += reply["subjects"].as_array().unwrap().len();
            if reply["more"] != true {
                break;
            }
        }
        assert_eq!(subjects, 200, "{engine}");
    }
}

#[test]
fn who_wants_a_subject_is_told_what_the_ring_refused_of_it() {
    for engine in ENGINES {
        let mut blade = Blade::start_with(engine, BladeConfig { lane_len: 1 << 20, ..BladeConfig::default() });
        let first = blade.publish("/X/A/v", "1");
        blade.publish("/X/B/v", "1");
        let (mut wants, mut other) = (blade.subscriber(&["/X/A/v"], "all"), blade.subscriber(&["/X/B/v"], "all"));
        let mut pattern = blade.subscriber(&["/X/**"], "conflate");
        assert_eq!((wants.message()["q"].as_u64(), other.message()["q"].as_u64()), (Some(first), Some(first + 1)));
        pattern.message();
        pattern.message();
        let a = blade.writer.open_reader().unwrap();
        let a =
            (0..a.subject_count()).map(fanblade_ring::SubjectId).find(|id| &*a.subject(*id).unwrap().name == "/X/A/v");
        blade.writer.note_refused(a.unwrap(), 7);
        blade.writer.wake();
        let gap = json!({"op": "notice", "kind": "gap", "subject": "/X/A/v", "from": first, "to": 7});
        assert_eq!((wants.message(), pattern.message()), (gap.clone(), gap), "{engine}");
        // Who comes now is told in the reply; the old value is still the newest that there is.
        let mut late = blade.client();
        late.subscribe(&["/X/A/v"], "all");
        let reply = late.message();
        assert_eq!(
            (&reply["subjects"][0]["seq"], &reply["subjects"][0]["missing"]),
            (&json!(first), &json!(7)),
            "{engine}: {reply}"
        );
        assert_eq!(late.message()["q"], first);
        // The next one goes in: it follows the one before, and nothing is missing any more.
        blade.seq = 8;
        let seq = blade.publish("/X/A/v", "2");
        for client in [&mut wants, &mut pattern, &mut late] {
            let frame = client.message();
            assert_eq!((&frame["q"], &frame["p"]), (&json!(seq), &json!(first)), "{engine}");
        }
        let mut later = blade.client();
        later.subscribe(&["/X/A/v"], "all");
        assert_eq!(later.message()["subjects"][0]["missing"], Value::Null, "{engine}");
        // A subject that has no place at all is nobody's: everybody is told.
        blade.writer.note_unplaced(20);
        blade.writer.wake();
        let gap = json!({"op": "notice", "kind": "gap", "source": "test", "from": 19, "to": 20});
        assert_eq!(
            (other.message(), wants.message()),
            (gap.clone(), gap),
            "{engine}: the other one heard nothing else"
        );
    }
}
