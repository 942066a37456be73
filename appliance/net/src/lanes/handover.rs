//! From a socket's connection to a lane, and back.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fanblade_abi::lane::checksum::sum_of_connection;
use fanblade_abi::lane::{Lane, Path, Receiving, Sending, Seq};

use crate::repair::{Connection, TimestampUnit, Timestamps, WindowScales, Windows};

/// What a socket wants back that a lane's entry does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// [`Connection::mss_limit_bytes`].
    pub mss_limit_bytes: u16,
    /// Windows are scaled.
    pub has_scales: bool,
    /// [`Connection::sack`].
    pub sack: bool,
}

/// Where a new lane belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Index of its path.
    pub path: u16,
    /// The worker that owns it.
    pub worker: u8,
    /// The entry's generation from now on.
    pub generation: u16,
    /// Its session's key.
    pub session: u64,
}

/// Why a connection cannot be a lane. It goes back to its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The path is of another address or port of ours, or of the other family.
    OtherPath,
    /// Bytes are in flight.
    InFlight,
    /// Timestamps count microseconds: a lane counts milliseconds.
    Microseconds,
    /// The largest segment does not fit the path.
    Mtu,
    /// The client's address means something only with an interface (link-local IPv6), which a lane does not keep.
    LinkLocal,
}

/// A lane that goes on where the connection is. It is held until [`Sending::HELD`] is taken away.
///
/// If [`Connection::owes_acknowledgement`], the first packet should follow at once.
///
/// # Errors
/// [`Unfit`]: a lane cannot go on with such a connection.
pub fn lane(connection: &Connection, path: &Path, place: Place) -> Result<(Lane, Kept), Unfit> {
    if bytes(connection.local.ip()) != path.blade || connection.local.port() != path.blade_port {
        return Err(Unfit::OtherPath);
    }
    if [connection.local, connection.peer].iter().any(is_link_local) {
        return Err(Unfit::LinkLocal);
    }
    if connection.snd_una != connection.snd_nxt {
        return Err(Unfit::InFlight);
    }
    let (ts_offset, timestamps) = match connection.timestamps {
        None => (0, 0),
        Some(Timestamps { offset, unit: TimestampUnit::Millisecond }) => (offset, Sending::TIMESTAMPS),
        Some(_) => return Err(Unfit::Microseconds),
    };
    let (options_len, ip_len) = (if timestamps == 0 { 0 } else { 12 }, if path.has(Path::IPV6) { 40 } else { 20 });
    let room = path.mtu.checked_sub(ip_len + 20 + options_len).filter(|room| *room > 0).ok_or(Unfit::Mtu)?;
    let windows = connection.windows;
    let scales = connection.window_scales.unwrap_or(WindowScales { send: 0, receive: 0 });
    let client = bytes(connection.peer.ip());
    let sending = Sending {
        client,
        client_port: connection.peer.port(),
        path: place.path,
        sum: sum_of_connection(&client, &path.blade, connection.peer.port(), path.blade_port),
        mss: connection.mss_bytes.min(room),
        snd_nxt: connection.snd_nxt,
        acked: windows.rcv_wup,
        ts_offset,
        in_flight_max: connection.cwnd_bytes,
        flags: Sending::USED | Sending::HELD | timestamps,
        worker: place.worker,
        generation: place.generation,
        packets: 0,
        bytes: 0,
        session: place.session,
    };
    let receiving = Receiving {
        snd_una: connection.snd_una,
        rcv_nxt: connection.rcv_nxt,
        window: windows.snd_wnd,
        window_max: windows.max_window,
        srtt: connection.smoothed_rtt.map_or(0, |rtt| ms(rtt).max(1) << 3),
        rttvar: connection.smoothed_rtt.map_or(0, |rtt| ms(rtt).max(1) << 1),
        advertised: advertised(windows, connection.rcv_nxt, scales.receive),
        scale: scales.send,
        own_scale: scales.receive,
        ..Receiving::default()
    };
    let kept = Kept {
        mss_limit_bytes: connection.mss_limit_bytes,
        has_scales: connection.window_scales.is_some(),
        sack: connection.sack,
    };
    Ok((Lane { sending, receiving }, kept))
}

/// The connection of a lane that is held or to be raised, for [`crate::repair::restore`] with the bytes that it has in
/// flight.
#[must_use]
pub fn connection(lane: &Lane, path: &Path, kept: Kept) -> Connection {
    let (sending, receiving) = (&lane.sending, &lane.receiving);
    let has_timestamps = sending.has(Sending::TIMESTAMPS);
    let rtt = Duration::from_micros(u64::from(receiving.srtt) * 125);
    Connection {
        local: address(path.blade, path.blade_port),
        peer: address(sending.client, sending.client_port),
        snd_una: receiving.snd_una,
        snd_nxt: sending.snd_nxt,
        rcv_nxt: receiving.rcv_nxt,
        windows: Windows {
            snd_wl1: receiving.rcv_nxt,
            snd_wnd: receiving.window,
            max_window: receiving.window_max,
            rcv_wnd: offered(lane),
            rcv_wup: sending.acked,
        },
        mss_bytes: sending.mss,
        mss_limit_bytes: kept.mss_limit_bytes,
        window_scales: kept.has_scales.then_some(WindowScales { send: receiving.scale, receive: receiving.own_scale }),
        sack: kept.sack,
        timestamps: has_timestamps
            .then_some(Timestamps { offset: sending.ts_offset, unit: TimestampUnit::Millisecond }),
        cwnd_bytes: sending.in_flight_max,
        smoothed_rtt: (receiving.srtt > 0).then_some(rtt),
    }
}

/// The window that the lane's packets advertise, so that its right edge does not move left: what was advertised last,
/// less what has come since, and rounded up. A lane buffers nothing, so that it can always take as much.
fn advertised(windows: Windows, rcv_nxt: Seq, scale: u8) -> u16 {
    let left = windows.rcv_wnd.saturating_sub(rcv_nxt.since(windows.rcv_wup));
    let units = (u64::from(left) + (1 << scale) - 1) >> scale;
    u16::try_from(units).unwrap_or(u16::MAX)
}

/// Our window as the client knows it, from `acked` on. Until the lane's first packet, the client knows the socket's
/// last word, which `advertised` has taken from `rcv_nxt` on.
fn offered(lane: &Lane) -> u32 {
    let window = u32::from(lane.receiving.advertised) << lane.receiving.own_scale;
    let has_spoken = lane.sending.packets > 0;
    window + if has_spoken { 0 } else { lane.receiving.rcv_nxt.since(lane.sending.acked) }
}

fn is_link_local(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.ip().is_unicast_link_local())
}

/// An address as lanes hold it: IPv4 as v4-mapped IPv6.
#[must_use]
pub fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn address(bytes: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(bytes).to_canonical(), port)
}

fn ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_connection(local: &str, peer: &str) -> Connection {
        Connection {
            local: local.parse().unwrap(),
            peer: peer.parse().unwrap(),
            snd_una: Seq(7),
            snd_nxt: Seq(7),
            rcv_nxt: Seq(u32::MAX),
            windows: Windows {
                snd_wl1: Seq(u32::MAX),
                snd_wnd: 64_000,
                max_window: 65_000,
                rcv_wnd: 500 << 7,
                rcv_wup: Seq(u32::MAX),
            },
            mss_bytes: 1_448,
            mss_limit_bytes: 1_460,
            window_scales: Some(WindowScales { send: 6, receive: 7 }),
            sack: true,
            timestamps: Some(Timestamps { offset: 99, unit: TimestampUnit::Millisecond }),
            cwnd_bytes: 14_480,
            smoothed_rtt: Some(Duration::from_millis(40)),
        }
    }

    fn path(address: &str, port: u16) -> Path {
        let address: IpAddr = address.parse().unwrap();
        let flags = if address.is_ipv6() { Path::IPV6 } else { 0 };
        Path { blade: bytes(address), blade_port: port, mtu: 1_500, flags, ..Path::default() }
    }

    const PLACE: Place = Place { path: 3, worker: 1, generation: 9, session: 5 };

    #[test]
    fn a_connection_comes_back_as_it_was() {
        for (local, peer, ip) in
            [("10.0.0.1:9001", "10.0.0.2:40000", "10.0.0.1"), ("[fd00::1]:9001", "[fd00::2]:40000", "fd00::1")]
        {
            let path = path(ip, 9_001);
            let mut before = some_connection(local, peer);
            if path.has(Path::IPV6) {
                before.mss_bytes = 1_428;
            }
            let without = Connection { window_scales: None, timestamps: None, smoothed_rtt: None, ..before.clone() };
            let unscaled = Windows { rcv_wnd: 500, ..without.windows };
            // Lowered before the client was told that its last 384 bytes have come.
            let owed = Windows { rcv_wup: Seq(u32::MAX - 384), rcv_wnd: 500 * 128 + 384, ..before.windows };
            let owing = Connection { windows: owed, ..before.clone() };
            for before in [before, Connection { windows: unscaled, ..without }, owing] {
                let (lane, kept) = lane(&before, &path, PLACE).unwrap();
                assert!(lane.sending.has(Sending::USED | Sending::HELD));
                assert_eq!(connection(&lane, &path, kept), before);
            }
        }
    }

    #[test]
    fn a_connection_that_a_lane_cannot_go_on_with_says_why() {
        let good = some_connection("10.0.0.1:9001", "10.0.0.2:40000");
        let path = path("10.0.0.1", 9_001);
        let why = |connection: &Connection, path: &Path| lane(connection, path, PLACE).unwrap_err();
        assert_eq!(why(&good, &Path { blade_port: 9_002, ..path }), Unfit::OtherPath);
        assert_eq!(why(&good, &super::tests::path("10.0.0.3", 9_001)), Unfit::OtherPath);
        assert_eq!(why(&Connection { snd_nxt: Seq(8), ..good.clone() }, &path), Unfit::InFlight);
        assert_eq!(why(&good, &Path { mtu: 52, ..path }), Unfit::Mtu);
        let micro = Some(Timestamps { offset: 1, unit: TimestampUnit::Microsecond });
        assert_eq!(why(&Connection { timestamps: micro, ..good.clone() }, &path), Unfit::Microseconds);
        let scoped = some_connection("[fe80::1%3]:9001", "[fe80::2%3]:40000");
        assert_eq!(why(&scoped, &super::tests::path("fe80::1", 9_001)), Unfit::LinkLocal);
        // A narrower path than the socket knew of.
        let (lane, _) = lane(&good, &Path { mtu: 1_000, ..path }, PLACE).unwrap();
        assert_eq!(lane.sending.mss, 1_000 - 20 - 20 - 12);
    }

    #[test]
    fn the_right_edge_of_our_window_does_not_move_left() {
        let windows =
            |rcv_wnd, rcv_wup| Windows { snd_wl1: Seq(0), snd_wnd: 1, max_window: 1, rcv_wnd, rcv_wup: Seq(rcv_wup) };
        assert_eq!(advertised(windows(1_000, 100), Seq(100), 0), 1_000);
        assert_eq!(advertised(windows(1_000, 100), Seq(400), 0), 700);
        assert_eq!(advertised(windows(1_000, 100), Seq(400), 7), 6, "700 bytes are more than five units of 128");
        assert_eq!(advertised(windows(1_000, 100), Seq(1_200), 7), 0);
        assert_eq!(advertised(windows(u32::MAX, 0), Seq(0), 0), u16::MAX);
    }
}
