//! docs/PROTOCOL.md over both engines: requests, replies, snapshots, patterns, encodings.

mod common;

use common::{Blade, BladeConfig, Client, ENGINES, Received};
use fanblade_wire::frame::Opcode;
use serde_json::json;

#[test]
fn a_subscription_is_answered_then_the_snapshot_then_updates() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        blade.publish("/X/B/bbo", "2");
        blade.publish("/X/A/bbo", "3");
        let mut client = blade.client();
        client.send(r#"{"op":"subscribe","id":"a","subjects":["/X/A/bbo","/X/NOT_YET/bbo"]}"#);
        let reply = client.message();
        let expected = json!({"op":"subscribed","id":"a","epoch":"test-1","subjects":[
            {"subject":"/X/A/bbo","sid":0,"seq":3},{"subject":"/X/NOT_YET/bbo"}]});
        assert_eq!(reply, expected, "{engine}");
        assert_eq!(client.message(), json!({"s":"/X/A/bbo","q":3,"p":1,"t":"0","d":3}));
        blade.publish("/X/B/bbo", "4");
        blade.publish("/X/A/bbo", "5");
        blade.publish("/X/NOT_YET/bbo", "6");
        assert_eq!(client.message()["q"], 5);
        assert_eq!(client.message(), json!({"s":"/X/NOT_YET/bbo","q":6,"p":0,"t":"0","d":6}));
    }
}

#[test]
fn patterns_select_what_exists_and_what_comes() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        blade.publish("/X/A/trade", "2");
        let mut all = blade.client();
        all.subscribe(&["/X/**"], "all");
        assert_eq!(all.message()["subjects"].as_array().unwrap().len(), 2);
        assert_eq!((all.message()["q"].clone(), all.message()["q"].clone()), (json!(1), json!(2)));
        let mut trades = blade.client();
        trades.send(r#"{"op":"subscribe","subjects":["/X/*/trade"],"snapshot":false}"#);
        assert_eq!(trades.message()["subjects"][0]["seq"], 2);
        blade.publish("/X/B/trade", "3");
        blade.publish("/X/B/bbo", "4");
        blade.publish("/Y/B/trade", "5");
        blade.publish("/X/A/trade", "6");
        for seq in [3, 4, 6] {
            assert_eq!(all.message()["q"], seq, "{engine}");
        }
        for seq in [3, 6] {
            assert_eq!(trades.message()["q"], seq, "{engine}");
        }
    }
}

#[test]
fn unsubscribe_list_and_ping() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        let mut client = blade.subscriber(&["/X/A/bbo", "/X/*/trade"], "all");
        assert_eq!(client.message()["q"], 1);
        client.send(r#"{"op":"list","id":2}"#);
        let listed = client.message();
        assert_eq!(listed["op"], "listed");
        assert_eq!(
            listed["subjects"],
            json!([{"subject":"/X/A/bbo","mode":"all"},{"subject":"/X/*/trade","mode":"all"}])
        );
        client.send(r#"{"op":"unsubscribe","id":3,"subjects":["/X/A/bbo"]}"#);
        assert_eq!(
            client.message(),
            json!({"op":"unsubscribed","id":3,"epoch":"test-1","subjects":[{"subject":"/X/A/bbo"}]})
        );
        blade.publish("/X/A/bbo", "2");
        blade.publish("/X/A/trade", "3");
        assert_eq!(client.message()["q"], 3, "{engine}");
        client.send(r#"{"op":"unsubscribe","id":4,"subjects":["/X/A/bbo"]}"#);
        assert_eq!(client.message()["code"], "bad_subject");
        client.send(r#"{"op":"ping","id":5}"#);
        assert_eq!(client.message(), json!({"op":"pong","id":5}));
        client.send_frame(Opcode::Ping, b"hello");
        assert_eq!(client.receive(), Received::Pong(b"hello".to_vec()));
        client.send(r#"{"op":"unsubscribe","subjects":["/X/*/trade"]}"#);
        client.message();
        assert_eq!(blade.wait_stat("sessions_subscribed", |n| n == 0), 0);
        client.send(r#"{"op":"nonsense","id":6}"#);
        assert_eq!(client.message()["code"], "unknown_op");
    }
}

#[test]
fn a_second_subscription_sends_no_frame_twice() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        blade.publish("/X/B/bbo", "2");
        let mut client = blade.subscriber(&["/X/A/bbo"], "conflate");
        assert_eq!(client.message()["q"], 1);
        client.subscribe(&["/X/**"], "all");
        let reply = client.message();
        assert_eq!(reply["subjects"].as_array().unwrap().len(), 2, "{reply}");
        assert_eq!(client.message()["q"], 2, "{engine}: only what is new");
        blade.publish("/X/A/bbo", "3");
        assert_eq!(client.message()["q"], 3);
        client.send(r#"{"op":"ping"}"#);
        assert_eq!(client.message()["op"], "pong", "{engine}: once, though two filters match");
    }
}

#[test]
fn the_address_may_carry_the_subscription() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        let mut client = Client::connect(blade.address, "/v1/stream?subjects=/X/A/bbo,/X/*/trade&mode=all", None);
        let reply = client.message();
        assert_eq!((reply["op"].as_str(), reply.get("id")), (Some("subscribed"), None), "{engine}");
        assert_eq!(client.message()["q"], 1);
        let mut client = Client::connect(blade.address, "/v1/stream?subjects=nonsense", None);
        assert_eq!(client.message()["code"], "bad_subject");
    }
}

#[test]
fn the_binary_protocol_gets_the_binary_lane() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        let mut client = Client::connect(blade.address, "/v1/stream", Some("fanblade.v1.binary"));
        assert!(client.head.contains("fanblade.v1.binary"), "{}", client.head);
        client.subscribe(&["/X/A/bbo"], "all");
        assert_eq!(client.message()["subjects"][0]["sid"], 0);
        let frame = |seq: u64, prev: u64| Received::Binary([seq.to_le_bytes(), prev.to_le_bytes()].concat());
        assert_eq!(client.receive(), frame(1, 0), "{engine}");
        blade.publish("/X/A/bbo", "2");
        assert_eq!(client.receive(), frame(2, 1));
    }
}

#[test]
fn a_thousand_subjects_are_answered_in_parts() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        for number in 0..1_000 {
            blade.publish(&format!("/X/S{number}/bbo"), "[1,2,3]");
        }
        let mut client = blade.client();
        client.subscribe(&["/X/*/bbo"], "all");
        let (mut told, mut frames, mut is_last) = (0, 0, false);
        while !is_last || frames < 1_000 {
            let message = client.message();
            if message["op"] == "subscribed" {
                assert!(!is_last);
                told += message["subjects"].as_array().unwrap().len();
                is_last = message.get("more").is_none();
            } else {
                frames += 1;
            }
        }
        assert_eq!((told, frames), (1_000, 1_000), "{engine}");
        blade.publish("/X/S7/bbo", "8");
        assert_eq!(client.message()["p"], 8);
    }
}

#[test]
fn subscriptions_have_a_limit() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.subscriptions_max = 3;
        let blade = Blade::start_with(engine, config);
        let mut client = blade.client();
        client.subscribe(&["/X/A/b", "/X/B/b"], "all");
        assert_eq!(client.message()["op"], "subscribed");
        client.subscribe(&["/X/B/b", "/X/C/b"], "all");
        assert_eq!(client.message()["op"], "subscribed", "one that is there already does not count");
        client.subscribe(&["/X/D/b"], "all");
        assert_eq!(client.message()["code"], "too_many_subscriptions", "{engine}");
    }
}
