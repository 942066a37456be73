//! The admin port and its clients: silent ones, greedy ones, and those that use a host name that is not allowed.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use common::FANBLADE;
use fanblade_testkit::{Blade, PATIENCE};

#[test]
fn a_probe_gets_through_behind_silent_connections_while_descriptors_are_short() {
    let directory = tempfile::tempdir().unwrap();
    // Connections that hold the descriptors must not time out meanwhile.
    let config = directory.path().join("config.toml");
    std::fs::write(&config, "[limits]\nhandshake_ms_max = \"10m\"\n").unwrap();
    let mut command = Command::new("prlimit");
    command.args(["--nofile=120", FANBLADE, "run", "--no-ebpf", "--engine", "epoll", "--workers", "1"]);
    command.arg("--config").arg(&config);
    let blade = Blade::spawn(command);
    let connect = |address: SocketAddr| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // Future subscribers take all descriptors that are left.
    let _crowd: Vec<TcpStream> = (0..150).map(|_| connect(blade.data)).collect();
    let silent: Vec<TcpStream> = (0..600)
        .map(|number| {
            let mut stream = connect(blade.admin);
            if number % 2 == 0 {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Never-Ends: ").unwrap();
            }
            stream
        })
        .collect();
    for path in ["/healthz", "/readyz", "/v1/status"] {
        let answer = ask(blade.admin, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {answer}");
    }
    assert!(blade.metric("fanblade_admin_accept_failures_total") >= 1.0, "there was no shortage");
    assert!(blade.metric("fanblade_admin_shed_total") >= 1.0);
    drop(silent);
    // The shortage leaves no trace.
    blade.until("the silent ones are gone", |_| blade.metric("fanblade_admin_connections") < 10.0);
}

#[test]
fn beyond_connections_max_the_one_that_waited_longest_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    std::fs::write(&config, "[admin]\nconnections_max = 4\n").unwrap();
    let blade = Blade::start(&["--workers", "1", "--config", config.to_str().unwrap()]);
    let silent: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(blade.admin).unwrap()).collect();
    assert_eq!(blade.get("/healthz").1, "ok\n");
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&silent[0]).read(&mut [0]).unwrap(), 0, "the first has waited longest");
    assert!(blade.metric("fanblade_admin_shed_total") >= 1.0);
}

#[test]
fn who_asks_for_nothing_is_let_go() {
    let blade = Blade::start(&["--workers", "1"]);
    for beginning in ["", "GET /metrics HTTP/1.1\r\nHost: local"] {
        // The port may answer or not, but it must close.
        let _ = ask(blade.admin, beginning);
    }
    assert_eq!(blade.metric("fanblade_admin_timeouts_total"), 2.0);
}

#[test]
fn only_names_of_its_own_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    std::fs::write(&config, "[admin]\nallowed_hosts = [\"blade-1.example.com\"]\n").unwrap();
    let blade = Blade::start(&["--workers", "1", "--config", config.to_str().unwrap()]);
    let status = |head: &str| ask(blade.admin, &format!("{head}\r\n\r\n"))[9..12].to_owned();
    for ours in ["127.0.0.1:1", "[::1]", "localhost:7401", "Blade-1.example.com", "blade-1.example.com.:80"] {
        assert_eq!(status(&format!("GET /v1/status HTTP/1.1\r\nHost: {ours}")), "200", "{ours}");
    }
    assert_eq!(status("GET /healthz HTTP/1.0"), "200", "a probe without a host");
    for path in ["/", "/metrics", "/healthz", "/readyz", "/v1/status", "/console/console.js", "/none"] {
        assert_eq!(status(&format!("GET {path} HTTP/1.1\r\nHost: rebound.example:7401")), "421", "{path}");
    }
    assert_eq!(status("GET http://rebound.example/metrics HTTP/1.1\r\nHost: 127.0.0.1"), "421");
    let answer = ask(blade.admin, "GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    assert!(answer.contains("`rebound.example` is no name of this admin port"), "{answer}");
    assert!(answer.contains("`allowed_hosts` of [admin]"), "{answer}");
    assert_eq!(blade.metric("fanblade_admin_host_refused_total"), 9.0);
    blade.until_logged("the admin port was called `rebound.example:7401`");
}

#[test]
fn heads_have_limits_and_bodies_are_not_read() {
    let blade = Blade::start(&["--workers", "1"]);
    let status = |request: &str| ask(blade.admin, request)[9..12].to_owned();
    let long = "x".repeat(20_000);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: {long}\r\n\r\n")), "431");
    let many = "X-One: 1\r\n".repeat(80);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{many}\r\n")), "431");
    assert_eq!(status("POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"), "405");
    assert_eq!(status("no request\r\n\r\n"), "400");
    assert_eq!(blade.get("/healthz").1, "ok\n");
}

/// Sends this, and reads everything until the end of the connection.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    loop {
        match stream.read_line(&mut answer) {
            Ok(0) => return answer,
            Ok(_) => {}
            // If part of the request was not read, the connection ends with a reset after the answer.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("{error} behind {answer:?}"),
        }
    }
}
