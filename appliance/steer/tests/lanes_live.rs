//! Packets of lanes over a cable: those of one blade to another, whose lanes take them. What arrives and what the log
//! says was lost must be everything, packet by packet.

mod common;

use common::is_privileged;
use common::lane::{CLIENT_PORT, Kind};
use fanblade_steer::abi::FlowKey;
use fanblade_steer::abi::lane::{Item, Lane, Path, Receiving, Record, Sending, Seq, checksum};
use fanblade_steer::lanes::{LaneOptions, Lanes, Sent};
use fanblade_testkit::{Namespace, ip, until, until_up};

use common::PORT;

const LANES: u32 = 1_000;
const LEN: usize = 512;
/// Rounds go across the end of the ring of items, which has 4,096 places.
const FIRST_PLACE: u32 = 3_500;
/// ENXIO: the other end of the cable takes no frames.
const NO_SUCH_DEVICE: i32 = -6;

#[test]
fn a_thousand_packets_arrive_whole_or_are_in_the_log() {
    if !is_privileged("a_thousand_packets_arrive_whole_or_are_in_the_log") {
        return;
    }
    Namespace::new().run(|| {
        let mut cable = Cable::new(64);
        for round in 0..5 {
            let (sent, lost) = cable.send_round(round);
            assert_eq!((sent.frames, sent.unknown), (LANES, 0));
            println!("round {round}: {lost} lost");
        }
    });
}

#[test]
fn what_a_full_device_does_not_take_is_logged_packet_by_packet() {
    if !is_privileged("what_a_full_device_does_not_take_is_logged_packet_by_packet") {
        return;
    }
    Namespace::new().run(|| {
        // A veth has room for about 250 frames, and a batch has 256.
        let mut cable = Cable::new(256);
        let mut lost_in_all = 0;
        for round in 0..30 {
            let (sent, lost) = cable.send_round(round);
            assert_eq!((sent.frames, sent.unknown, sent.error), (LANES, 0, 0));
            lost_in_all += lost;
        }
        println!("{lost_in_all} of {} lost", 30 * LANES);
        assert!(lost_in_all > 0);
        // What others lose is in nobody's log but theirs. The peer sends nothing, but listens, too.
        cable.peer.attach_drops().unwrap();
        assert!((0..100).any(|round| cable.send_round(round).1 > 0));
        assert_eq!(cable.peer.sent(), Sent { frames: 0, lost: 0, unknown: 0, error: 0 });
    });
}

#[test]
fn refused_items_between_others_do_not_shift_the_log() {
    if !is_privileged("refused_items_between_others_do_not_shift_the_log") {
        return;
    }
    Namespace::new().run(|| {
        let mut cable = Cable::new(256);
        let first = cable.prepare(3);
        for place in (first..first + LANES).step_by(3) {
            let item = Item { generation: 2, ..cable.blade.item(place) };
            cable.blade.set_item(place, &item);
        }
        let sent = cable.blade.send(cable.interface, first, LANES).unwrap();
        assert_eq!((sent.frames, sent.unknown), (LANES - LANES.div_ceil(3), 0));
        cable.compare(&sent, |lane| lane % 3 != 0);
    });
}

#[test]
fn a_peer_that_is_down_loses_all_with_its_error_and_a_device_that_is_down_says_nothing() {
    if !is_privileged("a_peer_that_is_down_loses_all_with_its_error_and_a_device_that_is_down_says_nothing") {
        return;
    }
    Namespace::new().run(|| {
        let mut cable = Cable::new(64);
        let first = cable.prepare(0);
        ip(&["link", "set", "vb", "down"]);
        let sent = cable.blade.send(cable.interface, first, LANES).unwrap();
        assert_eq!(sent, Sent { frames: LANES, lost: LANES, unknown: 0, error: NO_SUCH_DEVICE });
        assert!(cable.blade.lost().eq(first..first + LANES));

        let first = cable.prepare(1);
        ip(&["link", "set", "va", "down"]);
        let sent = cable.blade.send(cable.interface, first, LANES).unwrap();
        assert_eq!(sent, Sent { frames: LANES, lost: 0, unknown: LANES, error: 0 });
        assert_eq!(cable.blade.lost().count(), 0);
        // A list that is empty costs no call.
        let nothing = Sent { frames: 0, lost: 0, unknown: 0, error: 0 };
        assert_eq!(cable.blade.send(cable.interface, first, 0).unwrap(), nothing);
    });
}

/// Two blades with a cable between them: each lane of the one is the client of a lane of the other.
struct Cable {
    blade: Lanes,
    peer: Lanes,
    interface: u32,
}

impl Cable {
    fn new(batch: u32) -> Cable {
        ip(&["link", "add", "va", "type", "veth", "peer", "name", "vb"]);
        ip(&["link", "add", "spare", "type", "veth", "peer", "name", "other"]);
        for end in ["va", "vb"] {
            ip(&["link", "set", end, "addrgenmode", "none", "up"]);
        }
        for end in ["va", "vb"] {
            until_up(end);
        }
        let load = |port| {
            let options = LaneOptions { ports: vec![port], lanes_max: LANES, batch, ..LaneOptions::default() };
            Lanes::load(&options).unwrap()
        };
        let (mut blade, mut peer) = (load(PORT), load(CLIENT_PORT));
        blade.keep_ready("spare").unwrap();
        blade.attach_drops().unwrap();
        peer.attach_receive("vb").unwrap();
        for lane in 0..LANES {
            let path = Path { blade: client(lane), blade_port: CLIENT_PORT, ..Kind::PLAIN.path() };
            peer.set_path(lane, &path).unwrap();
            let flow =
                FlowKey { src: Kind::PLAIN.path().blade, dst: client(lane), src_port: PORT, dst_port: CLIENT_PORT };
            peer.enter(&flow, lane).unwrap();
        }
        let interface = nix::net::if_::if_nametoindex("va").unwrap();
        blade.set_path(0, &Path { interface, ..Kind::PLAIN.path() }).unwrap();
        Cable { blade, peer, interface }
    }

    /// Makes all lanes new, and a payload and an item for each. Returns the place of the first item.
    fn prepare(&mut self, round: u32) -> u32 {
        let first = FIRST_PLACE + round * LANES;
        for lane in 0..LANES {
            let blade = Kind::PLAIN.path().blade;
            let sum = checksum::sum_of_connection(&client(lane), &blade, CLIENT_PORT, PORT);
            let fresh = Kind::PLAIN.lane();
            let (seq, ack) = (Seq(lane * 77), Seq(5_000));
            let sending = Sending { client: client(lane), sum, snd_nxt: seq, generation: 1, ..fresh.sending };
            let receiving = Receiving { snd_una: seq, rcv_nxt: ack, ..fresh.receiving };
            self.blade.set_lane(lane, &Lane { sending, receiving }).unwrap();
            let path = u16::try_from(lane).unwrap();
            let sending = Sending { client: blade, client_port: PORT, path, snd_nxt: ack, ..sending };
            let receiving = Receiving { snd_una: ack, rcv_nxt: seq, has_ts_recent: 0, ..receiving };
            self.peer.set_lane(lane, &Lane { sending, receiving }).unwrap();

            let payload = payload(lane, round);
            self.blade.stage(lane as usize * LEN, &payload).unwrap();
            let (slot, len) = (lane * u32::try_from(LEN).unwrap() / 8, u16::try_from(LEN).unwrap());
            let sum = checksum::fold(checksum::sum(&payload));
            let item = Item { lane, slot, seq, len, sum, generation: 1, ..Item::default() };
            self.blade.set_item(first + lane, &item);
        }
        first
    }

    /// Sends a packet on each lane. Returns how many were lost.
    fn send_round(&mut self, round: u32) -> (Sent, u32) {
        let first = self.prepare(round);
        let sent = self.blade.send(self.interface, first, LANES).unwrap();
        self.compare(&sent, |_lane| true);
        let arrived = self.arrived(round);
        assert_eq!(arrived + sent.lost, LANES);
        (sent, sent.lost)
    }

    /// Each lane's packet is either in the log or at the peer.
    fn compare(&self, sent: &Sent, is_sent: impl Fn(u32) -> bool) {
        let packets = |lane| self.peer.lane(lane).unwrap().receiving.packets;
        let arrived = || (0..LANES).map(packets).sum::<u32>();
        until("the packets arrive", || (arrived() + sent.lost == sent.frames).then_some(()));
        let lost: Vec<u32> = self.blade.lost().map(|place| self.blade.item(place).lane).collect();
        assert_eq!(lost.len(), sent.lost as usize);
        for lane in 0..LANES {
            let is_lost = lost.binary_search(&lane).is_ok();
            assert_eq!(packets(lane), u32::from(is_sent(lane) && !is_lost), "lane {lane}, {lost:?}");
        }
    }

    /// Takes the peer's records: how many payloads have arrived.
    fn arrived(&mut self, round: u32) -> u32 {
        let mut arrived = 0;
        while let Some((record, bytes)) = self.peer.next_record(|record, bytes| (*record, bytes.to_vec())) {
            assert_eq!(record.kind, Record::DATA, "{record:?}");
            assert!(bytes == payload(record.lane, round), "{record:?}");
            arrived += 1;
        }
        arrived
    }
}

/// 10.64.0.0 and on.
fn client(lane: u32) -> [u8; 16] {
    let [.., high, low] = lane.to_be_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 64, high, low]
}

fn payload(lane: u32, round: u32) -> Vec<u8> {
    (0..LEN).map(|at| (at * 7 + lane as usize * 3 + round as usize).to_le_bytes()[0]).collect()
}
