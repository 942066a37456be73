//! Connections with real peers, taken out of the kernel and given back to it. Two namespaces with a cable between them
//! are a network of the test's own, where every packet is counted.

mod cable;

use std::io::Write as _;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use cable::{Cable, Pair, obstacle, reads, take, waiting};
use fanblade_abi::lane::Seq;
use fanblade_net::repair::{self, Connection, Obstacle, RepairError, TimestampUnit, Timestamps, WindowScales};
use fanblade_net::{ListenOptions, rlimit};
use fanblade_testkit::{is_root, until};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use nix::time::{ClockId, clock_gettime};

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

/// A listener at the cable's address, and a connection with it.
fn connected(cable: &Cable) -> Pair {
    let listener = cable.listen(cable.address(), &ListenOptions::default());
    cable.connect(&listener)
}

/// What a restored connection has in common with the one before: the kernel begins to measure again.
fn without_measurements(connection: &Connection) -> Connection {
    Connection { cwnd_bytes: 0, smoothed_rtt: None, timestamps: None, mss_bytes: 0, ..connection.clone() }
}

#[test]
fn a_connection_goes_on_after_it_was_taken_and_restored() {
    if !is_root("a network namespace") {
        return;
    }
    for is_v4 in [true, false] {
        let cable = Cable::new(is_v4);
        for bits in 0..8_u8 {
            let [timestamps, sack, scaling] = [1, 2, 4].map(|bit| bits & bit != 0);
            for (name, is_on) in [("timestamps", timestamps), ("sack", sack), ("window_scaling", scaling)] {
                // Only the client goes without: the blade's kernel would rather have it.
                cable.client_sysctl(&format!("ipv4/tcp_{name}"), if is_on { "1" } else { "0" });
            }
            let mut pair = connected(&cable);
            pair.talk(30_000, 500);
            cable.settle();
            let before = cable.packets();

            let (local, peer) = (pair.server().local_addr().unwrap(), pair.server().peer_addr().unwrap());
            let mss = getsockopt(pair.server(), sockopt::TcpMaxSeg).unwrap();
            // It does not matter who has the socket still.
            let _late = pair.server().try_clone().unwrap();
            let first = pair.take();
            assert_eq!((first.local, first.peer), (local, peer));
            assert_eq!(first.timestamps.is_some(), timestamps);
            assert_eq!(first.sack, sack);
            assert_eq!(first.window_scales.is_some(), scaling);
            assert_eq!((first.snd_una, first.owes_acknowledgement()), (first.snd_nxt, false));
            // Ethernet's 1,500 bytes without headers, and without the timestamps of each segment.
            let limit = if is_v4 { 1460 } else { 1440 };
            assert_eq!(first.mss_limit_bytes, limit);
            assert_eq!(first.mss_bytes, if timestamps { limit - 12 } else { limit });
            assert_eq!(u32::from(first.mss_bytes), mss);
            assert!(first.cwnd_bytes >= 10 * mss && first.smoothed_rtt.is_some(), "{first:?}");
            std::thread::sleep(Duration::from_millis(250));
            pair.server = Some(cable.restore(&first, &[]));
            std::thread::sleep(Duration::from_millis(250));
            assert_eq!(cable.packets(), before, "packets were sent by take, close or restore");

            // All is as it was.
            let again = pair.take();
            assert_eq!(without_measurements(&again), without_measurements(&first));
            assert_eq!(again.timestamps.is_some(), timestamps);
            pair.server = Some(cable.restore(&again, &[]));
            let shorter = first.mss_bytes - again.mss_bytes;
            assert!(shorter == 0 || shorter == 12 && !timestamps, "segments are shorter by {shorter} bytes now");
            // The client speaks first, and much.
            let up = pair.next_up(300_000);
            let (client, server) = (&mut pair.client, pair.server.as_mut().unwrap());
            std::thread::scope(|scope| {
                scope.spawn(|| client.write_all(&up).unwrap());
                reads(server, &up);
            });
            pair.talk(60_000, 500);
            // The client sees such a window as before: a wrong shift would make it tiny.
            cable.settle();
            let Pair { client, .. } = pair;
            let seen = take(&client);
            drop(client);
            assert!(seen.windows.snd_wnd >= 30_000, "what the client may send: {seen:?}, {first:?}");
            // And the client's end is restored as well as the blade's.
            let client = cable.client.run(|| repair::restore(&seen, &[], &ListenOptions::default())).unwrap();
            pair.client = waiting(client);
            pair.talk(5_000, 5_000);
            cable.is_well();
        }
    }
}

#[test]
fn unacknowledged_bytes_arrive_by_the_kernels_retransmission() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    // The client takes much without reading.
    cable.sysctl("ipv4/tcp_rmem", "4096 1000000 6291456");
    let small = ListenOptions { sndbuf_bytes: Some(4096), ..ListenOptions::default() };
    for (len, options) in
        [(1, ListenOptions::default()), (4_000, small), (150_000, small), (150_000, Default::default())]
    {
        let mut pair = connected(&cable);
        pair.talk(30_000, 500);
        cable.settle();
        let resent = cable.count("RetransSegs");
        let connection = pair.take();
        // Somebody has sent these, and all of them were lost.
        let lost = pair.next_down(len);
        let snd_nxt = connection.snd_nxt.plus(u32::try_from(len).unwrap());
        let connection = Connection { snd_nxt, ..connection };
        let server = cable.blade.run(|| repair::restore(&connection, &lost, &options)).unwrap();
        pair.server = Some(waiting(server));
        assert!(matches!(pair.obstacle(), Obstacle::Unacknowledged { .. }));
        // What is written now comes after them.
        let next = pair.next_down(10_000);
        let (client, server) = (&mut pair.client, pair.server.as_mut().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| server.write_all(&next).unwrap());
            reads(client, &lost);
            reads(client, &next);
        });
        assert!(cable.count("RetransSegs") > resent);
        pair.talk(10_000, 500);
        let buffer = getsockopt(pair.server(), sockopt::SndBuf).unwrap();
        assert!(options.sndbuf_bytes.is_none() || buffer == 2 * 4096, "a send buffer of {buffer} bytes");
        cable.is_well();
    }
}

#[test]
fn a_connection_that_is_not_quiet_stays_usable_and_says_why() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    let listener = cable.listen(cable.address(), &ListenOptions::default());
    let mut pair = cable.connect(&listener);
    pair.talk(5_000, 500);

    // Bytes that were received, and not read.
    let up = pair.next_up(10);
    pair.client.write_all(&up).unwrap();
    cable.settle();
    assert_eq!(pair.obstacle(), Obstacle::Unread { bytes: 10 });
    reads(pair.server(), &up);

    // An urgent byte: those behind it are not counted as unread.
    send(pair.client.as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
    let up = pair.next_up(10);
    pair.client.write_all(&up).unwrap();
    cable.settle();
    assert_eq!(pair.obstacle(), Obstacle::Urgent);
    // Whoever reads on passes it over.
    reads(pair.server(), &up);
    pair.talk(5_000, 500);

    // Bytes that were sent, and not acknowledged: acknowledgements are lost.
    cable.settle();
    cable.lose_to_blade(true);
    let down = pair.next_down(700);
    pair.server().write_all(&down).unwrap();
    pair.client_reads(&down);
    assert_eq!(pair.obstacle(), Obstacle::Unacknowledged { bytes: 700 });
    cable.lose_to_blade(false);
    pair.talk(5_000, 500);

    // A segment that waits for the one before it, which was lost. The client does not learn that, but may repeat it by
    // itself after 200 ms; then once more.
    until("segments out of order", || {
        cable.settle();
        cable.lose_to_blade(true);
        let lost = pair.next_up(100);
        pair.client.write_all(&lost).unwrap();
        cable.lose_to_blade(false);
        cable.lose_to_client(true);
        let next = pair.next_up(100);
        pair.client.write_all(&next).unwrap();
        let obstacle = pair.obstacle();
        cable.lose_to_client(false);
        reads(pair.server(), &lost);
        reads(pair.server(), &next);
        (obstacle == Obstacle::OutOfOrder).then_some(())
    });
    pair.talk(5_000, 500);

    // Bytes that do not fit the peer's window.
    let bytes = pair.next_down(20_000_000);
    let mut written = 0;
    pair.server().set_nonblocking(true).unwrap();
    until("a window that is shut", || {
        let before = written;
        while let Ok(len) = pair.server().write(&bytes[written..]) {
            written += len;
        }
        cable.settle();
        (written == before).then_some(())
    });
    pair.server().set_nonblocking(false).unwrap();
    let unsent = pair.obstacle();
    assert!(matches!(unsent, Obstacle::Unsent { bytes: 1.. }), "{unsent}");
    let (client, server) = (&mut pair.client, pair.server.as_mut().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| server.write_all(&bytes[written..]).unwrap());
        reads(client, &bytes);
    });
    pair.talk(5_000, 500);

    // It was never in repair, which takes this away.
    assert!(getsockopt(pair.server(), sockopt::ReuseAddr).unwrap());
    cable.is_well();

    // Not established: not yet, and not any more.
    assert_eq!(obstacle(&listener), Obstacle::NotEstablished { state: 10 });
    pair.client.shutdown(std::net::Shutdown::Write).unwrap();
    cable.settle();
    assert_eq!(pair.obstacle(), Obstacle::NotEstablished { state: 8 });
    let down = pair.next_down(500);
    pair.server().write_all(&down).unwrap();
    pair.client_reads(&down);

    // With congestion notification.
    cable.sysctl("ipv4/tcp_ecn", "1");
    let mut pair = cable.connect(&listener);
    assert_eq!(pair.obstacle(), Obstacle::Ecn);
    pair.talk(5_000, 500);
    cable.is_well();
}

#[test]
fn a_window_that_is_nearly_shut_comes_back_as_it_was() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    cable.sysctl("ipv4/tcp_rmem", "4096 60000 60000");
    for is_shut in [false, true] {
        let mut pair = connected(&cable);
        // The client does not read. Ever less fits its window; how much at first depends on the kernel.
        let mut unread = Vec::new();
        let mut connection = loop {
            cable.settle();
            let connection = pair.take();
            if connection.windows.snd_wnd < 6_000 {
                break connection;
            }
            pair.server = Some(cable.restore(&connection, &[]));
            // Whole segments: a kernel does not take many small ones into a small window's memory.
            let segments = connection.windows.snd_wnd / 2 / u32::from(connection.mss_bytes);
            let len = usize::try_from(segments.max(1)).unwrap() * usize::from(connection.mss_bytes);
            let bytes = pair.next_down(len);
            pair.server().write_all(&bytes).unwrap();
            unread.extend(bytes);
        };
        assert!(connection.windows.max_window > 20_000, "{connection:?}");
        if is_shut {
            connection.windows.snd_wnd = 0;
        }
        pair.server = Some(cable.restore(&connection, &[]));
        let again = pair.take();
        assert_eq!(again.windows, connection.windows);
        pair.server = Some(cable.restore(&again, &[]));
        // More than fits: the kernel keeps to the window, and probes it until the client reads.
        let more = pair.next_down(50_000);
        let (client, server) = (&mut pair.client, pair.server.as_mut().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| server.write_all(&more).unwrap());
            std::thread::sleep(Duration::from_millis(500));
            reads(client, &unread);
            reads(client, &more);
        });
        pair.talk(5_000, 500);
        cable.is_well();
    }
}

#[test]
fn listeners_open_beside_restored_sockets() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    let alone = ListenOptions { reuseport: false, ..ListenOptions::default() };
    let anywhere = "0.0.0.0:9001".parse().unwrap();
    let everywhere = "[::]:9001".parse().unwrap();
    let listener = cable.listen(cable.address(), &ListenOptions::default());
    let mut pairs: Vec<Pair> = (0..3).map(|_| cable.connect(&listener)).collect();
    let exchange = |cable: &Cable, pairs: &mut Vec<Pair>| {
        for pair in pairs.iter_mut() {
            pair.talk(100, 100);
        }
        cable.settle();
        for pair in pairs {
            let connection = pair.take();
            pair.server = Some(cable.restore(&connection, &[]));
        }
    };
    // Beside the listener, and beside each other.
    exchange(&cable, &mut pairs);
    drop(listener);
    // A group of two, then one alone, then one at all addresses, then one that serves both families.
    for (address, options, count) in [
        (cable.address(), ListenOptions::default(), 2),
        (cable.address(), alone, 1),
        (anywhere, alone, 1),
        (everywhere, ListenOptions::default(), 1),
    ] {
        let listeners: Vec<_> = (0..count).map(|_| cable.listen(address, &options)).collect();
        if count == 1 {
            pairs.push(cable.connect(&listeners[0]));
        }
        exchange(&cable, &mut pairs);
    }
    exchange(&cable, &mut pairs);
    cable.is_well();
}

#[test]
fn an_ipv6_socket_that_serves_ipv4_is_taken_as_ipv4() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    let listener = cable.listen("[::]:9001".parse().unwrap(), &ListenOptions::default());
    let mut pair = cable.connect(&listener);
    assert!(pair.server().local_addr().unwrap().is_ipv6());
    pair.talk(5_000, 500);
    cable.settle();
    let connection = pair.take();
    assert_eq!((connection.local, connection.peer), (cable.address(), pair.client.local_addr().unwrap()));
    pair.server = Some(cable.restore(&connection, &[]));
    pair.talk(5_000, 500);
    cable.is_well();
}

#[test]
fn timestamps_go_on_and_keep_their_unit() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    let mut pair = connected(&cable);
    pair.talk(100, 100);
    cable.settle();
    let mut connection = pair.take();
    for round in 0..200_u32 {
        let is_micro = round >= 100;
        let mut timestamps = connection.timestamps.unwrap();
        if round == 100 {
            // As if the route had asked for microseconds: they go on a little above the milliseconds.
            let now = monotonic();
            let (wanted, unit) = (timestamps.value_at(now).wrapping_add(100), TimestampUnit::Microsecond);
            let plain = Timestamps { offset: 0, unit };
            timestamps = Timestamps { offset: wanted.wrapping_sub(plain.value_at(now)), unit };
            connection.timestamps = Some(timestamps);
        }
        let last_sent = Seq(timestamps.value_at(monotonic()));
        pair.server = Some(cable.restore(&connection, &[]));
        pair.talk(100, 100);
        connection = pair.take_when_quiet();
        let after = connection.timestamps.unwrap();
        if is_micro && after.unit == TimestampUnit::Millisecond {
            println!("skipped: microsecond timestamps: this kernel is older than Linux 6.7");
            break;
        }
        assert_eq!(after.unit == TimestampUnit::Microsecond, is_micro);
        let now = Seq(after.value_at(monotonic()));
        assert!(!last_sent.is_after(now), "round {round}: {now:?} after {last_sent:?}");
    }
    pair.server = Some(cable.restore(&connection, &[]));
    pair.talk(100, 100);
    cable.is_well();
}

#[test]
fn a_restored_socket_is_as_an_accepted_one() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    let options = ListenOptions { rcvbuf_bytes: Some(50_000), sndbuf_bytes: Some(60_000), ..ListenOptions::default() };
    let listener = cable.listen(cable.address(), &options);
    let mut pair = cable.connect(&listener);
    pair.talk(100, 100);
    cable.settle();
    let seen = |socket: &std::os::fd::OwnedFd| {
        (
            [
                getsockopt(socket, sockopt::TcpNoDelay).unwrap(),
                getsockopt(socket, sockopt::ReuseAddr).unwrap(),
                getsockopt(socket, sockopt::ReusePort).unwrap(),
            ],
            [getsockopt(socket, sockopt::RcvBuf).unwrap(), getsockopt(socket, sockopt::SndBuf).unwrap()],
            getsockopt(socket, sockopt::TcpUserTimeout).unwrap(),
        )
    };
    let accepted = pair.server.take().unwrap().into();
    let before = seen(&accepted);
    let connection = take(&TcpStream::from(accepted));
    let restored = cable.blade.run(|| repair::restore(&connection, &[], &options)).unwrap();
    assert_eq!(seen(&restored), before);
    assert!(OFlag::from_bits_truncate(fcntl(&restored, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK));
    assert!(FdFlag::from_bits_truncate(fcntl(&restored, FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC));
    pair.server = Some(waiting(restored));
    pair.talk(100, 100);
    cable.is_well();
}

#[test]
fn what_cannot_be_restored_is_a_clear_error_and_harms_nothing() {
    if !is_root("a network namespace") {
        return;
    }
    let cable = Cable::new(true);
    let mut pair = connected(&cable);
    pair.talk(100, 100);
    cable.settle();
    let good = pair.take();
    let before = cable.packets();
    let refused = |connection: &Connection, bytes: &[u8]| -> RepairError {
        cable.blade.run(|| repair::restore(connection, bytes, &ListenOptions::default())).unwrap_err()
    };
    let wrong = |change: &dyn Fn(&mut Connection)| {
        let mut connection = good.clone();
        change(&mut connection);
        refused(&connection, &[]).to_string()
    };
    let text = refused(&good, b"abc").to_string();
    assert!(
        text.contains("10.9.0.1:9001") && text.contains("0 bytes are not acknowledged, and 3 were given"),
        "{text}"
    );
    for (text, part) in [
        (wrong(&|it| it.peer = "[::1]:5".parse().unwrap()), "different families"),
        (wrong(&|it| it.windows.snd_wnd = it.windows.max_window + 1), "max_window"),
        (wrong(&|it| it.windows.snd_wl1 = it.rcv_nxt.plus(it.windows.rcv_wnd + 1)), "snd_wl1"),
        (wrong(&|it| it.windows.rcv_wup = it.rcv_nxt.plus(1)), "rcv_wup"),
        (wrong(&|it| it.window_scales = Some(WindowScales { send: 15, receive: 0 })), "more than 14"),
        (wrong(&|it| it.local = "10.9.0.7:9001".parse().unwrap()), "does not have this address (any more): `ip addr`"),
        (wrong(&|it| it.peer = "10.10.0.2:5".parse().unwrap()), "no route leads to the peer"),
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Twice: the first one lives on.
    pair.server = Some(cable.restore(&good, &[]));
    let text = refused(&good, &[]).to_string();
    assert!(text.contains("a socket has this connection already"), "{text}");
    assert_eq!(cable.packets(), before);
    pair.talk(5_000, 500);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = repair::take(udp.as_fd()).unwrap_err();
    assert!(error.to_string().contains("no TCP socket"), "{error}");
    cable.is_well();
}

/// Set in the process that [`without_the_capability_the_error_says_what_is_missing`] starts.
const UNPRIVILEGED: &str = "FANBLADE_TEST_UNPRIVILEGED";

#[test]
fn without_the_capability_the_error_says_what_is_missing() {
    if std::env::var_os(UNPRIVILEGED).is_none() && nix::unistd::geteuid().is_root() {
        // The same test once more, as nobody.
        const NOBODY: u32 = 65_534;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "without_the_capability_the_error_says_what_is_missing"]);
        let output = command.env(UNPRIVILEGED, "1").uid(NOBODY).gid(NOBODY).output();
        match output {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => println!("skipped: nobody may not run the test: {error}"),
        }
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut pair = Pair::new(&listener, client);
    pair.talk(100, 100);
    let error = until("a quiet connection", || repair::take(pair.server().as_fd()).err());
    let connection = Connection { local: "127.0.0.1:9".parse().unwrap(), ..example() };
    let others = repair::restore(&connection, &[], &ListenOptions::default()).unwrap_err();
    for error in [error, others] {
        assert!(matches!(error, RepairError::NotPermitted { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("127.0.0.1") && text.contains("setcap cap_net_admin+ep"), "{text}");
    }
    pair.talk(100, 100);
}

/// A connection that nobody has had.
fn example() -> Connection {
    let (start, address) = (Seq(1), "127.0.0.1:9".parse().unwrap());
    let windows = repair::Windows { snd_wl1: start, snd_wnd: 1_000, max_window: 1_000, rcv_wnd: 1_000, rcv_wup: start };
    Connection {
        local: address,
        peer: address,
        snd_una: start,
        snd_nxt: start,
        rcv_nxt: start,
        windows,
        mss_bytes: 1_448,
        mss_limit_bytes: 1_460,
        window_scales: None,
        sack: true,
        timestamps: None,
        cwnd_bytes: 14_480,
        smoothed_rtt: None,
    }
}

#[test]
fn a_thousand_connections_are_taken_and_restored_again_and_again() {
    if !is_root("a network namespace") {
        return;
    }
    const CONNECTIONS: usize = 1_000;
    const ROUNDS: usize = 6;
    rlimit::raise_descriptors().unwrap();
    let cable = Cable::new(true);
    let listener = cable.listen(cable.address(), &ListenOptions::default());
    let mut pairs: Vec<Pair> = (0..CONNECTIONS).map(|_| cable.connect(&listener)).collect();
    for round in 0..ROUNDS {
        for (at, pair) in pairs.iter_mut().enumerate() {
            pair.talk(1 + at % 3_000, 1 + at % 125);
        }
        cable.settle();
        let before = cable.packets();
        let connections: Vec<Connection> = pairs.iter_mut().map(Pair::take).collect();
        let lost: Vec<Vec<u8>> = match round % 2 {
            0 => vec![Vec::new(); CONNECTIONS],
            // Somebody has sent these, and they were lost.
            _ => pairs.iter_mut().enumerate().map(|(at, pair)| pair.next_down(1 + at % 2_000)).collect(),
        };
        let restored = cable.blade.run(|| {
            let restore = |(connection, lost): (&Connection, &Vec<u8>)| {
                let snd_nxt = connection.snd_una.plus(u32::try_from(lost.len()).unwrap());
                repair::restore(&Connection { snd_nxt, ..connection.clone() }, lost, &ListenOptions::default()).unwrap()
            };
            connections.iter().zip(&lost).map(restore).collect::<Vec<_>>()
        });
        assert!(round % 2 == 1 || cable.packets() == before, "packets were sent");
        for ((pair, socket), lost) in pairs.iter_mut().zip(restored).zip(lost) {
            pair.server = Some(waiting(socket));
            pair.client_reads(&lost);
        }
    }
    for pair in &mut pairs {
        pair.talk(1_000, 100);
    }
    cable.is_well();
}
