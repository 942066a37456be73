//! `/metrics`: its two formats, its names, and the counts of ended sessions.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use fanblade_testkit::{Blade, Child, PATIENCE};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

#[test]
fn names_obey_the_rules_and_every_series_is_there_from_the_start() {
    let blade = Blade::start(&["--workers", "2"]);
    let first = blade.get("/metrics").1;
    let mut kinds = BTreeMap::new();
    let mut helped = BTreeSet::new();
    for line in first.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert_eq!(kinds.insert(name, kind), None, "{name} twice");
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(help.len() > 3 && helped.insert(name), "{line}");
        }
    }
    assert!(kinds.len() > 80, "{}", kinds.len());
    for (name, kind) in &kinds {
        assert!(helped.contains(name), "{name} has no help");
        assert!(name.starts_with("fanblade_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        for segment in name.split('_') {
            assert!(!UNITS_THAT_ARE_NO_BASE.contains(&segment), "{name}: a unit that is no base unit, or shortened");
        }
    }
    for name in ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "max_fds", "start_time_seconds"]
    {
        assert!(blade.metric(&format!("process_{name}")) > 0.0, "{name}");
    }
    // The series of lines and interfaces depend on the configuration; here there are none.
    let empty = ["fanblade_ebpf_ingress"];
    let is_of_none = |name: &str| name.starts_with("fanblade_feed_line_") || empty.contains(&name);
    for name in kinds.keys().filter(|name| !is_of_none(name)) {
        let has_series = first.lines().any(|line| line.starts_with(name));
        assert!(has_series, "{name} has no series at the start");
    }
    for series in [
        r#"fanblade_feed_troubles_total{kind="checksum"}"#,
        r#"fanblade_feed_troubles_total{kind="gave_up"}"#,
        r#"fanblade_feed_troubles_total{kind="bad_token"}"#,
        r#"fanblade_ebpf_verdicts_total{verdict="steer_fallback"}"#,
        r#"fanblade_worker_closes_total{worker="1",by="peer",code="1006"}"#,
        r#"fanblade_worker_closes_total{worker="1",by="us",code="4008"}"#,
    ] {
        assert_eq!(blade.metric(series), 0.0, "{series}");
    }

    // The set of series does not change while the blade runs.
    blade.until("messages", |status| status["feed"]["messages"].as_u64() > Some(1_000));
    let output = blade.subscribe(&["/NASDAQ/**", "--count", "100", "--json"]);
    assert!(output.status.success());
    let series = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
            .collect()
    };
    let later = blade.get("/metrics").1;
    assert_eq!(series(&first), series(&later));

    promtool(&first);
    promtool(&later);
}

/// Segments of a name that say a unit in a form that Prometheus does not want.
const UNITS_THAT_ARE_NO_BASE: [&str; 20] = [
    "ns",
    "us",
    "ms",
    "sec",
    "s",
    "min",
    "h",
    "d",
    "nanoseconds",
    "microseconds",
    "milliseconds",
    "minutes",
    "hours",
    "kb",
    "mb",
    "gb",
    "kilobytes",
    "megabytes",
    "bits",
    "percent",
];

/// Checks the text with Prometheus's own tool.
fn promtool(text: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = Child::try_spawn(&mut command) else {
        println!("skipped: no promtool on this machine");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.output();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "promtool: {complaints}");
}

#[test]
fn who_names_openmetrics_gets_it_and_everybody_else_text() {
    let blade = Blade::start(&["--workers", "1"]);
    let ask = |method: &str, accept: &str| {
        let mut stream = TcpStream::connect(blade.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} /metrics HTTP/1.1\r\nHost: {}\r\n{accept}\r\n", blade.admin).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    };
    let text = "content-type: text/plain; version=0.0.4; charset=utf-8";
    let open = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    for accept in
        ["", "Accept: */*\r\n", "Accept: text/plain\r\n", "Accept: application/openmetrics-text;q=0.1, text/plain\r\n"]
    {
        let (head, body) = ask("GET", accept);
        assert!(head.starts_with("http/1.1 200") && head.contains(text), "{accept}: {head}");
        assert!(head.contains("vary: accept"), "{head}");
        assert!(body.contains("# TYPE fanblade_feed_messages_total counter\n"), "{body}");
        assert!(!body.contains("# EOF"));
    }
    let prometheus =
        "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";
    let (head, body) = ask("GET", prometheus);
    assert!(head.contains(open), "{head}");
    assert!(body.contains("# TYPE fanblade_feed_messages counter\nfanblade_feed_messages_total "), "{body}");
    assert!(body.ends_with("# EOF\n"));
    for (accept, content_type) in [("", text), (prometheus, open)] {
        let (head, body) = ask("HEAD", accept);
        assert!(head.starts_with("http/1.1 200") && head.contains(content_type), "{head}");
        assert_eq!(body, "");
    }
}

#[test]
fn ends_are_counted_by_code_and_those_who_leave_without_a_request_too() {
    for engine in common::ENGINES {
        let blade = Blade::start(&["--workers", "1", "--engine", engine]);
        let open = || {
            let stream = TcpStream::connect(blade.data).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            tungstenite::client(format!("ws://{}/v1/stream", blade.data), stream).unwrap().0
        };
        let finish = |mut socket: WebSocket<TcpStream>| while socket.read().is_ok() {};
        let counted = |by: &str, code: &str| {
            let series = format!("fanblade_worker_closes_total{{worker=\"0\",by=\"{by}\",code=\"{code}\"}}");
            blade.until(&series, |_| blade.metric(&series) >= 1.0);
            assert_eq!(blade.metric(&series), 1.0, "{engine}: {series}");
        };
        for (code, name) in
            [(CloseCode::Normal, "1000"), (CloseCode::Away, "1001"), (CloseCode::Library(3_333), "other")]
        {
            let mut socket = open();
            socket.close(Some(CloseFrame { code, reason: "".into() })).unwrap();
            finish(socket);
            counted("peer", name);
        }
        let mut socket = open();
        socket.close(None).unwrap();
        finish(socket);
        counted("peer", "1005");
        drop(open());
        counted("peer", "1006");
        let mut socket = open();
        socket.send(Message::binary(b"no text".to_vec())).unwrap();
        finish(socket);
        counted("us", "1003");

        drop(TcpStream::connect(blade.data).unwrap());
        let mut half = TcpStream::connect(blade.data).unwrap();
        half.write_all(b"GET /v1/stream HTTP/1.1\r\n").unwrap();
        drop(half);
        let left = "fanblade_worker_left_without_request_total{worker=\"0\"}";
        blade.until(left, |_| blade.metric(left) >= 2.0);
        assert_eq!(blade.metric(left), 2.0, "{engine}");
    }
}
