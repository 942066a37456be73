//! The messages of the commands, above all when something is wrong.

mod common;

use std::io::Write as _;
use std::net::TcpListener;

use common::fanblade;
use fanblade_testkit::Blade;

/// Checks that the command fails, and that its message contains all of `parts`.
#[track_caller]
fn fails(args: &[&str], parts: &[&str]) {
    let (code, stdout, stderr) = fanblade(args);
    assert_ne!(code, 0, "{args:?} succeeds: {stdout}{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?} does not say {part:?} but: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_configuration_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "[data]\nlisen = \"127.0.0.1:7400\"\n").unwrap();
    let expected = format!(
        "fanblade: {path}:2:1: unknown field `lisen`\n  2 | lisen = \"127.0.0.1:7400\"\n    | ^^^^^\n  hint: did you mean `listen`?\n"
    );
    assert_eq!(fanblade(&["check", path]), (1, String::new(), expected.clone()));
    assert_eq!(
        fanblade(&["run", "--config", path]),
        (1, String::new(), expected),
        "run refuses it with the same words"
    );

    std::fs::write(&file, "[feed]\nsource = \"sim\"\n[data]\nlisten = \"[::1]:9000\"\n").unwrap();
    let (code, stdout, _) = fanblade(&["check", path]);
    assert!(code == 0 && stdout.contains("good") && stdout.contains("the simulator to [::1]:9000"), "{stdout}");

    fails(
        &["check", "/nonexistent.toml"],
        &["/nonexistent.toml: cannot read the configuration", "fanblade.example.toml"],
    );
    fails(&["check", "/"], &["cannot read the configuration", "name the file in it"]);
    std::fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    fails(&["check", path], &["it is not text (UTF-8)"]);
}

#[test]
fn lines_that_take_packets_of_anybody_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    let path = file.to_str().unwrap();
    let check = |lines: &str| {
        let config = format!("[feed]\nsource = \"moldudp64\"\n[feed.moldudp64]\nlines = [{lines}]\n");
        std::fs::write(&file, config).unwrap();
        fanblade(&["check", path])
    };
    let (code, stdout, stderr) = check(r#""239.1.1.1:9@lo from 10.0.0.1", "239.1.1.2:9@lo""#);
    assert!(code == 0 && stdout.contains(": good"), "{stdout}{stderr}");
    let told = format!("{path}: `239.1.1.2:9@lo`: packets of whoever sends to the group are taken");
    assert!(stderr.starts_with(&told) && stderr.lines().count() == 1, "{stderr}");
    let (code, _, stderr) = check(r#""239.1.1.1:9@lo from 10.0.0.1""#);
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn wrong_feeds_get_clear_answers() {
    let directory = tempfile::tempdir().unwrap();
    let feed = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        format!("file:{}", path.display())
    };
    let gzip = gzip_of(b"hello, this is no market data");
    let cases: &[(String, &[&str])] = &[
        (feed("empty", b""), &["holds no messages"]),
        (feed("text", b"<!doctype html><html>no data</html>"), &["is no BinaryFILE", "it is text"]),
        (
            feed("a.pcap", b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0"),
            &["is no BinaryFILE", "it is a packet capture (pcap) that ends"],
        ),
        (feed("a.pcapng", b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a"), &["it is a packet capture (pcapng)"]),
        (
            feed("none.pcap", &[&b"\xd4\xc3\xb2\xa1\x02\0\x04\0"[..], &[0; 16]].concat()),
            &["holds no MoldUDP64 packets"],
        ),
        (feed("a.cap#lo", b"").replace("lo", "eth0"), &["`eth0` is not a destination", "FILE#GROUP:PORT"]),
        (feed("a.zip", b"PK\x03\x04\x14\0\0\0\x08\0"), &["it is a ZIP archive"]),
        (feed("a.zst", b"\x28\xb5\x2f\xfd\x04\x58\x31\0\0"), &["compressed with zstd"]),
        (feed("other.gz", &gzip), &["it is a gzip file, but what is in it is no BinaryFILE"]),
        (feed("cut.gz", &gzip[..12]), &["is no BinaryFILE"]),
        (format!("file:{}", directory.path().display()), &["it is a directory"]),
        ("file:/nonexistent".to_owned(), &["cannot open /nonexistent: No such file"]),
        ("file:".to_owned(), &["`file:` lacks the path"]),
        (
            "sims".to_owned(),
            &[
                "`sims` is not a feed; there are `sim`, `file:PATH`, `moldudp64`, `soupbintcp`, `publisher` and `websocket`",
            ],
        ),
    ];
    for (feed, parts) in cases {
        fails(&["run", "--no-ebpf", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--feed", feed], parts);
    }
    fails(&["run", "--pace", "10"], &["the simulator runs in real time", "messages_per_s"]);
    fails(&["run", "--pace", "fast"], &["`fast` is not a pace"]);
}

/// Writes `text` as a gzip file.
fn gzip_of(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_taken_port_is_told_with_its_holder() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    // The name of this test's process begins with "cli-".
    let by = "is taken by cli-";
    let pid = format!("(process {})", std::process::id());
    fails(&["run", "--no-ebpf", "--listen", &taken, "--admin", "127.0.0.1:0"], &[by, &pid, "--listen"]);
    fails(&["run", "--no-ebpf", "--listen", "127.0.0.1:0", "--admin", &taken], &[by, &pid, "--admin"]);

    // Two blades of one user could share a port by SO_REUSEPORT, and each would get half of the subscribers.
    let blade = Blade::start(&["--workers", "1"]);
    let pid = format!("is taken by fanblade (process {})", blade.pid());
    fails(&["run", "--no-ebpf", "--listen", &blade.data.to_string(), "--admin", "127.0.0.1:0"], &[&pid]);
}

#[test]
fn unknown_interfaces_and_addresses_are_told() {
    fails(
        &["run", "--interface", "etho", "--admin", "127.0.0.1:0"],
        &["there is no interface `etho`; there are ", "lo"],
    );
    fails(&["run", "--no-ebpf", "--listen", "192.0.2.1:7400"], &["192.0.2.1 is not an address of this machine"]);
    fails(&["run", "--listen", "here"], &["invalid socket address"]);
}

#[test]
fn a_subscriber_is_told_what_is_wrong() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fails(&["subscribe", &free, "/NASDAQ/**"], &["nothing listens at ws://127.0.0.1:", "is the blade running?"]);
    fails(&["subscribe", "tcp://127.0.0.1:1/", "/NASDAQ/**"], &["`tcp://` is not supported", "wss://"]);
    fails(&["subscribe", "::1:7400", "/NASDAQ/**"], &["an IPv6 address stands in brackets: '[::1]:7400'"]);
    fails(&["subscribe", "--insecure", &free, "/NASDAQ/**"], &["--ca and --insecure are for wss://"]);
    fails(&["subscribe", "wss://127.0.0.1:1", "--ca", "/nonexistent.pem", "/NASDAQ/**"], &["/nonexistent.pem"]);
    let blade = Blade::start(&["--workers", "1"]);
    let secure = format!("wss://{}", blade.data);
    fails(&["subscribe", &secure, "/NASDAQ/**"], &["TLS: ", "does the server speak TLS at this port?"]);
    fails(&["subscribe", &blade.data.to_string(), "NASDAQ"], &["the blade refused", "(bad_subject)"]);
    fails(&["subscribe", &blade.admin.to_string(), "/NASDAQ/**"], &["answered 404", "in place of a WebSocket"]);
}

#[test]
fn patterns_with_a_star_within_a_segment_are_refused() {
    let blade = Blade::start(&["--feed", "sim"]);
    let told = "'*' stands for a whole segment";
    fails(&["subscribe", &blade.data.to_string(), "/NASDAQ/AA*/bbo"], &["bad_subject", "subjects[0]", told]);
    fails(&["tap", "subjects", "/NASDAQ/AA*/bbo"], &["/NASDAQ/AA*/bbo", told]);
    fails(&["tap", "follow", "/NASDAQ/**/bbo"], &["/NASDAQ/**/bbo", "'**' may only be the last segment"]);
}

#[test]
fn doctor_says_what_is_missing_and_what_mends_it() {
    let (code, stdout, stderr) = fanblade(&["doctor", "--json"]);
    let findings: Vec<serde_json::Value> =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    let is_missing = findings.iter().any(|finding| finding["state"] == "missing");
    assert_eq!(code, i32::from(is_missing), "the exit code says whether a feature is missing");
    for name in ["kernel", "CPUs", "io_uring", "CAP_BPF", "bpffs", "XDP", "net.core.somaxconn", "RLIMIT_NOFILE"] {
        let finding = findings.iter().find(|finding| finding["check"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(!finding["found"].as_str().unwrap().is_empty());
        let is_explained = ["cost", "fix"].iter().all(|field| !finding[field].as_str().unwrap().is_empty());
        assert_eq!(is_explained, finding["state"] != "ok", "{finding}");
    }
    let (_, table, _) = fanblade(&["doctor"]);
    assert!(
        table.contains(&format!("{} ok, ", findings.iter().filter(|finding| finding["state"] == "ok").count())),
        "{table}"
    );
}

#[test]
fn flows_without_a_blade_say_so() {
    let directory = tempfile::tempdir().unwrap();
    fails(&["flows", "--pin-dir", directory.path().to_str().unwrap()], &["no maps of a running blade in"]);
}

#[test]
fn what_is_missing_is_told_once() {
    for args in [
        &["run", "--no-ebpf", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--feed", "file:/test/nothing"][..],
        &["replay", "/test/nothing", "--to", "239.1.2.3:4000@lo"],
    ] {
        let (code, _, stderr) = fanblade(args);
        assert_eq!((code, stderr.matches("No such file").count()), (1, 1), "{stderr}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_told() {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 1; exec \"$0\" run --no-ebpf --listen 127.0.0.1:0 --admin 127.0.0.1:0"]);
    let output = command.arg(common::FANBLADE).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{} {stderr}", output.status);
    assert!(stderr.contains("may not be that large (`ulimit -f`, LimitFSIZE=)"), "{stderr}");
}
