//! From a SoupBinTCP server to subscribers, through a real blade.

mod common;
#[path = "../../feed/tests/common/soupbintcp.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use common::{expected_frames, fanblade, real_data, simulated_file};
use fanblade_feed::pace::Pace;
use fanblade_feed::soupbintcp::{Packet, Rejection};
use fanblade_feed::{Event, Feed as _, FileFeed, Poll, Session, UnixNs};
use fanblade_testkit::{Blade, PATIENCE};
use futures_util::StreamExt as _;
use server::{Client, Server, sequenced};

const SESSION: Session = *b"20191230A ";

/// A configuration for this server, with further keys in its section.
fn config(directory: &tempfile::TempDir, server: &Server, more: &str) -> PathBuf {
    let file = directory.path().join("blade.toml");
    let text = format!(
        "[feed]\nsource = \"soupbintcp\"\ndate = \"2019-12-30\"\n[feed.soupbintcp]\nservers = [\"{}\"]\nusername = \"User01\"\n\
         password = \"secret\"\nretry_ms_min = 10\n{more}",
        server.address
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// The messages of a file.
fn messages(path: &Path) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut feed = FileFeed::open(path, Pace::Unpaced).unwrap();
    let mut take = |event: Event<'_>| {
        if let Event::Message { bytes, .. } = event {
            messages.push(bytes.to_vec());
        }
    };
    while feed.poll(UnixNs(0), &mut take).unwrap() != Poll::Finished {}
    messages
}

/// A file that is served over three connections, two of which are cut anywhere, gives each subscriber the same as the
/// file played from disk, byte for byte.
fn plays_exactly(file: &Path) {
    let (expected, messages) = (expected_frames(file), messages(file));
    let server = Server::start(move |number, mut client: Client| {
        let login = client.login();
        assert_eq!((login.username, login.password), (*b"User01", *b"secret    "));
        assert_eq!(login.heartbeat_timeout_ms, Some(15_000));
        client.accept(&SESSION, login.sequence);
        let rest = &messages[usize::try_from(login.sequence).unwrap() - 1..];
        let bytes = sequenced(rest.iter().map(Vec::as_slice));
        if number < 2 {
            client.send_bytes(&bytes[..bytes.len() * 2 / 5]);
        } else {
            client.send_bytes(&bytes);
            client.send(&Packet::EndOfSession);
            client.until_gone();
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, &server, "session = \"20191230A\"\nversion = \"4\"\n");
    let blade = Blade::start(&["--config", config.to_str().unwrap(), "--workers", "2", "--wait-for", "2"]);
    let count = expected.len().to_string();
    let subscribers: Vec<_> = (0..2)
        .map(|_| {
            let mut command = blade.subscriber(&["/NASDAQ/**", "--mode", "all", "--count", &count, "--for", "50"]);
            std::thread::spawn(move || command.output().unwrap())
        })
        .collect();
    for subscriber in subscribers {
        let text = String::from_utf8(subscriber.join().unwrap().stdout).unwrap();
        let frames: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"s\":")).collect();
        let differs = frames.iter().zip(&expected).position(|(got, expected)| got != expected);
        assert_eq!(differs.map(|at| (at, frames[at], &expected[at])), None);
        assert_eq!(frames.len(), expected.len());
    }
    let status = blade.until("the session's end", |status| status["feed"]["state"] == "finished");
    assert_eq!(status["epoch"], "20191230-20191230A");
    assert_eq!(status["feed"]["troubles"]["disconnected"], 2, "{status:#}");
    assert_eq!((&status["feed"]["gaps"], &status["feed"]["duplicates"]), (&0.into(), &0.into()), "{status:#}");
    blade.until_logged(": the server closed the connection");
}

#[test]
fn a_simulated_file_by_tcp_plays_exactly() {
    let directory = tempfile::tempdir().unwrap();
    plays_exactly(&simulated_file(&directory, 20_000));
}

#[test]
fn a_real_file_by_tcp_plays_exactly() {
    let Some(file) = real_data("12302019_open_1000msgs.NASDAQ_ITCH50") else { return };
    plays_exactly(&file);
}

/// A blade is ready when it has caught up; a subscriber is told when upstream is lost, and when it is back.
#[tokio::test]
async fn readiness_and_staleness_follow_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let mut messages = messages(&simulated_file(&directory, 1_000));
    // All at one time of the market: if it passed as fast as the clock, as it may on a slow machine, they would be the
    // present.
    messages.iter_mut().for_each(|message| message[5..11].copy_from_slice(&[0, 0, 0, 0, 0, 1]));
    let (go_on, wait) = mpsc::channel();
    let server = Server::start(move |number, mut client: Client| {
        let login = client.login();
        match number {
            0 => client.send(&Packet::LoginRejected(Rejection::NotAuthorized)),
            1 => {
                client.accept(&SESSION, login.sequence);
                client.send_bytes(&sequenced(messages.iter().map(Vec::as_slice)));
                // Not ready until the server's heartbeat shows that nothing more is waiting.
                wait.recv_timeout(PATIENCE).unwrap();
                client.send(&Packet::ServerHeartbeat);
                wait.recv_timeout(PATIENCE).unwrap();
            }
            2 => {
                // Stale until the test lets it go on.
                client.send(&Packet::LoginRejected(Rejection::Other(b'?')));
                wait.recv_timeout(PATIENCE).unwrap();
            }
            _ => {
                client.accept(&SESSION, login.sequence);
                client.send(&Packet::ServerHeartbeat);
                client.until_gone();
            }
        }
    });
    let config = config(&directory, &server, "refused_ms = 100\n");
    let blade = Blade::start(&["--config", config.to_str().unwrap(), "--workers", "1"]);
    let status = blade.until("all messages", |status| status["feed"]["messages"] == 1_000);
    assert_eq!((&status["feed"]["state"], &status["ready"]), (&"catching_up".into(), &false.into()), "{status:#}");
    let (head, why) = blade.get("/readyz");
    assert!(head.starts_with("HTTP/1.1 503") && why.contains("the feed catches up"), "{head}{why}");
    let refused = format!(
        "login_refused: {}: login refused: not authorised; check username and password, and whether this address may log in; \
         again in ",
        server.address
    );
    blade.until_logged(&refused);
    go_on.send(()).unwrap();
    let status = blade.until("the heartbeat", |status| status["feed"]["state"] == "live");
    assert_eq!((&status["ready"], &status["feed"]["troubles"]["login_refused"]), (&true.into(), &1.into()));

    let url = format!("ws://{}/v1/stream?subjects=/NASDAQ/NOT_LISTED/*", blade.data);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut next = async || {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        message.into_text().unwrap().to_string()
    };
    assert!(next().await.contains("subscribed"));
    go_on.send(()).unwrap();
    assert_eq!(next().await, r#"{"op":"notice","kind":"stale","source":"soupbintcp"}"#);
    go_on.send(()).unwrap();
    assert_eq!(next().await, r#"{"op":"notice","kind":"live","source":"soupbintcp"}"#);
    let status = blade.until("it is live", |status| status["feed"]["state"] == "live");
    assert_eq!((&status["feed"]["messages"], &status["feed"]["duplicates"]), (&1_000.into(), &0.into()));
}

#[test]
fn wrong_settings_get_clear_answers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    let run = |config: &str, feed: &str| {
        std::fs::write(&file, config).unwrap();
        let config = file.to_str().unwrap();
        let (code, _, stderr) = fanblade(&[
            "run",
            "--no-ebpf",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--config",
            config,
            "--feed",
            feed,
        ]);
        assert_ne!(code, 0);
        stderr
    };
    let cases = [
        (
            "",
            "soupbintcp",
            "no SoupBinTCP server is named: `servers` in [feed.soupbintcp], or --feed soupbintcp:HOST:PORT",
        ),
        ("", "soupbintcp:exchange", "`exchange` is not a server; write soupbintcp:HOST:PORT"),
        ("", "soupbintcp:no.such.host.invalid:4000", "SoupBinTCP server `no.such.host.invalid:4000`: "),
        (
            "[feed.soupbintcp]\npassword_file = \"/nonexistent\"\n",
            "soupbintcp:127.0.0.1:4000",
            "cannot read the password in /nonexistent: No such file",
        ),
        (
            "[feed.soupbintcp]\npassword_file = \"/proc/self/status\"\n",
            "soupbintcp:127.0.0.1:4000",
            "the password must be at most 10 characters of ASCII",
        ),
    ];
    for (config, feed, expected) in cases {
        let stderr = run(config, feed);
        assert!(stderr.contains(expected), "{feed} is answered: {stderr}");
    }
}
