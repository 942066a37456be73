//! Programs publish and subscribers receive: each value once, in order, with numbers that outlive the blade.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::FANBLADE;
use fanblade_testkit::{Blade, Child, PATIENCE};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite;

/// A blade that is fed by publishers, with these further lines in its section; and the address for publishers.
fn blade(directory: &TempDir, section: &str) -> (Blade, SocketAddr) {
    let file = directory.path().join("blade.toml");
    let socket = directory.path().join("publish.sock");
    let state = directory.path().join("publisher.toml");
    let config = format!(
        "[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nunix = {socket:?}\nstate = {state:?}\n\
         {section}\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--config"]).arg(&file);
    let blade = Blade::spawn(command);
    let source = blade.status()["feed"]["source"].as_str().unwrap().to_owned();
    let address = source.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
    let address = address.filter_map(|text| text.parse().ok()).next();
    (blade, address.unwrap_or_else(|| panic!("no address in {source}")))
}

/// Runs `fanblade publish` with these lines; returns its summary and standard error.
fn publish(address: &str, args: &[&str], lines: &str) -> (Value, String) {
    let mut command = Command::new(FANBLADE);
    command.args(["publish", address, "--json"]).args(args);
    let mut child = Child::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.output();
    let said = String::from_utf8(output.stderr).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}")), said)
}

/// A subscriber that has subscribed and prints frames.
fn listener(blade: &Blade, count: usize) -> (Child, BufReader<std::process::ChildStdout>) {
    let args = ["/**", "--mode", "all", "--for", "50", "--count", &count.to_string()];
    let mut child = Child::spawn(blade.subscriber(&args).stdout(Stdio::piped()).stderr(Stdio::null()));
    let output = BufReader::new(child.stdout.take().unwrap());
    blade.until("the subscriber", |status| status["totals"]["sessions_subscribed"] == 1);
    (child, output)
}

fn frames((mut child, output): (Child, BufReader<std::process::ChildStdout>)) -> Vec<Value> {
    let lines = output.lines().map_while(Result::ok);
    let frames = lines.map(|line| serde_json::from_str(&line).unwrap()).filter(|frame: &Value| frame["s"].is_string());
    let frames = frames.collect();
    child.wait().unwrap();
    frames
}

#[test]
fn what_is_published_by_each_transport_arrives_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (blade, tcp) = blade(&directory, "");
    let listener = listener(&blade, 9 * 100 + 1);
    let mut expected = Vec::new();
    let unix = format!("unix:{}", directory.path().join("publish.sock").display());
    for (round, address) in [tcp.to_string(), unix, format!("ws://{tcp}")].into_iter().enumerate() {
        let mut lines = String::new();
        for n in 0..300 {
            let value = json!({"round": round, "n": n, "text": "ä\"\\"});
            let subject = format!("/DESK/S{}/value", n % 7);
            lines += &format!("{}\n", json!({"s": subject, "d": value, "t": 1_000 + n}));
            expected.push((subject, value, (1_000 + n).to_string()));
        }
        let (summary, said) = publish(&address, &[], &lines);
        assert_eq!(
            (&summary["sent"], &summary["acknowledged"], &summary["refused"], &summary["seq"]),
            (&300.into(), &300.into(), &0.into(), &(300 * (round + 1)).into()),
            "{address}: {said}"
        );
    }
    publish(&tcp.to_string(), &["--subject", "/DESK/RAW/bytes", "--opaque"], "\u{1}abc\n");
    let frames = frames(listener);
    let mut newest = std::collections::HashMap::new();
    for (at, (frame, (subject, value, ts))) in frames.iter().zip(&expected).enumerate() {
        let prev = newest.insert(subject, at + 1).unwrap_or(0);
        assert_eq!(*frame, json!({"s": subject, "q": at + 1, "p": prev, "t": ts, "d": value}));
    }
    assert_eq!((&frames[900]["s"], &frames[900]["d"]), (&"/DESK/RAW/bytes".into(), &"AWFiYw==".into()));
    assert_eq!(frames.len(), 901);
}

/// A publisher that shuts down its side still gets its acknowledgements.
#[test]
fn who_publishes_and_ends_its_side_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (_blade, tcp) = blade(&directory, "");
    let frame = |kind: u8, body: &[u8]| {
        let mut frame = u32::try_from(1 + body.len()).unwrap().to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend_from_slice(body);
        frame
    };
    let record = [&[0; 8][..], &[9], b"/DESK/A/v1"].concat();
    let said = [frame(1, b"fanblade\x01\0\0"), frame(2, &record)].concat();
    for attempt in 0..20 {
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&said).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).unwrap();
        let ack = frame(130, &[&1u64.to_le_bytes()[..], &(2 * attempt + 1u64).to_le_bytes()].concat());
        assert!(answers.ends_with(&ack), "{attempt}: {answers:?}");

        let stream = TcpStream::connect(tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{tcp}/v1/publish"), stream).unwrap();
        socket.send(tungstenite::Message::text(r#"{"s":"/DESK/A/v","d":1}"#)).unwrap();
        socket.get_ref().shutdown(Shutdown::Write).unwrap();
        let (mut answers, mut is_closed) = (Vec::new(), false);
        while let Ok(message) = socket.read() {
            is_closed |= message.is_close();
            answers.extend(message.to_text().ok().map(str::to_owned));
        }
        let ack = json!({"op": "ack", "records": 1, "seq": 2 * attempt + 2});
        let is_ack = |answer: &String| serde_json::from_str::<Value>(answer).is_ok_and(|answer| answer == ack);
        assert!(answers.iter().any(is_ack) && is_closed, "{attempt}: {answers:?}");
    }
}

#[test]
fn numbers_go_on_after_a_stop_and_are_never_used_twice_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let line = "{\"s\":\"/DESK/A/v\",\"d\":1}\n";
    let one = |tcp: SocketAddr| {
        let (summary, said) = publish(&tcp.to_string(), &[], line);
        (summary["seq"].as_u64().unwrap_or_else(|| panic!("{said}")), summary["epoch"].as_str().unwrap().to_owned())
    };
    let (mut first, tcp) = blade(&directory, "");
    let (seq, epoch) = one(tcp);
    assert_eq!(seq, 1);
    first.until("the epoch that publishers were told", |status| status["epoch"] == epoch.as_str());
    first.signal(Signal::SIGTERM);
    assert!(first.wait().success());

    let (mut second, tcp) = blade(&directory, "");
    assert_eq!(one(tcp), (2, epoch.clone()), "after a clean stop exactly on");
    second.signal(Signal::SIGKILL);
    second.wait();

    let (_third, tcp) = blade(&directory, "");
    let (seq, same) = one(tcp);
    assert_eq!(same, epoch);
    assert!(seq > 2, "{seq}");
    let taken = std::fs::read_to_string(directory.path().join("publisher.toml")).unwrap();
    assert!(taken.contains(&epoch), "{taken}");
}

#[test]
fn two_blades_do_not_share_a_numbering_and_a_broken_file_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let (blade, _) = blade(&directory, "");
    let config = directory.path().join("blade.toml");
    let refused = |config: &Path| {
        let args = ["run", "--no-ebpf", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"];
        let output = Command::new(FANBLADE).args(args).arg(config).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    // The same state file, another socket.
    let other = directory.path().join("other.toml");
    std::fs::write(&other, std::fs::read_to_string(&config).unwrap().replace("publish.sock", "other.sock")).unwrap();
    let said = refused(&other);
    assert!(said.contains("is used by another blade"), "{said}");
    drop(blade);
    let state = directory.path().join("publisher.toml");
    std::fs::write(&state, "epoch = 7").unwrap();
    let said = refused(&other);
    assert!(said.contains("publisher.toml: ") && said.contains("remove it"), "{said}");
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "epoch = 7");
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (blade, tcp) = blade(&directory, "data_len_max = \"1KiB\"");
    let lines = "{\"s\":\"/DESK/A/v\",\"d\":1}\n{\"s\":\"DESK\",\"d\":1}\n{\"s\":\"/DESK/*/v\",\"d\":1}\n\
                 {\"s\":\"/DESK/A/v\",\"d\":null}\n";
    let (summary, said) = publish(&tcp.to_string(), &["--name", "clumsy"], lines);
    assert_eq!((&summary["acknowledged"], &summary["refused"]), (&2.into(), &2.into()), "{summary} {said}");
    // The blade does not buffer a record that it would refuse.
    let long = format!("{{\"s\":\"/DESK/A/v\",\"d\":\"{}\"}}\n", "x".repeat(2_000));
    let (summary, said) = publish(&tcp.to_string(), &[], &long);
    assert_eq!(summary["acknowledged"], 0, "{summary} {said}");
    assert!(said.contains("`data_len_max` is 1024"), "{said}");
    blade.until("the good ones, and what was told of the others", |status| {
        let troubles = &status["feed"]["troubles"];
        status["ring"]["published"] == 2 && troubles["bad_subject"] == 2 && troubles["too_long"] == 1
    });
    let log = blade.log();
    assert!(log.contains("publisher clumsy, record 2: `DESK`: a subject begins with '/'"), "{log}");

    // Over WebSocket a message is a record: an array is not one, and deeply nested values are refused.
    let (mut socket, _) = tungstenite::connect(format!("ws://{tcp}/v1/publish")).unwrap();
    let deep = format!(r#"{{"s":"/DESK/A/v","d":{}1{}}}"#, "[".repeat(300), "]".repeat(300));
    for (wrong, part) in [
        (r#"[["/X/a/v",2,null,"17"]]"#, "expected an object"),
        (deep.as_str(), "nested more than 64 deep"),
        (r#"{"s":"/DESK/A/v","d":"\ud800"}"#, "surrogate"),
    ] {
        socket.send(tungstenite::Message::text(wrong)).unwrap();
        let answer = loop {
            let answer = socket.read().unwrap();
            if let Some(text) = answer.to_text().ok().filter(|text| text.contains("bad_json")) {
                break text.to_owned();
            }
        };
        assert!(answer.contains(part), "{answer}");
    }
    blade.until("two of them", |status| status["ring"]["published"] == 2);

    // The query of the URL is checked strictly, too.
    for (query, status) in [
        ("", 101),
        ("?name=desk&acks=true", 101),
        ("?name=desk&name=other", 400),
        ("?acks=false&acks=true", 400),
        ("?acks=0", 400),
        ("?acks=False", 400),
        ("?ack=false", 400),
        ("?acks", 400),
    ] {
        let answered = match tungstenite::connect(format!("ws://{tcp}/v1/publish{query}")) {
            Ok((_, response)) => response.status().as_u16(),
            Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
            Err(error) => panic!("{query}: {error}"),
        };
        assert_eq!(answered, status, "{query}");
    }

    // Clients that are no publishers, or not yet: empty lines before a request are ignored.
    for (bytes, answer) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "426"),
        (b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "426"),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "426"),
        (b"\x05\x00\x00\x00garbage that is long enough", "bad_hello"),
        (b"\x0d\x0a\x00\x00garbage that is long enough", "bad_hello"),
    ] {
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        let got = String::from_utf8_lossy(&got).into_owned();
        assert!(got.contains(answer), "{got}");
    }
    assert!(blade.status()["ready"] == true);
}

#[test]
fn a_token_is_wanted_where_one_is_configured() {
    let directory = tempfile::tempdir().unwrap();
    let (_blade, tcp) = blade(&directory, "token = \"secret\"");
    let output = Command::new(FANBLADE).args(["publish", &tcp.to_string()]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("a token is needed"), "{said}");
    let file = directory.path().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    let (summary, said) =
        publish(&format!("ws://{tcp}"), &["--token-file", file.to_str().unwrap()], "{\"s\":\"/A/b\",\"d\":null}\n");
    assert_eq!(summary["seq"], 1, "{said}");
}

#[test]
fn a_publisher_that_is_too_fast_is_held_up_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (blade, tcp) = blade(&directory, "in_flight_max = \"256KiB\"");
    let memory = |blade: &Blade| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", blade.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    publish(&tcp.to_string(), &["--generate", "100", "--count", "1000"], "");
    let before = memory(&blade);
    let mut flood = Child::spawn(
        Command::new(FANBLADE)
            .args(["publish", &tcp.to_string(), "--generate", "100", "--len", "2000", "--json"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    blade.until("the flood", |status| status["ring"]["published"].as_u64() > Some(20_000));
    let started = Instant::now();
    let (summary, said) = publish(&tcp.to_string(), &[], "{\"s\":\"/DESK/A/v\",\"d\":1}\n");
    assert_eq!(summary["acknowledged"], 1, "{said}");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    blade.until("more of the flood", |status| status["ring"]["published"].as_u64() > Some(60_000));
    let grown = memory(&blade).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    let _ = flood.kill();
    let _ = flood.wait();
}

#[test]
fn a_clean_end_is_told_as_one() {
    let directory = tempfile::tempdir().unwrap();
    let (mut blade, address) = blade(&directory, "");
    let socket = format!("unix:{}", directory.path().join("publish.sock").display());
    for (name, address) in [("web", format!("ws://{address}")), ("tcp", address.to_string()), ("unix", socket)] {
        let (summary, said) = publish(&address, &["--name", name], "{\"s\":\"/D/A/v\",\"d\":1}\n");
        assert_eq!(summary["sent"], 1, "{said}");
        blade.until_logged(&format!("publisher {name} "));
    }
    blade.signal(Signal::SIGTERM);
    blade.wait();
    let gone: Vec<String> = blade.log().lines().filter(|line| line.contains("has gone")).map(str::to_owned).collect();
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert!(gone.iter().all(|line| line.trim_end().ends_with("has gone")), "{gone:?}");
}

#[test]
fn every_code_is_documented() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../upstream/src/publisher");
    let documentation = include_str!("../../../docs/PUBLISHING.md");
    let mut codes = Vec::new();
    for file in std::fs::read_dir(sources).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for before in ["code: \"", "refusal(\"", "reject(\"", ".end(\"", ".tell(\""] {
            codes.extend(text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    assert!(codes.len() > 10, "{codes:?}");
    codes.retain(|code| !documentation.contains(&format!("`{code}`")));
    assert!(codes.is_empty(), "not in PUBLISHING.md: {codes:?}");
}
