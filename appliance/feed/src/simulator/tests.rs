//! A simulated market as its receivers see it.

use std::collections::{BTreeMap, HashMap};

use super::{ConfigError, Simulator, SimulatorConfig, write_binaryfile};
use crate::binaryfile::{Item, Reader};
use crate::itch::{Message, trim};
use crate::moldudp64::{Kind, Packet};

/// All messages of a day, with the time at which their packet was due.
fn for_each(config: &SimulatorConfig, mut sink: impl FnMut(u64, u64, &[u8])) {
    let mut simulator = Simulator::new(config).unwrap();
    let (mut next, mut last_due_ns, mut ended) = (1, config.start_ns, false);
    while let Some(due_ns) = simulator.advance() {
        assert!(!ended && due_ns >= last_due_ns);
        last_due_ns = due_ns;
        let packet = Packet::parse(simulator.packet()).unwrap();
        assert_eq!((packet.session(), packet.sequence()), (config.session, next));
        ended = packet.kind() == Kind::EndOfSession;
        for message in packet.messages() {
            let (seq, _, bytes) = message.unwrap();
            assert_eq!(seq, next);
            next += 1;
            sink(seq, due_ns, bytes);
        }
    }
    assert!(ended);
}

fn day(symbols: usize, messages: u64) -> SimulatorConfig {
    SimulatorConfig { symbols, messages_max: Some(messages), ..SimulatorConfig::default() }
}

#[test]
fn the_same_settings_give_the_same_packets() {
    let packets = |config: &SimulatorConfig| {
        let mut simulator = Simulator::new(config).unwrap();
        let mut all = Vec::new();
        while simulator.advance().is_some() {
            all.extend_from_slice(simulator.packet());
        }
        all
    };
    let config = day(100, 50_000);
    let one = packets(&config);
    assert!(one == packets(&config));
    assert!(one != packets(&SimulatorConfig { seed: 2, ..config }));
}

/// A book kept by other means than the simulator's.
#[derive(Default)]
struct Books {
    /// By reference: instrument, whether buying, price, shares.
    orders: HashMap<u64, (u16, bool, u32, u32)>,
    /// By instrument and side: how many orders at which price.
    levels: HashMap<(u16, bool), BTreeMap<u32, u32>>,
}

impl Books {
    fn add(&mut self, reference: u64, order: (u16, bool, u32, u32)) {
        assert!(order.2 > 0 && order.3 > 0, "an order has a price and shares");
        assert!(self.orders.insert(reference, order).is_none(), "a reference is used once");
        *self.levels.entry((order.0, order.1)).or_default().entry(order.2).or_default() += 1;
        let bid = self.levels.get(&(order.0, true)).and_then(|levels| levels.keys().next_back());
        let ask = self.levels.get(&(order.0, false)).and_then(|levels| levels.keys().next());
        if let (Some(bid), Some(ask)) = (bid, ask) {
            assert!(bid < ask, "bids stay below asks");
        }
    }

    /// Takes shares off an order, all if `shares` is none; tells its price, and whether it was the best of its side.
    fn reduce(&mut self, locate: u16, reference: u64, shares: Option<u32>) -> (u32, bool, bool) {
        let order = self.orders.get_mut(&reference).expect("a reference is known");
        assert_eq!(order.0, locate);
        order.3 = order.3.checked_sub(shares.unwrap_or(order.3)).expect("no more shares go than there are");
        let &mut (_, buying, price, left) = order;
        let levels = self.levels.get_mut(&(locate, buying)).unwrap();
        let best = if buying { levels.keys().next_back() } else { levels.keys().next() } == Some(&price);
        if left == 0 {
            self.orders.remove(&reference);
            let orders = levels.get_mut(&price).unwrap();
            *orders -= 1;
            if *orders == 0 {
                levels.remove(&price);
            }
        }
        (price, buying, best)
    }
}

/// Every message is one of ITCH; every reference is known, every instrument named; numbers and times rise; nothing
/// trades while halted; books stay uncrossed and bounded.
#[test]
fn the_market_obeys_the_rules_of_a_market() {
    let mut books = Books::default();
    let mut names: HashMap<u16, Vec<u8>> = HashMap::new();
    let mut states: HashMap<u16, u8> = HashMap::new();
    let mut matches = std::collections::HashSet::new();
    let mut kinds: BTreeMap<char, u64> = BTreeMap::new();
    let mut system = String::new();
    let mut per_instrument: HashMap<u16, u64> = HashMap::new();
    let (mut last_ns, mut opened_ns, mut total) = (0, 0, 0);
    let config = SimulatorConfig { burst_factor: 20, ..day(500, 600_000) };
    for_each(&config, |_, due_ns, bytes| {
        let message = Message::parse(bytes).unwrap();
        let header = message.header();
        let (locate, ns) = (header.locate.get(), header.timestamp.get());
        assert!(ns >= last_ns && ns <= due_ns && due_ns <= ns + 60_000);
        last_ns = ns;
        total += 1;
        *kinds.entry(char::from(header.kind)).or_default() += 1;
        let trading = states.get(&locate) == Some(&b'T');
        let named = |stock: &[u8; 8]| assert_eq!(names[&locate], trim(stock));
        match message {
            Message::SystemEvent(event) => {
                system.push(char::from(event.event));
                if event.event == b'Q' {
                    opened_ns = ns;
                }
            }
            Message::StockDirectory(directory) => {
                assert!(names.insert(locate, trim(&directory.stock).to_vec()).is_none());
            }
            Message::TradingAction(action) => {
                named(&action.stock);
                states.insert(locate, action.state);
            }
            Message::AddOrder(add) => {
                named(&add.stock);
                books.add(add.reference.get(), (locate, add.side == b'B', add.price.get(), add.shares.get()));
            }
            Message::AddOrderMpid(add) => {
                named(&add.stock);
                books.add(add.reference.get(), (locate, add.side == b'B', add.price.get(), add.shares.get()));
            }
            Message::OrderExecuted(executed) => {
                assert!(trading && matches.insert(executed.match_number.get()));
                let (.., best) = books.reduce(locate, executed.reference.get(), Some(executed.shares.get()));
                assert!(best, "the best order trades first");
            }
            Message::OrderExecutedPrice(executed) => {
                assert!(trading && matches.insert(executed.match_number.get()));
                let (price, buying, best) = books.reduce(locate, executed.reference.get(), Some(executed.shares.get()));
                assert!(best);
                let better = if buying { executed.price.get() < price } else { executed.price.get() > price };
                assert!(better);
            }
            Message::OrderCancel(cancel) => {
                books.reduce(locate, cancel.reference.get(), Some(cancel.shares.get()));
                assert!(books.orders.contains_key(&cancel.reference.get()), "the last share goes by a delete");
            }
            Message::OrderDelete(delete) => {
                books.reduce(locate, delete.reference.get(), None);
            }
            Message::OrderReplace(replace) => {
                let (_, buying, _) = books.reduce(locate, replace.reference.get(), None);
                let order = (locate, buying, replace.price.get(), replace.shares.get());
                books.add(replace.new_reference.get(), order);
            }
            Message::Trade(trade) => {
                named(&trade.stock);
                assert!(trading && matches.insert(trade.match_number.get()) && trade.price.get() > 0);
            }
            Message::CrossTrade(cross) => {
                named(&cross.stock);
                assert!(matches.insert(cross.match_number.get()));
            }
            Message::BrokenTrade(broken) => assert!(matches.contains(&broken.match_number.get())),
            _ => {}
        }
        if opened_ns > 0 {
            *per_instrument.entry(locate).or_default() += 1;
        }
    });

    assert_eq!(system, "OSQMEC");
    assert_eq!(names.len(), 500);
    assert!((books.orders.len() / 500) < 128, "{} orders live", books.orders.len());
    assert_eq!(opened_ns / 1_000_000_000, 34_200 - 1, "the bell");

    // The mix of a real day, roughly, per thousand.
    for (kind, range) in
        [('A', 300..480), ('D', 250..420), ('U', 60..200), ('E', 20..120), ('X', 10..50), ('F', 10..40)]
    {
        let share = kinds[&kind] * 1_000 / total;
        assert!(range.contains(&share), "{share} ‰ are {kind}, not {range:?}: {kinds:?}");
    }
    for kind in ['C', 'P', 'Q', 'I', 'H', 'N', 'J', 'B', 'V', 'Y', 'L', 'R', 'S'] {
        assert!(kinds.contains_key(&kind), "no {kind}: {kinds:?}");
    }
    assert_eq!((kinds[&'R'], kinds[&'Y'], kinds[&'L']), (500, 500, 2_000));

    let mut activity: Vec<u64> = per_instrument.into_values().collect();
    activity.sort_unstable_by(|one, other| other.cmp(one));
    let busiest: u64 = activity[..50].iter().sum();
    let share = busiest * 100 / activity.iter().sum::<u64>();
    assert!((45..75).contains(&share), "the busiest tenth makes {share} % of it");
}

/// The rate is what was asked for, bursts included, whatever it is.
#[test]
fn the_mean_rate() {
    for (messages_per_s, burst_factor, seconds) in [(500, 1, 100), (20_000, 10, 40), (2_000, 50, 200)] {
        let config = SimulatorConfig {
            symbols: 20,
            messages_per_s,
            burst_factor,
            duration_max: Some(std::time::Duration::from_secs(4 + seconds)),
            ..SimulatorConfig::default()
        };
        let (mut count, mut first_ns, mut last_ns) = (0_u64, 0, 0);
        for_each(&config, |_, due_ns, _| {
            // The open is a burst of its own.
            if due_ns > config.start_ns + 4_000_000_000 {
                first_ns = if count == 0 { due_ns } else { first_ns };
                last_ns = due_ns;
                count += 1;
            }
        });
        let rate = count as f64 * 1e9 / (last_ns - first_ns) as f64 / f64::from(messages_per_s);
        assert!((0.75..1.25).contains(&rate), "{rate} times {messages_per_s}");
    }
}

/// An opening that someone sees who has just come, whatever the size of the market and its rate.
#[test]
fn it_opens_within_five_seconds() {
    for (symbols, messages_per_s) in [(1, 1), (8_000, 20_000)] {
        let config = SimulatorConfig {
            symbols,
            messages_per_s,
            duration_max: Some(std::time::Duration::from_secs(4)),
            ..SimulatorConfig::default()
        };
        let (mut directory_ns, mut cross_ns) = (0, 0);
        for_each(&config, |_, due_ns, bytes| match Message::parse(bytes).unwrap() {
            Message::StockDirectory(_) => directory_ns = due_ns,
            Message::CrossTrade(cross) if cross.cross_type == b'O' => cross_ns = due_ns,
            _ => {}
        });
        assert!(directory_ns - config.start_ns < 100_000_000);
        assert!((2_000_000_000..5_000_000_000).contains(&(cross_ns - config.start_ns)), "{cross_ns}");
    }
}

#[test]
fn prices_move_and_spreads_are_narrow() {
    let mut levels: HashMap<bool, BTreeMap<u32, i64>> = HashMap::new();
    let mut orders: HashMap<u64, (bool, u32, u32)> = HashMap::new();
    let mut mids = Vec::new();
    let mut spreads = Vec::new();
    for_each(&day(1, 200_000), |seq, _, bytes| {
        let mut change = |reference: u64, shares: Option<u32>| {
            let order = orders.get_mut(&reference).unwrap();
            let gone = shares.unwrap_or(order.2);
            order.2 -= gone;
            *levels.entry(order.0).or_default().get_mut(&order.1).unwrap() -= i64::from(gone);
            order.0
        };
        let mut new = None;
        match Message::parse(bytes).unwrap() {
            Message::AddOrder(add) => new = Some((add.reference, add.side == b'B', add.price, add.shares)),
            Message::AddOrderMpid(add) => new = Some((add.reference, add.side == b'B', add.price, add.shares)),
            Message::OrderExecuted(m) => _ = change(m.reference.get(), Some(m.shares.get())),
            Message::OrderExecutedPrice(m) => _ = change(m.reference.get(), Some(m.shares.get())),
            Message::OrderCancel(m) => _ = change(m.reference.get(), Some(m.shares.get())),
            Message::OrderDelete(m) => _ = change(m.reference.get(), None),
            Message::OrderReplace(m) => {
                let buying = change(m.reference.get(), None);
                new = Some((m.new_reference, buying, m.price, m.shares));
            }
            _ => {}
        }
        if let Some((reference, buying, price, shares)) = new {
            orders.insert(reference.get(), (buying, price.get(), shares.get()));
            *levels.entry(buying).or_default().entry(price.get()).or_default() += i64::from(shares.get());
        }
        if seq % 1_000 == 0 {
            levels.values_mut().for_each(|side| side.retain(|_, shares| *shares > 0));
            let (bid, ask) = (*levels[&true].keys().next_back().unwrap(), *levels[&false].keys().next().unwrap());
            mids.push(f64::from(bid + ask) / 2.0);
            spreads.push(f64::from(ask - bid) / f64::from(bid));
        }
    });
    spreads.sort_unstable_by(f64::total_cmp);
    let median_bps = spreads[spreads.len() / 2] * 10_000.0;
    assert!(median_bps < 40.0, "{median_bps} basis points between the best prices");
    let (low, high) = mids.iter().fold((f64::MAX, 0.0_f64), |(low, high), &mid| (low.min(mid), high.max(mid)));
    assert!((1.002..2.0).contains(&(high / low)), "the price went from {low} to {high}");
}

/// A market of one message a second has not many of them before timestamps run out.
#[test]
fn a_day_ends_before_timestamps_do() {
    let config = SimulatorConfig { symbols: 1, messages_per_s: 1, ..SimulatorConfig::default() };
    let mut last_ns = 0;
    for_each(&config, |_, _, bytes| last_ns = Message::parse(bytes).unwrap().header().timestamp.get());
    assert!((259_200_000_000_000..259_300_000_000_000).contains(&last_ns), "{last_ns}");
}

#[test]
fn settings_have_bounds() {
    let with = |change: fn(&mut SimulatorConfig)| {
        let mut config = SimulatorConfig::default();
        change(&mut config);
        Simulator::new(&config).err()
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(with(|config| config.symbols = 0), Some(ConfigError::Symbols(0)));
    assert_eq!(with(|config| config.symbols = 8_001), Some(ConfigError::Symbols(8_001)));
    assert_eq!(with(|config| config.messages_per_s = 0), Some(ConfigError::MessagesPerS(0)));
    assert_eq!(with(|config| config.burst_factor = 101), Some(ConfigError::BurstFactor(101)));
    let error = write_binaryfile(&SimulatorConfig { symbols: 0, ..SimulatorConfig::default() }, 1, Vec::new());
    assert_eq!(error.unwrap_err().to_string(), "a simulated market has 1 to 8000 symbols, not 0");
}

#[test]
fn files_hold_what_packets_hold() {
    let config = day(10, 3_000);
    let mut messages = Vec::new();
    for_each(&config, |_, _, bytes| messages.push(bytes.to_vec()));
    assert!((3_000..3_100).contains(&messages.len()), "{}", messages.len());
    for wanted in [0, 1, 2_345, 1_000_000] {
        let mut file = Vec::new();
        let written = usize::try_from(write_binaryfile(&config, wanted as u64, &mut file).unwrap()).unwrap();
        assert_eq!(written, wanted.min(messages.len()));
        let mut reader = Reader::new(std::io::Cursor::new(file)).unwrap();
        for message in &messages[..written] {
            assert!(matches!(reader.peek().unwrap(), Item::Message { bytes, .. } if bytes == message));
            reader.consume();
        }
        assert_eq!(reader.peek().unwrap(), Item::EndOfSession);
    }
}
