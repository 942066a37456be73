//! The program that makes a lane's packets: every packet and every refusal, compared with the host's.

mod common;

use common::is_privileged;
use common::lane::{INDEX, INTERFACE, Kind, NOW_MS, XDP_DROP, XDP_REDIRECT, lane_frame, load, place, verdict_since};
use fanblade_steer::SteerError;
use fanblade_steer::abi::lane::work::{PAYLOAD_LEN_MAX, SLOTS_LEN, TEMPLATE_LEN};
use fanblade_steer::abi::lane::{Item, Lane, LaneHook, LaneVerdict, Refusal, Sending, Seq, checksum, send};
use fanblade_steer::lanes::{BATCH_MAX, LaneOptions, LaneRun, Lanes, PATHS_MAX, TEMPLATE, memory};

#[test]
fn packets_are_byte_for_byte_those_of_the_host() {
    if !is_privileged("packets_are_byte_for_byte_those_of_the_host") {
        return;
    }
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    // A neighbour on either side, which nobody may touch.
    let neighbour = Lane { sending: Sending { session: u64::MAX, ..Sending::default() }, ..Lane::default() };
    lanes.set_lane(INDEX - 1, &neighbour).unwrap();
    lanes.set_lane(INDEX + 1, &neighbour).unwrap();
    for kind in Kind::all() {
        place(&mut lanes, kind);
        let (mut host, path) = (kind.lane(), kind.path());
        for (round, len) in (0..).zip([0, 1, 7, 8, 63, 64, 65, 511, 512, 1_024, 1_447, 1_448]) {
            let slot = 1_000 * round + 3;
            let (payload, item) = staged(&mut lanes, len, slot);
            let item = Item { seq: host.sending.snd_nxt, ..item };
            let (frame, told) = lane_frame(&host, &path, &payload, NOW_MS);
            host.sent(told, u32::from(item.len), send::packet_len(&path, &host.sending, u32::from(item.len)));

            // Around the end of the ring, and of the numbers of its places.
            let place = (u32::MAX - 5).wrapping_add(round);
            lanes.set_item(place, &item);
            let run = lanes.try_send(INTERFACE, place, &TEMPLATE).unwrap();
            assert_eq!((run.action, run.frame), (XDP_REDIRECT, frame), "{len} bytes, {kind:?}");
            assert_eq!(lanes.lane(INDEX).unwrap(), host, "{len} bytes, {kind:?}");
            assert_eq!(lanes.item(place), Item { outcome: Item::SENT, ..item });
            assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::SendSent);
        }
    }
    assert_eq!([INDEX - 1, INDEX + 1].map(|index| lanes.lane(index).unwrap()), [neighbour; 2]);
}

#[test]
fn the_longest_payload_up_to_the_end_of_the_slots_goes_out_whole() {
    if !is_privileged("the_longest_payload_up_to_the_end_of_the_slots_goes_out_whole") {
        return;
    }
    let mut lanes = load();
    let kind = Kind { has_timestamps: false, ..Kind::PLAIN };
    place(&mut lanes, kind);
    let mut host = kind.lane();
    host.sending.mss = 1_460;
    lanes.set_lane(INDEX, &host).unwrap();
    let (payload, item) = staged(&mut lanes, PAYLOAD_LEN_MAX as usize, LAST_SLOT - 182);
    let (frame, _told) = lane_frame(&host, &kind.path(), &payload, NOW_MS);
    assert_eq!(sends(&mut lanes, &item).unwrap().frame, frame);
    let (payload, item) = staged(&mut lanes, 8, LAST_SLOT);
    let host = lanes.lane(INDEX).unwrap();
    let (frame, _told) = lane_frame(&host, &kind.path(), &payload, NOW_MS);
    let item = Item { seq: host.sending.snd_nxt, ..item };
    assert_eq!(sends(&mut lanes, &item).unwrap().frame, frame);
}

#[test]
fn what_may_not_be_sent_is_refused_by_name_and_changes_nothing() {
    if !is_privileged("what_may_not_be_sent_is_refused_by_name_and_changes_nothing") {
        return;
    }
    type Change = fn(&mut Lane, &mut Item);
    let cases: [(&str, Change, Refusal, LaneVerdict); 17] = [
        ("no such lane", |_, item| item.lane = u32::MAX, Refusal::Gone, LaneVerdict::SendGone),
        ("not in use", |lane, _| lane.sending.flags = 0, Refusal::Gone, LaneVerdict::SendGone),
        ("another's by now", |_, item| item.generation = 10, Refusal::Gone, LaneVerdict::SendGone),
        ("held", |lane, _| lane.sending.flags |= Sending::HELD, Refusal::Held, LaneVerdict::SendHeld),
        ("to be raised", |lane, _| lane.receiving.raised = 3, Refusal::Held, LaneVerdict::SendHeld),
        ("window", |lane, _| lane.receiving.window = 811, Refusal::Window, LaneVerdict::SendWindow),
        ("in flight", |lane, _| lane.sending.in_flight_max = 811, Refusal::InFlight, LaneVerdict::SendInFlight),
        ("window wraps", wrapped, Refusal::Window, LaneVerdict::SendWindow),
        ("longer than the mss", |lane, _| lane.sending.mss = 511, Refusal::TooLong, LaneVerdict::SendTooLong),
        ("longer than any", too_long, Refusal::TooLong, LaneVerdict::SendTooLong),
        ("longest number", longest, Refusal::TooLong, LaneVerdict::SendTooLong),
        ("not its turn", |_, item| item.seq = Seq(1_301), Refusal::OutOfTurn, LaneVerdict::SendOutOfTurn),
        ("sent already", |_, item| item.seq = Seq(1_299), Refusal::OutOfTurn, LaneVerdict::SendOutOfTurn),
        ("no such path", |lane, _| lane.sending.path = u16::MAX, Refusal::Failed, LaneVerdict::SendNoPath),
        ("empty path", |lane, _| lane.sending.path = 1, Refusal::Failed, LaneVerdict::SendOtherInterface),
        ("no such slot", |_, item| item.slot = u32::MAX, Refusal::Failed, LaneVerdict::SendNoSlot),
        ("behind the last slot", |_, item| item.slot = LAST_SLOT + 1, Refusal::Failed, LaneVerdict::SendNoSlot),
    ];
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    place(&mut lanes, Kind::PLAIN);
    let (_payload, good) = staged(&mut lanes, 512, 0);
    for (name, change, refusal, verdict) in cases {
        let (mut lane, mut item) = (Kind::PLAIN.lane(), good);
        change(&mut lane, &mut item);
        lanes.set_lane(INDEX, &lane).unwrap();
        let run = sends(&mut lanes, &item).unwrap();
        assert_eq!(run.action, XDP_DROP, "{name}");
        assert_eq!(lanes.item(0), Item { outcome: refusal as u16, ..item }, "{name}");
        assert_eq!(verdict_since(&lanes, &mut verdicts), verdict, "{name}");
        assert_eq!(lanes.lane(INDEX).unwrap(), lane, "{name}");
    }
    let lane = Kind::PLAIN.lane();
    lanes.set_lane(INDEX, &lane).unwrap();

    // A template that is a byte too short.
    lanes.set_item(0, &good);
    let run = lanes.try_send(INTERFACE, 0, &TEMPLATE[1..]).unwrap();
    assert_eq!((run.action, lanes.item(0).outcome), (XDP_DROP, Refusal::Failed as u16));
    assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::SendFailed);
    assert_eq!(lanes.lane(INDEX).unwrap(), lane);
    // Another run, when all items are done.
    let run = lanes.run(LaneHook::Send, &TEMPLATE, 1).unwrap();
    assert_eq!((run.action, run.frame.len()), (XDP_DROP, TEMPLATE_LEN));
    assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::SendNoWork);

    // At the very edge of the window and of what may be in flight it goes.
    let mut lane = lane;
    (lane.receiving.window, lane.sending.in_flight_max) = (812, 812);
    lanes.set_lane(INDEX, &lane).unwrap();
    assert_eq!(sends(&mut lanes, &good).unwrap().action, XDP_REDIRECT);
    assert_eq!(lanes.lane(INDEX).unwrap().sending.snd_nxt, Seq(1_812));
}

fn wrapped(lane: &mut Lane, item: &mut Item) {
    lane.receiving.snd_una = Seq(u32::MAX - 99);
    (lane.sending.snd_nxt, item.seq) = (Seq(200), Seq(200));
    lane.receiving.window = 811;
}

fn too_long(lane: &mut Lane, item: &mut Item) {
    lane.sending.mss = 9_000;
    item.len = 1_461;
}

fn longest(lane: &mut Lane, item: &mut Item) {
    lane.sending.mss = u16::MAX;
    (lane.receiving.window, lane.sending.in_flight_max) = (1 << 30, 1 << 30);
    item.len = u16::MAX;
}

#[test]
fn an_acknowledgement_goes_where_the_window_is_shut_and_slots_do_not_matter() {
    if !is_privileged("an_acknowledgement_goes_where_the_window_is_shut_and_slots_do_not_matter") {
        return;
    }
    let mut lanes = load();
    place(&mut lanes, Kind::PLAIN);
    let mut lane = Kind::PLAIN.lane();
    (lane.receiving.window, lane.sending.in_flight_max) = (0, 0);
    lanes.set_lane(INDEX, &lane).unwrap();
    let item = Item { lane: INDEX, generation: 9, ..Item::default() };
    let (frame, _told) = lane_frame(&lane, &Kind::PLAIN.path(), &[], NOW_MS);
    let run = sends(&mut lanes, &item).unwrap();
    assert_eq!((run.action, run.frame), (XDP_REDIRECT, frame));
}

#[test]
fn the_predicted_memory_is_what_the_kernel_takes() {
    if !is_privileged("the_predicted_memory_is_what_the_kernel_takes") {
        return;
    }
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let cpus = cpus.trim().rsplit('-').next().unwrap().parse::<u64>().unwrap() + 1;
    for lanes_max in [1, 1_000, 300_000] {
        let options = LaneOptions { lanes_max, ..LaneOptions::default() };
        let (predicted, taken) = (memory(lanes_max, cpus), Lanes::load(&options).unwrap().memory());
        // A hundredth, and the small maps.
        assert!(
            predicted.abs_diff(taken) < taken / 100 + 100_000,
            "{lanes_max} lanes: {predicted}, the kernel {taken}"
        );
    }
}

#[test]
fn options_and_places_beyond_the_limits_are_refused_with_the_limit() {
    if !is_privileged("options_and_places_beyond_the_limits_are_refused_with_the_limit") {
        return;
    }
    let error = |options: LaneOptions| Lanes::load(&options).err().unwrap().to_string();
    assert_eq!(error(LaneOptions { lanes_max: 0, ..LaneOptions::default() }), "lanes_max is 0, must be 1 to 16777216");
    let batch = BATCH_MAX + 1;
    assert_eq!(error(LaneOptions { batch, ..LaneOptions::default() }), "batch is 257, must be 1 to 256");
    let mut lanes = load();
    let error = lanes.set_lane(64, &Lane::default()).unwrap_err();
    assert_eq!(error.to_string(), "lane is 64, must be less than 64");
    assert!(lanes.hold(64).is_err() && lanes.release(64).is_err() && lanes.lane(64).is_none());
    assert!(lanes.set_path(64.max(PATHS_MAX), &Kind::PLAIN.path()).is_err());
    assert!(lanes.stage(SLOTS_LEN - 1, &[1, 2]).is_err() && lanes.stage(usize::MAX, &[1]).is_err());
    let error = lanes.send(1, 0, 4_097).unwrap_err();
    assert_eq!(error.to_string(), "number of items is 4097, must be at most 4096");
}

/// Puts a payload into a slot, and returns it with its item.
fn staged(lanes: &mut Lanes, len: usize, slot: u32) -> (Vec<u8>, Item) {
    let payload: Vec<u8> = (0..len).map(|at| (at * 7 + len + slot as usize).to_le_bytes()[0]).collect();
    lanes.stage(slot as usize * send::SLOT_UNIT as usize, &payload).unwrap();
    let sum = checksum::fold(checksum::sum(&payload));
    let len = u16::try_from(len).unwrap();
    (payload, Item { lane: INDEX, slot, seq: Seq(1_300), len, sum, generation: 9, ..Item::default() })
}

/// Runs the program over an item.
fn sends(lanes: &mut Lanes, item: &Item) -> Result<LaneRun, SteerError> {
    lanes.set_item(0, item);
    lanes.try_send(INTERFACE, 0, &TEMPLATE)
}

const LAST_SLOT: u32 = 16 * 1_024 * 1_024 / send::SLOT_UNIT - 1;
const _: () = assert!((LAST_SLOT as usize + 1) * send::SLOT_UNIT as usize == SLOTS_LEN);
