//! From a feed to subscribers, through a real blade, over both engines.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{ENGINES, expected_frames, real_data, simulated_file, summary};
use fanblade_testkit::{Blade, Child};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

#[test]
fn a_simulated_market_reaches_subscribers_in_order_and_whole() {
    for engine in ENGINES {
        let blade = Blade::start(&["--engine", engine, "--workers", "2"]);
        let args = [
            "/NASDAQ/*/trade",
            "/NASDAQ/*/bbo",
            "--mode",
            "all",
            "--check",
            "--json",
            "--connections",
            "4",
            "--count",
            "5000",
            "--for",
            "50",
        ];
        let output = blade.subscribe(&args);
        let totals = summary(&output);
        assert!(output.status.success(), "{engine}: {totals:#}");
        assert_eq!(
            (&totals["connections"], &totals["subscribed"], &totals["frames_min"]),
            (&4.into(), &4.into(), &5000.into())
        );
        assert!(totals["age_ns"]["p50"].as_u64().unwrap() > 0, "a simulated market is live: {totals:#}");
        let status = blade.status();
        assert_eq!(status["data"]["engine"], engine);
        assert!(status["epoch"].as_str().unwrap().len() > 10 && status["ready"] == true, "{status:#}");
    }
}

/// A blade that plays `file` once this many sessions have subscribed.
fn play(engine: &str, file: &Path, wait_for: u32) -> Blade {
    let (feed, wait_for) = (format!("file:{}", file.display()), wait_for.to_string());
    Blade::start(&["--engine", engine, "--workers", "2", "--wait-for", &wait_for, "--feed", &feed])
}

/// Every update arrives exactly once, in order, byte for byte.
fn plays_exactly(file: &Path) {
    let expected = expected_frames(file);
    assert!(expected.len() > 500, "{} has only {} updates", file.display(), expected.len());
    for engine in ENGINES {
        let blade = play(engine, file, 1);
        let output =
            blade.subscribe(&["/NASDAQ/**", "--mode", "all", "--count", &expected.len().to_string(), "--for", "50"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let frames: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"s\":")).collect();
        let differs = frames.iter().zip(&expected).position(|(got, expected)| got != expected);
        assert_eq!(differs.map(|at| (at, frames[at], &expected[at])), None, "{engine}");
        assert_eq!(frames.len(), expected.len(), "{engine}");
        let status = blade.until("the file's end", |status| status["feed"]["state"] == "finished");
        assert_eq!(status["ring"]["published"], expected.len(), "{engine}");
        assert_eq!(
            status["epoch"].as_str().map(|epoch| epoch.ends_with("2019-1") || epoch.ends_with("30-1")),
            Some(true)
        );

        // A late subscriber gets the last value of every subject.
        let subjects: BTreeSet<&str> = expected.iter().map(|frame| frame.split('"').nth(3).unwrap()).collect();
        let late = summary(&blade.subscribe(&["/NASDAQ/**", "--check", "--json", "--idle", "4", "--for", "60"]));
        assert_eq!((&late["subjects"], &late["frames"]), (&subjects.len().into(), &subjects.len().into()), "{late:#}");
    }
}

#[test]
fn a_simulated_file_plays_exactly() {
    let directory = tempfile::tempdir().unwrap();
    plays_exactly(&simulated_file(&directory, 20_000));
}

#[test]
fn a_real_file_plays_exactly() {
    let Some(file) = real_data("12302019_open_1000msgs.NASDAQ_ITCH50") else { return };
    plays_exactly(&file);
}

#[test]
fn a_truncated_file_serves_its_instruments_and_tells_where_it_breaks_off() {
    let Some(file) = real_data("01302019_head_1MiB.NASDAQ_ITCH50") else { return };
    let blade = Blade::start(&["--workers", "1", "--feed", &format!("file:{}", file.display())]);
    let status = blade.until("the file's end", |status| status["feed"]["state"] == "finished");
    assert_eq!((&status["feed"]["instruments"], &status["feed"]["malformed"]), (&8713.into(), &1.into()));
    let states = summary(&blade.subscribe(&["/NASDAQ/*/status", "--check", "--json", "--idle", "4", "--for", "60"]));
    // Six of the instruments have no trading action in this part of the file.
    assert_eq!((&states["subjects"], &states["violations"]), (&8707.into(), &0.into()), "{states:#}");
    let log = blade.log();
    assert!(log.contains("malformed feed: at byte 1048574: the file ends within a message"), "{log}");
}

#[test]
fn a_thousand_subscribers_each_get_everything() {
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 3_000);
    let expected = expected_frames(&file).len();
    for engine in ENGINES {
        let blade = play(engine, &file, 1000);
        let count = expected.to_string();
        let output = blade.subscribe(&[
            "/NASDAQ/**",
            "--mode",
            "all",
            "--check",
            "--json",
            "--connections",
            "1000",
            "--count",
            &count,
            "--for",
            "100",
        ]);
        let totals = summary(&output);
        assert!(output.status.success(), "{engine}: {totals:#}\n{}", blade.log());
        assert_eq!(
            (&totals["frames_min"], &totals["frames_max"]),
            (&expected.into(), &expected.into()),
            "{engine}: {totals:#}"
        );
        assert_eq!(totals["frames"], 1000 * expected, "{engine}");
        assert!(totals["notices"].as_object().unwrap().is_empty(), "{totals:#}");
        // The blade counts what its clients count (I10).
        let delivered = blade.status()["totals"]["frames_delivered"].as_u64().unwrap();
        assert_eq!(delivered, 1000 * expected as u64, "{engine}");
    }
}

#[test]
fn plain_http_on_the_data_port_is_helped() {
    let blade = Blade::start(&["--workers", "1"]);
    let (head, body) = fanblade_testkit::http(blade.data, "/");
    assert!(head.starts_with("HTTP/1.1 426 Upgrade Required"), "{head}");
    assert!(head.contains("Upgrade: websocket") && body.contains("/v1/stream"), "{head}\n{body}");
}

#[test]
fn the_admin_port_answers() {
    let blade = Blade::start(&["--workers", "2"]);
    // The feed announces all instruments before the first order.
    blade.until("orders", |status| status["feed"]["orders"].as_u64() > Some(0));
    for (path, part) in
        [("/healthz", "ok"), ("/readyz", "ready"), ("/", "<title>Fanblade</title>"), ("/console/console.js", "Stream")]
    {
        let (head, body) = blade.get(path);
        assert!(head.starts_with("HTTP/1.1 200") && body.contains(part), "{path}: {head}\n{body}");
    }
    let (head, _) = blade.get("/");
    let policy = format!("connect-src 'self' ws://*:{port} wss://*:{port};", port = blade.data.port());
    assert!(head.contains("default-src 'none'") && head.contains(&policy), "{head}");
    let (head, _) = blade.get("/nothing");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");

    let (head, text) = blade.get("/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(text.contains("# TYPE fanblade_market_messages_total counter\n"), "{text}");
    assert_eq!(blade.metric("fanblade_ebpf_active"), 0.0);
    assert_eq!(blade.metric("fanblade_feed_state{state=\"live\"}"), 1.0);
    assert!(blade.metric("fanblade_market_messages_total{type=\"A\"}") > 0.0);
    assert!(blade.metric("fanblade_feed_to_publish_seconds_bucket{le=\"+Inf\"}") > 0.0);
    for worker in 0..2 {
        assert_eq!(blade.metric(&format!("fanblade_worker_sessions{{worker=\"{worker}\"}}")), 0.0);
    }
}

/// Ends a blade by a signal. Returns what a subscriber is told; checks that all that was published has arrived.
async fn farewell(engine: &str, signal: Signal) -> (u16, Vec<String>) {
    let mut blade = Blade::start(&["--engine", engine, "--workers", "2"]);
    let url = format!("ws://{}/v1/stream?subjects=/NASDAQ/*/bbo&mode=all", blade.data);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let (mut code, mut notices, mut frames) = (0, Vec::new(), 0);
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) if text.starts_with("{\"s\":") => {
                frames += 1;
                if frames == 100 {
                    blade.signal(signal);
                }
            }
            Message::Text(text) if text.contains("notice") => notices.push(text.to_string()),
            Message::Close(frame) => {
                code = frame.map_or(1005, |frame| frame.code.into());
                let _ = socket.close(None).await;
            }
            _ => {}
        }
    }
    assert!(frames >= 100);
    assert!(blade.wait().success(), "{engine}: the blade ends well\n{}", blade.log());
    assert!(blade.log().contains("stopped"), "{}", blade.log());
    (code, notices)
}

#[tokio::test]
async fn a_stopped_blade_says_goodbye() {
    for engine in ENGINES {
        let (code, _) = farewell(engine, Signal::SIGTERM).await;
        assert_eq!(code, 1001, "{engine}");
        let (code, notices) = farewell(engine, Signal::SIGUSR2).await;
        assert_eq!(code, 1012, "{engine}");
        assert!(
            notices.iter().any(|notice| notice.contains("\"restart\"") && notice.contains("reconnect_in_ms")),
            "{notices:?}"
        );
    }
}

#[tokio::test]
async fn a_blade_that_stood_still_closes_nobody_for_its_own_pause() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    std::fs::write(&file, "[limits]\nping_interval_ms = \"200ms\"\npong_ms_max = \"4s\"\n").unwrap();
    for engine in ENGINES {
        let blade = Blade::start(&["--config", file.to_str().unwrap(), "--engine", engine, "--workers", "1"]);
        // Quiet subjects, so that pings are always due.
        let url = format!("ws://{}/v1/stream?subjects=/NASDAQ/NOT_LISTED/*", blade.data);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("subscribed"));
        pinged(&mut socket, 3).await;
        blade.signal(Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_secs(6)).await;
        blade.signal(Signal::SIGCONT);
        pinged(&mut socket, 5).await;
        assert_eq!(blade.metric("fanblade_worker_pong_timeouts_total{worker=\"0\"}"), 0.0, "{engine}");
        assert!(blade.metric("fanblade_worker_stalls_total{worker=\"0\"}") >= 1.0, "{engine}");
    }
}

/// Waits for this many pings, and answers them.
async fn pinged<S>(socket: &mut tokio_tungstenite::WebSocketStream<S>, count: usize)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut seen = 0;
    while seen < count {
        match tokio::time::timeout(fanblade_testkit::PATIENCE, socket.next()).await.unwrap() {
            Some(Ok(Message::Ping(_))) => seen += 1,
            // The market's session begins.
            Some(Ok(Message::Text(text))) if text.contains("notice") => {}
            other => panic!("after {seen} pings: {other:?}"),
        }
        socket.flush().await.unwrap();
    }
}

#[tokio::test]
async fn requests_that_are_wrong_are_refused_and_the_session_lives_on() {
    for engine in ENGINES {
        let blade = Blade::start(&["--engine", engine, "--workers", "1"]);
        let (mut socket, response) =
            tokio_tungstenite::connect_async(format!("ws://{}/v1/stream", blade.data)).await.unwrap();
        assert_eq!(response.status(), 101);
        for (request, code) in [
            ("hello", "bad_request"),
            (r#"{"op":"fly","id":1}"#, "unknown_op"),
            (r#"{"op":"subscribe","id":2,"subjects":["AAPL"]}"#, "bad_subject"),
            (r#"{"op":"subscribe","id":3,"subjects":["/NASDAQ/**"],"mod":"all"}"#, "bad_request"),
        ] {
            socket.send(Message::text(request)).await.unwrap();
            let answer =
                tokio::time::timeout(fanblade_testkit::PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
            let answer: serde_json::Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
            assert_eq!((&answer["op"], &answer["code"]), (&"error".into(), &code.into()), "{request}");
        }
        socket.send(Message::text(r#"{"op":"ping","id":7}"#)).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap();
        assert_eq!(answer.to_text().unwrap(), r#"{"op":"pong","id":7}"#, "{engine}");
    }
}

/// Both encodings carry the same numbers, and each subject has one sid.
#[tokio::test]
async fn binary_says_what_json_says() {
    use fanblade_market::encode::binary::Head;
    use zerocopy::FromBytes as _;
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 5_000);
    let expected = expected_frames(&file);
    for engine in ENGINES {
        let blade = Blade::start(&[
            "--engine",
            engine,
            "--workers",
            "1",
            "--wait-for",
            "1",
            "--feed",
            &format!("file:{}", file.display()),
        ]);
        let mut request =
            format!("ws://{}/v1/stream?subjects=/NASDAQ/**&mode=all", blade.data).into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "fanblade.v1.binary".parse().unwrap());
        let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "fanblade.v1.binary");
        let (mut heads, mut names) = (Vec::new(), HashMap::new());
        while heads.len() < expected.len() {
            let message =
                tokio::time::timeout(fanblade_testkit::PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
            let Message::Binary(bytes) = message else { continue };
            let (head, _) = Head::read_from_prefix(&bytes).unwrap();
            assert_eq!(head.version, 1);
            heads.push((head.sid.get(), head.seq.get(), head.prev.get(), head.ts_ns.get()));
        }
        for (frame, (sid, seq, prev, ts_ns)) in expected.iter().zip(heads) {
            let json: serde_json::Value = serde_json::from_str(frame).unwrap();
            assert_eq!(
                (&json["q"], &json["p"], &json["t"]),
                (&seq.into(), &prev.into(), &ts_ns.to_string().into()),
                "{engine}"
            );
            let name = names.entry(sid).or_insert_with(|| json["s"].clone());
            assert_eq!(*name, json["s"], "{engine}: sid {sid}");
        }
    }
}

#[test]
fn a_printing_subscriber_ends_with_its_reader() {
    let blade = Blade::start(&["--workers", "1"]);
    let mut subscriber = Child::spawn(blade.subscriber(&["/NASDAQ/**"]).stdout(Stdio::piped()).stderr(Stdio::null()));
    drop(subscriber.stdout.take());
    let status = subscriber.wait().unwrap();
    assert!(status.success(), "a closed pipe is the reader's wish: {status}");
}
