//! What stands before a blade: balancers that say who the client is, and that ask whether anybody should come.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::{Blade, BladeConfig, ENGINES, PATIENCE, connect_small};
use fanblade_worker::{Command, WorkerConfig};

const UPGRADE: &str = "GET /v1/stream HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7400\r\n";

/// A blade whose balancers are in these networks.
fn proxied(networks: &[&str]) -> BladeConfig {
    let proxy_protocol_from = networks.iter().map(|network| network.parse().unwrap()).collect();
    BladeConfig { worker: WorkerConfig { proxy_protocol_from, ..WorkerConfig::default() }, ..BladeConfig::default() }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &len, body].concat()
}

fn v2_client(extensions: usize) -> Vec<u8> {
    v2(1, 0x11, &[&[203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0x1c, 0xe8][..], &vec![4; extensions]].concat())
}

fn connect(blade: &Blade) -> TcpStream {
    let stream = connect_small(blade.address);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The head of the answer.
fn answer(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_proxy_header_may_be_cut_anywhere() {
    for engine in ENGINES {
        let blade = Blade::start_with(engine, proxied(&["127.0.0.0/8"]));
        let mut upgraded = 0;
        for header in [V1.to_vec(), v2_client(0), v2_client(9)] {
            let whole = [&header, UPGRADE.as_bytes()].concat();
            for cut in 1..header.len() + 2 {
                let mut stream = connect(&blade);
                stream.write_all(&whole[..cut]).unwrap();
                blade.wait_stat("sessions", |n| n > 0);
                stream.write_all(&whole[cut..]).unwrap();
                assert!(answer(&mut stream).starts_with("HTTP/1.1 101 "), "{engine}: cut at {cut}");
                upgraded += 1;
            }
            let mut stream = connect(&blade);
            for byte in &whole {
                stream.write_all(&[*byte]).unwrap();
            }
            assert!(answer(&mut stream).starts_with("HTTP/1.1 101 "), "{engine}: byte by byte");
            upgraded += 1;
        }
        assert_eq!((blade.stat("upgraded"), blade.stat("proxied")), (upgraded, upgraded), "{engine}");
    }
}

#[test]
fn extensions_of_a_proxy_header_are_dropped_as_they_come() {
    for engine in ENGINES {
        let blade = Blade::start_with(engine, proxied(&["127.0.0.1"]));
        // As long as a header can be, in one piece and in pieces that end amid everything.
        for piece in [1 << 20, 1_000, 4_099] {
            let whole = [&v2_client(65_523), UPGRADE.as_bytes()].concat();
            let mut stream = connect(&blade);
            whole.chunks(piece).for_each(|piece| stream.write_all(piece).unwrap());
            assert!(answer(&mut stream).starts_with("HTTP/1.1 101 "), "{engine}: in pieces of {piece}");
        }
    }
}

#[test]
fn a_balancers_own_checks_are_no_clients() {
    for engine in ENGINES {
        let blade = Blade::start_with(engine, proxied(&["127.0.0.1"]));
        let headers = [
            v2(0, 0, &[]),
            v2(0, 0x11, &[1; 12]),
            v2(1, 0, &[]),
            v2(1, 0x31, &[0; 216]),
            b"PROXY UNKNOWN\r\n".to_vec(),
        ];
        for header in headers {
            let mut stream = connect(&blade);
            stream.write_all(&[&header, &b"HEAD /healthz HTTP/1.0\r\n\r\n"[..]].concat()).unwrap();
            assert!(answer(&mut stream).starts_with("HTTP/1.1 200 "), "{engine}");
        }
        // Or it says who it is, and goes.
        let mut stream = connect(&blade);
        stream.write_all(&v2(0, 0, &[])).unwrap();
        drop(stream);
        blade.wait_stat("accepted", |n| n == 6);
        blade.wait_stat("sessions", |n| n == 0);
        assert_eq!((blade.stat("health_checks"), blade.stat("handshake_rejected"), blade.stat("proxied")), (5, 0, 0));
        assert_eq!(blade.stat("proxy_header_errors"), 0, "{engine}");
    }
}

#[test]
fn without_a_right_proxy_header_nobody_comes_in_from_there() {
    for engine in ENGINES {
        let mut config = proxied(&["127.0.0.1"]);
        config.limits.handshake_ms_max = 300;
        let blade = Blade::start_with(engine, config);
        let garbage = [
            UPGRADE.as_bytes(),
            b"\x16\x03\x01\x02",
            b"PROXY TCP4 1.2.3.4\r\n",
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x11, &[0; 3]),
        ];
        for garbage in garbage {
            let mut stream = connect(&blade);
            stream.write_all(garbage).unwrap();
            let answer = answer(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{engine}: {answer}");
        }
        assert_eq!((blade.stat("proxy_header_errors"), blade.stat("upgraded")), (5, 0), "{engine}");
        // Half a header has until the handshake's deadline, and so has the half of its extensions.
        for half in [&V1[..20], &v2_client(1_000)[..500]] {
            let mut stream = connect(&blade);
            stream.write_all(half).unwrap();
            assert_eq!(answer(&mut stream), "", "{engine}");
        }
        blade.wait_stat("handshake_timeouts", |n| n == 2);
    }
}

#[test]
fn nobody_else_may_send_a_proxy_header() {
    for engine in ENGINES {
        let blade = Blade::start_with(engine, proxied(&["192.0.2.0/24", "::1"]));
        for header in [V1.to_vec(), v2_client(0)] {
            let mut stream = connect(&blade);
            stream.write_all(&[&header, UPGRADE.as_bytes()].concat()).unwrap();
            let mut response = String::new();
            let _ = stream.read_to_string(&mut response);
            assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("proxy_protocol_from"), "{response}");
        }
        assert_eq!((blade.stat("upgraded"), blade.stat("proxied")), (0, 0), "{engine}");
    }
}

#[test]
fn a_balancer_is_told_whether_anybody_should_come() {
    for engine in ENGINES {
        let unready = Arc::new(AtomicBool::new(false));
        let worker = WorkerConfig { unready: Arc::clone(&unready), ..WorkerConfig::default() };
        let mut blade = Blade::start_with(engine, BladeConfig { worker, ..BladeConfig::default() });
        let ask = |blade: &Blade, request: &str| {
            let mut stream = connect(blade);
            let _ = stream.write_all(request.as_bytes());
            let mut response = String::new();
            let _ = stream.read_to_string(&mut response);
            response
        };
        let requests = [
            "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
            "HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /healthz HTTP/1.0\r\n\r\n",
        ];
        for (is_unready, status) in [(false, "200 OK"), (true, "503 Service Unavailable"), (false, "200 OK")] {
            unready.store(is_unready, Relaxed);
            for request in requests {
                let response = ask(&blade, request);
                assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{engine}: {request}{response}");
                let is_head = request.starts_with("HEAD");
                assert_eq!(response.ends_with("\r\n\r\n"), is_head, "{engine}: {request}{response}");
            }
        }
        assert_eq!((blade.stat("health_checks"), blade.stat("handshake_rejected")), (12, 0), "{engine}");

        // A stop under way, which somebody's unread frames hold up.
        let mut slow = blade.subscriber(&["/X/**"], "all");
        let data = format!("\"{}\"", "x".repeat(1_000));
        for _ in 0..10_000 {
            blade.publish("/X/A/bbo", &data);
        }
        blade.wait_stat("sessions_behind", |n| n == 1);
        blade.worker.send(Command::Drain { close_code: 1001, reconnect_ms_max: 0, deadline_ms: 60_000 });
        // The command is obeyed once the sockets have been served.
        while !ask(&blade, requests[0]).starts_with("HTTP/1.1 503 ") {}
        for request in requests {
            assert!(ask(&blade, request).starts_with("HTTP/1.1 503 "), "{engine}: {request}");
        }
        // Somebody who came meanwhile and stays does not hold it up.
        let _stays = connect(&blade);
        assert_eq!(slow.close_code(), 1001, "{engine}");
        drop(slow);
        blade.worker.join().unwrap();
    }
}
