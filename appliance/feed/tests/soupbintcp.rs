//! The feed over real TCP on loopback, against servers that do what they should, and servers that do not.

#[path = "common/soupbintcp.rs"]
mod common;

use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, Server, sequenced};
use fanblade_feed::moldudp64::Start;
use fanblade_feed::pace::Pace;
use fanblade_feed::soupbintcp::{LoginRequest, Packet, Rejection, Retry, SoupbintcpConfig, Timing};
use fanblade_feed::{Condition, Event, Feed, FileFeed, Poll, Session, SoupbintcpFeed, Stale, UnixNs};
use fanblade_testkit::data;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket};

const MONDAY: Session = *b"MONDAY    ";
const TUESDAY: Session = *b"TUESDAY   ";

fn config(servers: &[SocketAddr]) -> SoupbintcpConfig {
    let milliseconds = Duration::from_millis;
    SoupbintcpConfig {
        servers: servers.iter().copied().map(Into::into).collect(),
        username: *b"User01",
        password: *b"secret    ",
        session: None,
        start: Start::Beginning,
        heartbeat_timeout_ms: None,
        timing: Timing { connect_max: PATIENCE, heartbeat: Duration::from_secs(1), silence_max: PATIENCE },
        retry: Retry { min: milliseconds(2), max: milliseconds(20), refused: milliseconds(40) },
    }
}

/// A feed, and what it has said, in words.
struct Play {
    feed: SoupbintcpFeed,
    said: Vec<String>,
    conditions: Vec<Condition>,
    finished: bool,
}

impl Play {
    fn new(config: SoupbintcpConfig) -> Play {
        let feed = SoupbintcpFeed::new(config);
        Play { conditions: vec![feed.condition()], feed, said: Vec::new(), finished: false }
    }

    /// Polls and waits as a sequencer does, until this holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Play) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}; {:#?} {:?}",
                self.said,
                self.conditions
            );
            let now_ns = UnixNs::now();
            let said = &mut self.said;
            let polled = self.feed.poll(now_ns, &mut |event| said.push(words(&event)));
            let condition = self.feed.condition();
            if self.conditions.last() != Some(&condition) {
                self.conditions.push(condition);
            }
            match polled.unwrap() {
                Poll::Busy => {}
                Poll::IdleUntil(due_ns) => {
                    self.feed.wait(Duration::from_nanos(due_ns.since(UnixNs::now())).min(Duration::from_millis(50)));
                }
                Poll::Finished => self.finished = true,
            }
        }
    }

    fn until_said(&mut self, word: &str) {
        self.until(word, |play| play.said.iter().any(|said| said == word));
    }

    /// What it said, without the troubles and what was malformed.
    fn messages(&self) -> Vec<&str> {
        self.said.iter().map(String::as_str).filter(|word| !word.starts_with(['!', '?'])).collect()
    }

    fn troubles(&self) -> Vec<&str> {
        self.said.iter().filter_map(|word| word.strip_prefix('!')).collect()
    }
}

fn words(event: &Event<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match event {
        Event::SessionStart { session } => text(session),
        Event::Message { seq, bytes, .. } => format!("{seq} {}", text(bytes)),
        Event::Gap { from, to } => format!("gap {from}..{to}"),
        Event::EndOfSession { seq } => format!("end {seq}"),
        Event::Malformed { offset, reason } => format!("?{offset} {reason}"),
        // The pause is chance.
        Event::Trouble(trouble) => {
            format!("!{}: {}", trouble.kind(), trouble.to_string().split("; again in").next().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

/// Messages `from..=to` of a session as a server sends them: `m1`, `m2` …
fn messages(from: u64, to: u64) -> Vec<u8> {
    let messages: Vec<_> = (from..=to).map(|seq| format!("m{seq}").into_bytes()).collect();
    sequenced(messages.iter().map(Vec::as_slice))
}

/// What a feed says of them.
fn expected(session: &str, from: u64, to: u64) -> Vec<String> {
    let messages = (from..=to).map(|seq| format!("{seq} m{seq}"));
    std::iter::once(session.to_owned()).chain(messages).collect()
}

/// Answers a login with what it asks for, of a session with so many messages.
fn serve(client: &mut Client, session: &Session, to: u64) {
    let from = client.login().sequence;
    client.accept(session, from);
    client.send_bytes(&messages(from, to));
}

#[test]
fn both_logins_heartbeats_and_a_goodbye() {
    for (heartbeat_timeout_ms, start) in [(None, Start::Beginning), (Some(9_000), Start::Live)] {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let server = Server::start({
            let heard = Arc::clone(&heard);
            move |_, mut client: Client| {
                let login = client.login();
                let asked = LoginRequest {
                    username: *b"User01",
                    password: *b"secret    ",
                    session: [b' '; 10],
                    sequence: u64::from(start == Start::Beginning),
                    heartbeat_timeout_ms,
                };
                assert_eq!(login, asked);
                client.send(&Packet::Debug(b"hello"));
                client.accept(&MONDAY, 7 - 6 * login.sequence);
                client.send_bytes(&messages(7 - 6 * login.sequence, 7));
                client.send(&Packet::Unsequenced(b"not for us"));
                client.send(&Packet::ServerHeartbeat);
                while let Some(kind) = client.receive(|packet| packet.kind()) {
                    heard.lock().unwrap().push(kind);
                }
            }
        });
        let mut config = config(&[server.address]);
        config.heartbeat_timeout_ms = heartbeat_timeout_ms;
        config.start = start;
        config.timing.heartbeat = Duration::from_millis(20);
        let mut play = Play::new(config);
        play.until("three heartbeats", |_| heard.lock().unwrap().len() >= 3);
        assert_eq!(play.messages(), expected("MONDAY", if start == Start::Live { 7 } else { 1 }, 7));
        assert_eq!(play.troubles(), [""; 0]);
        assert_eq!(play.conditions, [Condition::CatchingUp, Condition::Live]);
        let counters = play.feed.counters();
        assert_eq!(
            (counters.messages, counters.heartbeats, counters.sessions, counters.gaps),
            (counters.packets - 4, 1, 1, 0)
        );
        drop(play);
        drop(server);
        let heard = heard.lock().unwrap();
        assert_eq!(heard.last(), Some(&b'O'), "{heard:?}");
        assert!(heard[..heard.len() - 1].iter().all(|kind| *kind == b'R'), "{heard:?}");
    }
}

#[test]
fn cut_at_any_byte_everything_comes_once() {
    let whole = 33 + messages(1, 5).len();
    for cut in 0..=whole {
        let server = Server::start(move |number, mut client: Client| {
            let from = client.login().sequence;
            if number > 0 {
                client.accept(&MONDAY, from);
                client.send_bytes(&messages(from, 5));
                client.until_gone();
                return;
            }
            assert_eq!(from, 1);
            let mut bytes = Vec::new();
            let accepted = fanblade_feed::soupbintcp::LoginAccepted { session: MONDAY, sequence: 1 };
            Packet::LoginAccepted(accepted).write(&mut bytes).unwrap();
            bytes.extend_from_slice(&messages(1, 5));
            client.send_bytes(&bytes[..cut]);
        });
        let mut play = Play::new(config(&[server.address]));
        play.until_said("5 m5");
        assert_eq!(play.messages(), expected("MONDAY", 1, 5), "cut at {cut}");
        assert_eq!((play.feed.counters().duplicates, play.feed.counters().gaps), (0, 0));
    }
}

#[test]
fn cut_again_and_again_in_a_long_session() {
    const MESSAGES: u64 = 20_000;
    let logins = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let logins = Arc::clone(&logins);
        move |number, mut client: Client| {
            logins.fetch_add(1, Relaxed);
            let from = client.login().sequence;
            client.accept(&MONDAY, from);
            let bytes = messages(from, MESSAGES);
            // Each time a little further, at lengths that fall anywhere.
            client.send_bytes(&bytes[..bytes.len().min(7_919 * (number + 1))]);
            if bytes.len() <= 7_919 * (number + 1) {
                client.send(&Packet::EndOfSession);
                client.until_gone();
            }
        }
    });
    let mut config = config(&[server.address]);
    config.session = Some(MONDAY);
    let mut play = Play::new(config);
    play.until("its end", |play| play.finished);
    let mut all = expected("MONDAY", 1, MESSAGES);
    all.push(format!("end {}", MESSAGES + 1));
    assert!(play.messages() == all, "{} of {}", play.messages().len(), all.len());
    assert!(logins.load(Relaxed) > 3);
    assert_eq!(play.feed.poll(UnixNs(0), &mut |event| panic!("{event:?}")).unwrap(), Poll::Finished);
}

#[test]
fn single_bytes_and_a_server_that_stops_within_a_packet() {
    let server = Server::start(move |number, mut client: Client| {
        let from = client.login().sequence;
        client.accept(&MONDAY, from);
        if number == 0 {
            let bytes = messages(1, 3);
            for byte in &bytes[..bytes.len() - 1] {
                client.send_bytes(std::slice::from_ref(byte));
            }
            // The last byte never comes.
            client.until_gone();
        } else {
            assert_eq!(from, 3);
            client.send_bytes(&messages(3, 4));
            client.until_gone();
        }
    });
    let mut config = config(&[server.address]);
    config.timing.silence_max = Duration::from_secs(1);
    let mut play = Play::new(config);
    play.until_said("4 m4");
    assert_eq!(play.messages(), expected("MONDAY", 1, 4));
    let troubles = play.troubles();
    assert!(troubles.len() == 1 && troubles[0].contains(": no packet for 1"), "{troubles:?}");
    // While nobody was there, it said so.
    use Condition::{CatchingUp, Stale as IsStale};
    assert_eq!(play.conditions, [CatchingUp, IsStale(Stale::Disconnected), CatchingUp]);
}

#[test]
fn a_byte_now_and_then_is_no_sign_of_life() {
    let server = Server::start(|_, mut client: Client| {
        serve(&mut client, &MONDAY, 1);
        // A packet that never ends, from a client that is heard all the time.
        client.send_bytes(&[0xff, 0xff, b'S']);
        while client.stream.peer_addr().is_ok() {
            if std::io::Write::write_all(&mut client.stream, b"x").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let mut config = config(&[server.address]);
    config.timing.silence_max = Duration::from_millis(300);
    let mut play = Play::new(config);
    play.until("a trouble", |play| !play.troubles().is_empty());
    assert!(play.troubles()[0].contains(": no packet for "), "{:?}", play.said);
}

#[test]
fn garbage_is_told_with_its_place_and_costs_the_connection_only() {
    let server = Server::start(|number, mut client: Client| {
        let from = client.login().sequence;
        let garbage: &[u8] = match number {
            0 => b"HTTP/1.1 400 Bad Request\r\n\r\n",
            1 => b"\0\0\0\0\0\0",
            2 => b"\0\x02Hx",
            3 => b"\0\x1fA    MONDAY                   0",
            4 => b"\0\x1fA    MONDAY18446744073709551615",
            _ => b"",
        };
        if garbage.is_empty() || garbage[1] == 2 {
            client.accept(&MONDAY, from);
            client.send_bytes(&messages(from, from));
        }
        client.send_bytes(garbage);
        client.until_gone();
    });
    let mut play = Play::new(config(&[server.address]));
    play.until_said("2 m2");
    assert_eq!(play.messages(), expected("MONDAY", 1, 2));
    let malformed: Vec<_> = play.said.iter().filter_map(|word| word.strip_prefix('?')).collect();
    let expected = [
        "2 SoupBinTCP packet of unknown type 'T'",
        "0 SoupBinTCP packet without a type",
        // Behind the login's answer and one message.
        "38 SoupBinTCP packet 'H' of length 2, not 1",
        "13 SoupBinTCP login accepted with message 0 where 2 was asked for",
        "13 SoupBinTCP login accepted with message 18446744073709551615 where 2 was asked for",
    ];
    assert_eq!(malformed, expected);
    assert_eq!((play.troubles().len(), play.feed.counters().malformed), (5, 5), "{:?}", play.said);
}

#[test]
fn a_refused_login_is_told_and_tried_again_in_good_time() {
    let logins = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let logins = Arc::clone(&logins);
        move |number, mut client: Client| {
            logins.fetch_add(1, Relaxed);
            let from = client.login().sequence;
            let rejection = match number {
                0 => Rejection::NotAuthorized,
                1 => Rejection::SessionUnavailable,
                2 => Rejection::Other(b'?'),
                _ => {
                    client.accept(&MONDAY, from);
                    client.send_bytes(&messages(from, 1));
                    return client.until_gone();
                }
            };
            client.send(&Packet::LoginRejected(rejection));
        }
    });
    let began = Instant::now();
    let mut play = Play::new(config(&[server.address]));
    play.until_said("1 m1");
    let address = server.address;
    let expected = [
        format!(
            "login_refused: {address}: login refused: not authorised; check username and password, and whether this address may log in"
        ),
        format!("login_refused: {address}: login refused: session not available; it has no session now"),
        format!("login_refused: {address}: login refused: code '?'; ask whoever runs it what that means"),
    ];
    assert_eq!(play.troubles(), expected);
    assert_eq!(logins.load(Relaxed), 4);
    assert!(began.elapsed() >= Duration::from_millis(3 * 20), "three pauses of at least half of 40 ms");
    assert_eq!(play.conditions, [Condition::CatchingUp], "nothing was there that could be stale");
}

#[test]
fn servers_are_taken_in_turn() {
    let gone = Server::start(|_, _| ()).address;
    let two_messages = |_, mut client: Client| {
        let from = client.login().sequence;
        client.accept(&MONDAY, from);
        client.send_bytes(&messages(from, from + 1));
    };
    let (one, two) = (Server::start(two_messages), Server::start(two_messages));
    let mut play = Play::new(config(&[gone, one.address, two.address]));
    play.until_said("6 m6");
    let expected_messages = expected("MONDAY", 1, 6);
    assert_eq!(&play.messages()[..7], expected_messages);
    let troubles = play.troubles();
    assert!(troubles[0].starts_with(&format!("disconnected: {gone}: cannot connect: ")), "{troubles:?}");
    let closed = |server: &Server| format!("disconnected: {}: the server closed the connection", server.address);
    assert_eq!((troubles[1], troubles[2]), (&*closed(&one), &*closed(&two)));
    assert!(troubles[3].starts_with(&format!("disconnected: {gone}: ")), "{troubles:?}");
}

#[test]
fn all_addresses_of_a_server_have_their_turn_at_once() {
    let server = Server::start(|_, mut client: Client| {
        let from = client.login().sequence;
        client.accept(&MONDAY, from);
        client.send_bytes(&messages(from, from + 1));
    });
    let hole = common::BlackHole::new();
    let mut config = config(&[server.address]);
    // Nothing comes of waiting for the first address.
    config.timing.connect_max = PATIENCE;
    config.servers[0].addresses.insert(0, hole.address);
    config.servers[0].name = "feed.test:1".to_owned();
    let mut play = Play::new(config);
    // A lost connection is made again, beginning with the other address.
    play.until_said("6 m6");
    assert_eq!(&play.messages()[..7], expected("MONDAY", 1, 6));
    let is_end = |trouble: &&str| *trouble == "disconnected: feed.test:1: the server closed the connection";
    assert!(play.troubles().iter().all(is_end), "{:?}", play.troubles());
}

#[test]
fn a_session_that_changed_meanwhile_is_had_from_its_beginning() {
    // What the server says to a client that asks for the rest of a session which is over: it has another, or it has
    // not got that one. Both are allowed.
    for says_no in [false, true] {
        let server = Server::start(move |number, mut client: Client| {
            let login = client.login();
            match number {
                0 => {
                    client.accept(&MONDAY, login.sequence);
                    client.send_bytes(&messages(1, 3));
                }
                _ if login.session == MONDAY && says_no => {
                    client.send(&Packet::LoginRejected(Rejection::SessionUnavailable));
                }
                _ => {
                    client.accept(&TUESDAY, login.sequence);
                    client.send_bytes(&messages(login.sequence, 5));
                    client.until_gone();
                }
            }
        });
        let mut play = Play::new(config(&[server.address]));
        play.until_said("5 m5");
        assert_eq!(play.messages(), [expected("MONDAY", 1, 3), expected("TUESDAY", 1, 5)].concat());
        assert_eq!((play.feed.counters().sessions, play.feed.counters().gaps), (2, 0));
        assert_eq!(play.troubles().len(), 1, "the lost connection: {:?}", play.said);
    }
}

#[test]
fn after_the_end_comes_the_next_session() {
    let server = Server::start(move |number, mut client: Client| {
        let login = client.login();
        assert_eq!(login.session, [b' '; 10]);
        // While it is still the old one, nothing is repeated; then there is none; then there is another.
        assert_eq!(login.sequence, [1, 3, 3, 3, 1, 3, 1][number]);
        if [3, 4].contains(&number) {
            client.send(&Packet::LoginRejected(Rejection::SessionUnavailable));
        } else if number < 3 {
            client.accept(&MONDAY, login.sequence);
            client.send_bytes(&messages(login.sequence, 2));
            client.send(&Packet::EndOfSession);
        } else {
            client.accept(&TUESDAY, login.sequence);
            client.send_bytes(&messages(login.sequence, 2));
        }
        client.until_gone();
    });
    let mut play = Play::new(config(&[server.address]));
    play.until("Tuesday", |play| play.said.iter().filter(|word| *word == "2 m2").count() == 2);
    let mut all = expected("MONDAY", 1, 2);
    all.push("end 3".to_owned());
    all.extend(expected("TUESDAY", 1, 2));
    assert_eq!(play.messages(), all);
    assert_eq!(play.troubles(), [""; 0]);
    // Nothing was missing in between; until it was known that there is another one, of which nothing is here.
    use Condition::{CatchingUp, Live, Stale as IsStale};
    assert_eq!(play.conditions, [CatchingUp, Live, IsStale(Stale::Disconnected), CatchingUp]);
}

#[test]
fn the_wrong_session_is_left_alone() {
    let server = Server::start(|number, mut client: Client| {
        let login = client.login();
        assert_eq!(login.session, MONDAY);
        client.accept(if number == 0 { &TUESDAY } else { &MONDAY }, login.sequence);
        client.send_bytes(&messages(login.sequence, 2));
        client.until_gone();
    });
    let mut config = config(&[server.address]);
    config.session = Some(MONDAY);
    let mut play = Play::new(config);
    play.until_said("2 m2");
    assert_eq!(play.messages(), expected("MONDAY", 1, 2));
    let address = server.address;
    let trouble = format!(
        "wrong_session: {address}: the server is in session \"TUESDAY\", where \"MONDAY\" is configured; it is left"
    );
    assert_eq!(play.troubles(), [trouble]);
}

#[test]
fn what_a_server_does_not_have_any_more_is_a_gap_and_what_it_repeats_is_dropped() {
    let server = Server::start(|number, mut client: Client| {
        let from = client.login().sequence;
        let (first, last) = [(1, 3), (2, 5), (9, 10), (11, 11)][number.min(3)];
        assert_eq!(from, [1, 4, 6, 11][number.min(3)]);
        client.accept(&MONDAY, first);
        client.send_bytes(&messages(first, last));
        if number == 3 {
            client.send(&Packet::ServerHeartbeat);
            client.until_gone();
        }
    });
    let mut play = Play::new(config(&[server.address]));
    play.until("a heartbeat", |play| play.feed.counters().heartbeats > 0);
    let mut all = expected("MONDAY", 1, 5);
    all.push("gap 6..9".to_owned());
    all.extend((9..=11).map(|seq| format!("{seq} m{seq}")));
    assert_eq!(play.messages(), all);
    let back = play.troubles().iter().filter(|trouble| trouble.starts_with("sequence_back: ")).count();
    let counters = play.feed.counters();
    assert_eq!((back, counters.duplicates, counters.gaps, counters.gap_messages), (1, 2, 1, 3));
    assert_eq!(play.conditions.last(), Some(&Condition::Stale(Stale::Incomplete)));
}

#[test]
fn a_server_that_takes_no_connection_blocks_nobody() {
    // Its queue is full: further handshakes are not answered.
    let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    let raw = std::os::fd::AsRawFd::as_raw_fd(&listener);
    bind(raw, &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let address: SockaddrIn = getsockname(raw).unwrap();
    let address = SocketAddr::from((address.ip(), address.port()));
    let _queued = std::net::TcpStream::connect(address).unwrap();
    let mut config = config(&[address]);
    config.timing.connect_max = Duration::from_millis(300);
    let mut feed = SoupbintcpFeed::new(config);
    let (mut trouble, mut idle, deadline) = (None, 0, Instant::now() + PATIENCE);
    while trouble.is_none() && Instant::now() < deadline {
        let poll = feed.poll(UnixNs(0), &mut |event| trouble = Some(words(&event))).unwrap();
        if let Poll::IdleUntil(_) = poll {
            idle += 1;
            feed.wait(Duration::from_millis(20));
        }
    }
    assert_eq!(
        trouble.unwrap(),
        format!("!disconnected: {address}: cannot connect: {address}: no answer within 300 ms")
    );
    assert!(idle > 1, "it came back meanwhile");
}

/// A real file, with its cuts at lengths that fall anywhere, is what the file says.
#[test]
fn a_real_file_by_tcp_is_that_file() {
    let Some(path) = data::real("itch50/12302019_open_1000msgs.NASDAQ_ITCH50") else { return };
    let mut file = Vec::new();
    let mut feed = FileFeed::open(&path, Pace::Unpaced).unwrap();
    while feed
        .poll(UnixNs(0), &mut |event| {
            if let Event::Message { seq, bytes, .. } = event {
                file.push((seq, bytes.to_vec()));
            }
        })
        .unwrap()
        != Poll::Finished
    {}
    assert_eq!(file.len(), 1_000);
    let server = Server::start({
        let file = file.clone();
        move |number, mut client: Client| {
            let from = client.login().sequence;
            client.accept(&MONDAY, from);
            let from = usize::try_from(from).unwrap();
            let bytes = sequenced(file[from - 1..].iter().map(|(_, bytes)| bytes.as_slice()));
            client.send_bytes(&bytes[..bytes.len().min(10_007 * (number + 1))]);
            if bytes.len() <= 10_007 * (number + 1) {
                client.send(&Packet::EndOfSession);
                let _ = client.stream.shutdown(Shutdown::Write);
                client.until_gone();
            }
        }
    });
    let mut config = config(&[server.address]);
    config.session = Some(MONDAY);
    let mut feed = SoupbintcpFeed::new(config);
    let (mut got, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        let poll = feed.poll(UnixNs::now(), &mut |event| match event {
            Event::Message { seq, bytes, .. } => got.push((seq, bytes.to_vec())),
            Event::Gap { .. } | Event::Malformed { .. } => panic!("{event:?}"),
            _ => {}
        });
        match poll.unwrap() {
            Poll::Finished => break,
            Poll::IdleUntil(_) => feed.wait(Duration::from_millis(5)),
            Poll::Busy => assert!(Instant::now() < deadline),
        }
    }
    assert!(got == file);
}
