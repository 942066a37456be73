//! What may be asked, in a message and in the address, and what is said of what may not.

mod common;

use std::io::{Read as _, Write as _};

use common::{Blade, BladeConfig, Client, ENGINES, PATIENCE, Received, connect_small};
use fanblade_ring::subject::SUBJECT_LEN_MAX;
use fanblade_wire::frame::Opcode;
use fanblade_worker::Limits;

/// As many subjects as a session may have, each as long as it may be.
fn longest_subjects() -> Vec<String> {
    let subjects = 0..Limits::default().subscriptions_max;
    subjects.map(|n| format!("/X/{n:0>width$}", width = SUBJECT_LEN_MAX - "/X/".len())).collect()
}

#[test]
fn as_many_subjects_as_a_session_may_have_fit_in_one_request() {
    for engine in ENGINES {
        let blade = Blade::start(engine);
        let mut client = blade.client();
        let subjects = longest_subjects();
        let request = |op: &str| {
            // As Python writes it: with a space after each comma and colon.
            let listed: Vec<String> = subjects.iter().map(|subject| format!("\"{subject}\"")).collect();
            format!("{{\"op\": \"{op}\", \"id\": \"{}\", \"subjects\": [{}]}}", "i".repeat(60), listed.join(", "))
        };
        client.send(&request("subscribe"));
        let mut told = 0;
        loop {
            let reply = client.message();
            assert_eq!(reply["op"], "subscribed", "{engine}: {reply}");
            told += reply["subjects"].as_array().unwrap().len();
            if reply.get("more").is_none() {
                break;
            }
        }
        assert_eq!(told, subjects.len(), "{engine}");
        client.send(r#"{"op":"list","id":2}"#);
        assert_eq!(client.message()["subjects"].as_array().unwrap().len(), subjects.len(), "{engine}");
        client.send(&request("unsubscribe"));
        assert_eq!(client.message()["op"], "unsubscribed", "{engine}");
    }
}

#[test]
fn a_request_that_is_too_long_is_told_and_the_session_lives() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut client = blade.subscriber(&["/X/A/bbo"], "all");
        let long = format!(r#"{{"op":"ping","id":"{}"}}"#, "x".repeat(1_000_000));
        client.send(&long);
        let reply = client.message();
        assert_eq!((reply["op"].as_str(), reply["code"].as_str()), (Some("error"), Some("too_long")), "{engine}");
        let message = reply["message"].as_str().unwrap();
        assert!(message.contains(&format!("{} bytes", long.len())) && message.contains("163840"), "{message}");
        blade.publish("/X/A/bbo", "1");
        assert_eq!(client.message()["q"], 1, "{engine}");
        client.send(r#"{"op":"ping","id":7}"#);
        assert_eq!(client.message()["id"], 7, "{engine}");
        assert_eq!(blade.stat("requests_too_long"), 1);
        // Bytes are no request, however many.
        client.send_frame(Opcode::Binary, &[0; 200_000]);
        assert_eq!(client.close_code(), 1003, "{engine}");
        // Whoever does nothing else is tempered as with any request.
        let mut client = blade.client();
        let mut frame = Vec::new();
        fanblade_wire::client::write_frame(&mut frame, Opcode::Text, [0; 4], &[b' '; 170_000]);
        let writer = std::thread::spawn({
            let mut stream = client.stream.try_clone().unwrap();
            move || while stream.write_all(&frame).is_ok() {}
        });
        assert_eq!(client.close_code(), 4029, "{engine}");
        drop(client);
        writer.join().unwrap();
    }
}

#[test]
fn the_address_is_as_strict_as_a_message() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        for subject in ["/X/A,B/q", "/X/a/q", "/X/b/q", "/X/BRK A/q"] {
            blade.publish(subject, "1");
        }
        let named = |reply: &serde_json::Value| -> Vec<String> {
            let subjects = reply["subjects"].as_array().unwrap_or_else(|| panic!("{reply}"));
            subjects.iter().map(|subject| subject["subject"].as_str().unwrap().to_owned()).collect()
        };
        for (query, expected) in [
            ("subjects=/X/A%2CB/q", &["/X/A,B/q"][..]),
            ("subjects=/X/a/q&subjects=/X/b/q", &["/X/a/q", "/X/b/q"]),
            ("subjects=%2FX%2FBRK+A%2Fq&snapshot=true", &["/X/BRK A/q"]),
        ] {
            let mut client = Client::connect(blade.address, &format!("/v1/stream?{query}"), None);
            assert_eq!(named(&client.message()), expected, "{engine}: {query}");
            assert_eq!(client.message()["d"], 1);
        }
        for (query, part) in [
            ("subjects=/X/a/q&snapshot=0", "snapshot `0` is neither true nor false"),
            ("subjects=/X/a/q&snapshoot=false", "`snapshoot` is not a parameter"),
            ("Subjects=/X/a/q", "`Subjects` is not a parameter"),
            ("subjects[]=/X/a/q", "`subjects[]` is not a parameter"),
            ("subjects=/X/a/q&amp;mode=all", "`amp;mode` is not a parameter"),
            ("subjects=/X/50%+5/q", "`%+5` in the address is no escape"),
            ("subjects=/X/a*/q", "'*' stands for a whole segment"),
        ] {
            let mut client = Client::connect(blade.address, &format!("/v1/stream?{query}"), None);
            let reply = client.message();
            assert_eq!(reply["op"], "error", "{engine}: {query}: {reply}");
            assert!(reply["message"].as_str().unwrap().contains(part), "{engine}: {query}: {reply}");
            // Nothing of it counts, and the session lives.
            client.send(r#"{"op":"list"}"#);
            assert!(named(&client.message()).is_empty(), "{engine}: {query}");
        }
    }
}

#[test]
fn an_address_that_is_too_long_is_told_in_words() {
    for engine in ENGINES {
        let blade = Blade::start(engine);
        let mut stream = connect_small(blade.address);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let target = format!("/v1/stream?subjects={}", longest_subjects().join(","));
        // The answer may come before all of it is written.
        let _ = stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let mut response = String::new();
        let _ = stream.read_to_string(&mut response);
        assert!(response.starts_with("HTTP/1.1 414 ") && response.contains("8 KiB"), "{engine}: {response}");
    }
}

#[test]
fn what_waits_while_a_session_is_behind_has_a_limit_in_subjects() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.subscriptions_max = 20;
        let mut blade = Blade::start_with(engine, config);
        let mut client = blade.subscriber(&["/X/**"], "all");
        // Much more than the sockets take, so that it stays behind until it reads.
        let data = format!("\"{}\"", "x".repeat(1_000));
        for _ in 0..10_000 {
            blade.publish("/X/A/bbo", &data);
        }
        blade.wait_stat("sessions_behind", |n| n == 1);
        let subjects: Vec<String> = (0..20).map(|n| format!("/Y/{n}")).collect();
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        for _ in 0..3 {
            client.subscribe(&subjects, "all");
        }
        blade.wait_stat("deferred_closed", |n| n == 1);
        loop {
            match client.receive() {
                Received::Close(code, _) => break assert_eq!(code, 4029, "{engine}"),
                Received::Text(_) => {}
                other => panic!("{engine}: {other:?}"),
            }
        }
    }
}
