//! Public sample days, as far as they are at hand.

mod common;

use std::collections::HashMap;

use common::{Bench, MIDNIGHT_UNIX_NS, binary_file};
use fanblade_market::{Channel, Market, Skipped, TradingState};
use fanblade_testkit::data;

fn play(path: &str) -> Option<(Bench, HashMap<String, usize>)> {
    let bytes = std::fs::read(data::real(path)?).expect("readable");
    let mut bench = Bench::of(Market::new("NASDAQ", MIDNIGHT_UNIX_NS));
    let mut published = HashMap::new();
    for message in binary_file(&bytes) {
        for update in bench.apply(message) {
            *published.entry(update.subject).or_default() += 1;
        }
    }
    Some((bench, published))
}

/// Counts by type as `A 367, F 193`.
fn assert_messages(market: &Market, expected: &str) {
    let mut total = 0;
    for entry in expected.split(", ") {
        let (kind, count) = entry.split_once(' ').expect("type and count");
        let count: u64 = count.parse().expect("a count");
        assert_eq!(market.counters().messages(kind.as_bytes()[0]), count, "{kind}");
        total += count;
    }
    assert_eq!(market.counters().messages_total(), total);
    assert_eq!(market.counters().malformed, 0);
}

#[test]
fn head_of_a_day_gives_all_instruments_and_their_states() {
    let Some((bench, published)) = play("itch50/01302019_head_1MiB.NASDAQ_ITCH50") else { return };
    assert_messages(&bench.market, "S 1, R 8713, H 8707, Y 8707, L 9453");
    assert_eq!((bench.market.instruments_len(), bench.market.instruments().count()), (8713, 8713));
    assert_eq!(bench.market.counters().updates(Channel::Status), 8707);
    // The first MiB ends before six instruments have been told theirs.
    let mut states = HashMap::new();
    for instrument in bench.market.instruments() {
        *states.entry(instrument.status().map(|status| status.state as u8)).or_insert(0) += 1;
    }
    let expected = [(Some(TradingState::Trading as u8), 8706), (Some(TradingState::Halted as u8), 1), (None, 6)];
    assert_eq!(states, HashMap::from(expected));
    assert_eq!(published["/NASDAQ/AAPL/status"], 1);
    // Symbols that hold a pattern's letter are still subjects, which can be asked for by name.
    assert_eq!(published["/NASDAQ/C-L~2A/status"], 1);
}

#[test]
fn open_joined_late_counts_what_it_cannot_know() {
    let Some((bench, published)) = play("itch50/12302019_open_1000msgs.NASDAQ_ITCH50") else { return };
    let counters = bench.market.counters();
    assert_messages(&bench.market, "A 367, F 193, U 225, D 167, E 28, X 6, C 1, P 4, Q 4, I 4, S 1");
    // Of 427 messages that name orders 394 name one from before the file; 5 more name what replaced one of those.
    assert_eq!(counters.skipped(Skipped::UnknownReference), 394 + 5);
    // Two of the four crosses had nothing to cross.
    assert_eq!(counters.skipped(Skipped::CrossEmpty), 2);
    let skipped: u64 = Skipped::ALL.iter().map(|&reason| counters.skipped(reason)).sum();
    assert_eq!(skipped, 394 + 5 + 2);
    assert_eq!(counters.updates(Channel::Imbalance), 4);
    assert_eq!(published["/NASDAQ/ROKU/trade"], 1);
}
