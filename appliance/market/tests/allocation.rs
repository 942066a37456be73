//! Once everything has reached its size, a message allocates nothing on its whole way: packet, book, encodings, ring.

mod common;

use common::{MIDNIGHT_UNIX_NS, binary_file, synthetic};
use fanblade_feed::Event;
use fanblade_feed::moldudp64::{InOrder, PacketBuilder, Start};
use fanblade_market::{Encoder, Market};
use fanblade_ring::{RingConfig, UnixNs, Writer, pair};
use fanblade_testkit::allocations::{self, Counting};

#[test]
fn a_message_allocates_nothing_after_warm_up() {
    let bytes = synthetic(3, 50, 2000, 30_000);
    let mut builder = PacketBuilder::new(*b"ALLOCATION", 1, 1_400);
    let mut passes = [const { Vec::new() }; 3];
    for packets in &mut passes {
        for message in binary_file(&bytes) {
            if !builder.push(message) {
                packets.push(builder.finish().to_vec());
                builder.reset();
                assert!(builder.push(message));
            }
        }
        packets.push(builder.finish().to_vec());
        builder.reset();
    }

    let lane_len = [1 << 20, 1 << 19, 0, 0];
    let config = RingConfig { index_len: 1 << 12, lane_len, subjects_max: 1 << 9, checksums: false };
    let mut writer = Writer::create(&config, "allocation-1").unwrap();
    let (waker, _sleeper) = pair().unwrap();
    writer.add_waker(waker);
    let mut in_order = InOrder::new(Start::Beginning);
    let mut market = Market::with_orders_max("X", MIDNIGHT_UNIX_NS, 1 << 15);
    let mut encoder = Encoder::new();
    let mut pass = |packets: &[Vec<u8>]| {
        let (allocations, frames) = (allocations::count(), writer.stats().published);
        for packet in packets {
            in_order.accept(packet, UnixNs(0), |event| {
                if let Event::Message { seq, bytes, .. } = event {
                    let applied = market.apply(seq, bytes, &mut |update| {
                        encoder.append(update, UnixNs(0), &mut writer).unwrap();
                    });
                    assert!(applied.is_ok());
                }
            });
            writer.wake();
        }
        (allocations::count() - allocations, writer.stats().published - frames)
    };
    // The counter counts: books have to grow.
    assert!(pass(&passes[0]).0 > 0);
    // The second pass starts with the orders that the first one left. So does the third: it takes the same way.
    pass(&passes[1]);
    let (allocations, frames) = pass(&passes[2]);
    assert!(frames > 10_000, "{frames}");
    assert_eq!(allocations, 0);
}

#[global_allocator]
static COUNTING: Counting = Counting;
