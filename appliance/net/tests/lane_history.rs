//! What lanes have in flight is found, byte by byte, until it is acknowledged or the lane is raised.
#![expect(unsafe_code, reason = "pushes slices of local buffers")]

use std::collections::BTreeSet;

use fanblade_abi::lane::send::Item;
use fanblade_abi::lane::{Lane, Reason, Sending, Seq};
use fanblade_net::IoSlices;
use fanblade_net::lanes::history::{History, LOOK_NS, Overtaken};
use fanblade_net::lanes::shared::Shared;
use fanblade_net::lanes::staging::{Full, Staging};
use proptest::prelude::*;

/// A worker with lanes, and the sending program, in a few lines.
struct World {
    lanes: Shared<Lane>,
    newest: Vec<u32>,
    staging: Staging,
    history: History,
    /// What each lane has sent since its start.
    sent: Vec<Vec<u8>>,
    now_ns: u64,
    raised: BTreeSet<u32>,
    next_byte: u8,
    refused: u32,
}

const LANES: usize = 4;
const FIRST: Seq = Seq(u32::MAX - 2_000);

impl World {
    fn new(items: usize, words: usize) -> World {
        World::beginning_at(items, words, 0)
    }

    fn beginning_at(items: usize, words: usize, place: u32) -> World {
        let mut lanes = Shared::<Lane>::owned(LANES);
        for at in 0..LANES {
            lanes.set(at, lane(0));
        }
        World {
            lanes,
            newest: vec![Item::NONE; LANES],
            staging: Staging::new(Shared::owned(words)),
            history: History::beginning_at(Shared::owned(items), place),
            sent: vec![Vec::new(); LANES],
            now_ns: 1,
            raised: BTreeSet::new(),
            next_byte: 0,
            refused: 0,
        }
    }

    /// One list of `pieces` slices, to some lanes.
    fn send(&mut self, to: &[usize], lens: &[usize]) {
        let bytes: Vec<Vec<u8>> = lens.iter().map(|len| self.fresh(*len)).collect();
        let mut slices = IoSlices::new();
        for piece in &bytes {
            // SAFETY: `bytes` outlives the sends of this function, which are the only ones.
            assert!(unsafe { slices.push(piece.as_ptr(), piece.len()) });
        }
        for &to in to {
            let Ok(packets) = self.staging.stage(&slices, 1_000) else {
                self.refused += 1;
                continue;
            };
            let lane = self.lanes.get(to);
            let (mut seq, mut places) = (lane.sending.snd_nxt, Vec::new());
            for packet in packets {
                let item = Item {
                    lane: u32::try_from(to).unwrap(),
                    slot: packet.slot,
                    seq,
                    previous: self.newest[to],
                    len: packet.len,
                    sum: packet.sum,
                    generation: lane.sending.generation,
                    outcome: Item::WAITING,
                };
                let Some(place) = self.history.push(item) else {
                    self.refused += 1;
                    break;
                };
                self.newest[to] = place;
                places.push(place);
                seq = seq.plus(u32::from(packet.len));
            }
            self.run(to, &places, &bytes.concat());
        }
        self.history.end_pass(self.staging.head(), self.now_ns);
        self.staging.end_pass();
    }

    /// What the sending program does with the newest items.
    fn run(&mut self, to: usize, places: &[u32], bytes: &[u8]) {
        let mut at = 0;
        for &place in places {
            let mut item = self.history.item(place);
            let mut lane = self.lanes.get(to);
            let len = usize::from(item.len);
            match lane.admit(item.generation, item.seq, u32::from(item.len)) {
                Ok(()) => {
                    lane.sent(lane.receiving.rcv_nxt, u32::from(item.len), 0);
                    self.lanes.set(to, lane);
                    self.sent[to].extend_from_slice(&bytes[at..at + len]);
                    item.outcome = Item::SENT;
                }
                Err(refusal) => item.outcome = refusal as u16,
            }
            self.history.set_outcome(place, item.outcome);
            at += len;
        }
    }

    fn fresh(&mut self, len: usize) -> Vec<u8> {
        let next = &mut self.next_byte;
        (0..len).map(|_| std::mem::replace(next, next.wrapping_add(1))).collect()
    }

    fn acknowledge(&mut self, at: usize, share: u32) {
        let mut lane = self.lanes.get(at);
        let open = lane.sending.snd_nxt.since(lane.receiving.snd_una);
        lane.receiving.snd_una = lane.receiving.snd_una.plus(open * share / 100);
        lane.receiving.advanced_ns = self.now_ns;
        self.lanes.set(at, lane);
    }

    fn look(&mut self) {
        let raised = &mut self.raised;
        self.history.look(self.now_ns, &self.lanes, &mut |lane, reason| {
            assert_eq!(reason, Reason::Timeout);
            raised.insert(lane);
        });
        for lane in std::mem::take(&mut self.raised) {
            self.check(lane as usize).expect("what is raised is still there");
            self.begin_anew(lane as usize);
        }
        if let Some(words) = self.history.release() {
            self.staging.release(words);
        }
    }

    /// All that a lane has in flight is there.
    fn check(&self, at: usize) -> Result<(), Overtaken> {
        let lane = self.lanes.get(at);
        let (una, nxt) = (lane.receiving.snd_una, lane.sending.snd_nxt);
        let mut found = Vec::new();
        for piece in self.history.in_flight(self.newest[at], una, nxt)? {
            let mut bytes = Vec::new();
            self.staging.copy_out(piece.slot, piece.len, &mut bytes);
            found.extend_from_slice(&bytes[usize::from(piece.skip)..]);
        }
        let begin = una.since(FIRST) as usize;
        assert_eq!(found, self.sent[at][begin..]);
        Ok(())
    }

    /// The lane goes to a socket, and another connection gets its place.
    fn begin_anew(&mut self, at: usize) {
        let generation = self.lanes.get(at).sending.generation.wrapping_add(1);
        self.lanes.set(at, lane(generation));
        self.newest[at] = Item::NONE;
        self.sent[at].clear();
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now_ns += ms * 1_000_000;
    }
}

fn lane(generation: u16) -> Lane {
    let mut lane = Lane::default();
    lane.sending.flags = Sending::USED;
    lane.sending.generation = generation;
    (lane.sending.mss, lane.sending.in_flight_max) = (1_000, 6_000);
    (lane.sending.snd_nxt, lane.receiving.snd_una) = (FIRST, FIRST);
    lane.receiving.window = 8_000;
    lane.receiving.srtt = 40 << 3;
    lane
}

#[derive(Clone, Debug)]
enum Step {
    Send(BTreeSet<usize>, Vec<usize>),
    Acknowledge(usize, u32),
    Pass(u64),
    Raise(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let to = prop::collection::btree_set(0..LANES, 1..LANES + 1);
    prop_oneof![
        5 => (to, prop::collection::vec(1_usize..1_500, 1..4)).prop_map(|(to, lens)| Step::Send(to, lens)),
        4 => (0..LANES, 0_u32..=100).prop_map(|(lane, share)| Step::Acknowledge(lane, share)),
        3 => (0_u64..150).prop_map(Step::Pass),
        1 => (0..LANES).prop_map(Step::Raise),
    ]
}

proptest! {
    /// After every step, and however small the rings are.
    #[test]
    fn what_is_in_flight_is_found(
        steps in prop::collection::vec(step(), 1..200),
        size in 0_usize..3,
        before_the_wrap in 0_u32..40,
    ) {
        let place = 0_u32.wrapping_sub(before_the_wrap);
        let mut world = World::beginning_at([16, 64, 1_024][size], [512, 2_048, 65_536][2 - size], place);
        for step in steps {
            match step {
                Step::Send(to, lens) => world.send(&to.into_iter().collect::<Vec<_>>(), &lens),
                Step::Acknowledge(lane, share) => world.acknowledge(lane, share),
                Step::Pass(ms) => world.pass_ms(ms),
                Step::Raise(lane) => world.begin_anew(lane),
            }
            world.look();
            for at in 0..LANES {
                prop_assert_eq!(world.check(at), Ok(()));
            }
        }
        // When all is acknowledged and old, nothing is kept.
        (0..LANES).for_each(|at| world.acknowledge(at, 100));
        world.pass_ms(10_000);
        world.look();
        prop_assert!(world.history.is_empty());
    }
}

#[test]
fn a_lane_is_raised_when_its_own_timeout_has_passed_since_its_last_progress() {
    let mut world = World::new(64, 4_096);
    // 40 ms of round trip, and Linux's 200 on top of it.
    world.send(&[0, 1, 2], &[100]);
    let mut slow = world.lanes.get(2);
    slow.receiving.srtt = 500 << 3;
    world.lanes.set(2, slow);
    world.pass_ms(150);
    world.send(&[1], &[100]);
    world.acknowledge(1, 50);
    let mut raised_at = [0; 3];
    for ms in 151..2_000 {
        world.pass_ms(1);
        world.history.look(world.now_ns, &world.lanes, &mut |lane, _| {
            let at = &mut raised_at[lane as usize];
            *at = if *at == 0 { ms } else { *at };
        });
    }
    // Looked at 200 ms after it was sent, then every 50 ms.
    assert!((240..=290).contains(&raised_at[0]), "{raised_at:?}");
    assert!((390..=440).contains(&raised_at[1]), "{raised_at:?}");
    assert!((700..=750).contains(&raised_at[2]), "{raised_at:?}");
    assert!(world.check(0).is_ok() && !world.history.is_empty(), "kept until the lane is raised");
}

#[test]
fn a_ring_that_is_half_full_is_released_as_soon_as_all_is_acknowledged() {
    let mut world = World::new(8, 4_096);
    (0..4).for_each(|_| world.send(&[0], &[10]));
    world.acknowledge(0, 100);
    world.look();
    assert_eq!(world.history.len(), 4, "not old enough to be looked at, and nobody needs the room");
    (0..4).for_each(|_| world.send(&[0], &[10]));
    world.send(&[1], &[10]);
    assert_eq!((world.history.len(), world.refused), (8, 1));
    world.acknowledge(0, 100);
    world.look();
    world.send(&[1], &[10]);
    assert_eq!((world.refused, world.sent[1].len()), (1, 10));
}

#[test]
fn a_lane_that_holds_a_ring_up_is_raised_whatever_its_own_timeout() {
    for (others, is_raised) in [(1, false), (6, true)] {
        let mut world = World::new(8, 4_096);
        // A minute of round trip, or so its client says; and a byte is acknowledged now and then.
        let mut slow = world.lanes.get(3);
        slow.receiving.srtt = 60_000 << 3;
        world.lanes.set(3, slow);
        world.send(&[3], &[1_000]);
        (0..others).for_each(|_| world.send(&[0], &[10]));
        let mut raised = BTreeSet::new();
        for _ in 0..30 {
            world.pass_ms(100);
            world.acknowledge(0, 100);
            world.acknowledge(3, 1);
            world.history.look(world.now_ns, &world.lanes, &mut |lane, _| {
                raised.insert(lane);
            });
        }
        assert_eq!(raised.contains(&3), is_raised, "{others} others");
        assert!(!raised.contains(&0));
    }
}

#[test]
fn a_list_that_finds_no_room_leaves_nothing_behind() {
    // 16 blocks of 64 bytes.
    let mut world = World::new(64, 128);
    world.send(&[0], &[7 * 64]);
    let head = world.staging.head();
    (0..3).for_each(|_| world.send(&[1], &[10 * 64]));
    assert_eq!((world.refused, world.staging.head()), (3, head));
    world.acknowledge(0, 100);
    world.pass_ms(LOOK_NS / 1_000_000);
    world.look();
    world.send(&[1], &[9 * 64]);
    assert_eq!((world.refused, world.sent[1].len()), (3, 9 * 64));
}

#[test]
fn a_list_is_staged_once_for_all_and_again_when_its_memory_may_have_changed() {
    let mut staging = Staging::new(Shared::owned(1_024));
    let bytes = [7; 2_500];
    let mut slices = IoSlices::new();
    // SAFETY: `bytes` outlives the calls below.
    assert!(unsafe { slices.push(bytes.as_ptr(), bytes.len()) });
    let lens = |packets: &[fanblade_net::lanes::staging::Packet]| packets.iter().map(|it| it.len).collect::<Vec<_>>();
    assert_eq!(lens(staging.stage(&slices, 1_000).unwrap()), [1_000, 1_000, 500]);
    let head = staging.head();
    assert_eq!(lens(staging.stage(&slices, 1_000).unwrap()), [1_000, 1_000, 500]);
    assert_eq!(staging.head(), head, "the second lane costs nothing");
    // For lanes whose packets are shorter it is cut anew.
    assert_eq!(lens(staging.stage(&slices, 2_000).unwrap()), [2_000, 500]);
    assert!(staging.head() > head);
    let head = staging.head();
    staging.end_pass();
    assert_eq!(lens(staging.stage(&slices, 2_000).unwrap()), [2_000, 500]);
    assert!(staging.head() > head);
    // 1,024 words: no room for all of it once more, and none of it is overwritten.
    let before = staging.head();
    staging.end_pass();
    assert_eq!(staging.stage(&slices, 1_000), Err(Full));
    staging.release(before);
    assert!(staging.stage(&slices, 1_000).is_ok());
}
