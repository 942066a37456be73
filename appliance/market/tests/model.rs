//! Streams of messages against a model that is slow, keeps everything, and compares whole images.

mod common;

use std::collections::BTreeMap;

use common::*;
use fanblade_feed::UnixNs;
use fanblade_market::Market;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What may happen, small enough that references, prices and instruments meet often.
#[derive(Clone, Debug)]
enum Step {
    Add { locate: u16, reference: u64, side: u8, shares: u32, price: u32 },
    Execute { reference: u64, shares: u32, at: Option<(u8, u32)> },
    Cancel { reference: u64, shares: u32 },
    Delete { reference: u64 },
    Replace { reference: u64, new_reference: u64, shares: u32, price: u32 },
    Break { back: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let reference = || 0..60u64;
    let shares = || prop_oneof![20 => 1..500u32, 1 => Just(0), 1 => Just(u32::MAX)];
    let price = || prop_oneof![20 => 1000..1030u32, 1 => Just(0), 1 => any::<u32>()];
    let side = || prop_oneof![Just(b'B'), Just(b'S')];
    let at = || prop::option::of((prop_oneof![Just(b'Y'), Just(b'N')], price()));
    prop_oneof![
        6 => (1..4u16, reference(), side(), shares(), price())
            .prop_map(|(locate, reference, side, shares, price)| Step::Add { locate, reference, side, shares, price }),
        2 => (reference(), shares(), at()).prop_map(|(reference, shares, at)| Step::Execute { reference, shares, at }),
        1 => (reference(), shares()).prop_map(|(reference, shares)| Step::Cancel { reference, shares }),
        2 => reference().prop_map(|reference| Step::Delete { reference }),
        2 => (reference(), reference(), shares(), price()).prop_map(|(reference, new_reference, shares, price)| {
            Step::Replace { reference, new_reference, shares, price }
        }),
        1 => (0..4u64).prop_map(|back| Step::Break { back }),
    ]
}

#[derive(Clone, Copy)]
struct Order {
    locate: u16,
    side: u8,
    shares: u32,
    price: u32,
}

#[derive(Default)]
struct Model {
    orders: BTreeMap<u64, Order>,
    trades: BTreeMap<u64, (u16, Value)>,
    shown: BTreeMap<String, Value>,
}

impl Model {
    fn enter(&mut self, reference: u64, order: Order) {
        if order.shares > 0 && order.price > 0 {
            self.orders.entry(reference).or_insert(order);
        }
    }

    fn shrink(&mut self, reference: u64, shares: u32) {
        if let Some(order) = self.orders.get_mut(&reference) {
            order.shares = order.shares.saturating_sub(shares);
        }
        self.orders.retain(|_, order| order.shares > 0);
    }

    /// What the step should publish.
    fn apply(&mut self, step: &Step, match_number: u64) -> Vec<Published> {
        let mut all = Vec::new();
        match *step {
            Step::Add { locate, reference, side, shares, price } => {
                self.enter(reference, Order { locate, side, shares, price });
            }
            Step::Execute { reference, shares, at } => {
                if let Some(&Order { locate, side, price, .. }) = self.orders.get(&reference)
                    && shares > 0
                    && !matches!(at, Some((b'N', _)))
                {
                    let mut data = json!({"px": at.map_or(price, |at| at.1), "sz": shares,
                        "side": char::from(side).to_string(), "match": match_number, "kind": "execution"});
                    all.push(published(&format!("/X/{}/trade", symbol(locate)), data.clone()));
                    data["kind"] = "broken".into();
                    self.trades.insert(match_number, (locate, data));
                }
                self.shrink(reference, shares);
            }
            Step::Cancel { reference, shares } => self.shrink(reference, shares),
            Step::Delete { reference } => {
                self.orders.remove(&reference);
            }
            Step::Replace { reference, new_reference, shares, price } => {
                if let Some(old) = self.orders.remove(&reference) {
                    self.enter(new_reference, Order { shares, price, ..old });
                }
            }
            Step::Break { back } => {
                if let Some((locate, data)) = self.trades.remove(&match_number.saturating_sub(back)) {
                    all.push(published(&format!("/X/{}/trade", symbol(locate)), data));
                }
            }
        }
        for locate in 1..4 {
            let (bids, asks) = (self.levels(locate, b'B'), self.levels(locate, b'S'));
            let best = |levels: &[Value]| levels.first().cloned().unwrap_or(Value::Null);
            let bbo = json!({"bid": best(&bids), "ask": best(&asks)});
            let ten = |levels: &[Value]| Value::from(levels[..levels.len().min(10)].to_vec());
            for (channel, data) in [("bbo", bbo), ("book", book(ten(&bids), ten(&asks)))] {
                let subject = format!("/X/{}/{channel}", symbol(locate));
                let is_first = data == json!({"bid": null, "ask": null}) || data == book(json!([]), json!([]));
                let before = self.shown.get(&subject);
                if before.map_or(!is_first, |before| *before != data) {
                    self.shown.insert(subject.clone(), data.clone());
                    all.push(Published { subject, data });
                }
            }
        }
        all
    }

    fn levels(&self, locate: u16, side: u8) -> Vec<Value> {
        let mut levels = BTreeMap::<u32, (u64, u64)>::new();
        for order in self.orders.values().filter(|order| order.locate == locate && order.side == side) {
            let level = levels.entry(order.price).or_default();
            *level = (level.0 + u64::from(order.shares), level.1 + 1);
        }
        let levels = levels.into_iter().map(|(price, (shares, orders))| json!([price, shares, orders]));
        if side == b'B' { levels.rev().collect() } else { levels.collect() }
    }

    /// The message for a step; what names an order names its instrument too, as far as it is known.
    fn message(&self, step: &Step, match_number: u64) -> Vec<u8> {
        let locate_of = |reference| self.orders.get(&reference).map_or(1, |order: &Order| order.locate);
        match *step {
            Step::Add { locate, reference, side, shares, price } => {
                add(locate, symbol(locate), reference, side, shares, price)
            }
            Step::Execute { reference, shares, at: None } => {
                executed(locate_of(reference), reference, shares, match_number)
            }
            Step::Execute { reference, shares, at: Some((printable, price)) } => {
                executed_at(locate_of(reference), reference, shares, match_number, printable, price)
            }
            Step::Cancel { reference, shares } => cancel(locate_of(reference), reference, shares),
            Step::Delete { reference } => delete(locate_of(reference), reference),
            Step::Replace { reference, new_reference, shares, price } => {
                replace(locate_of(reference), reference, new_reference, shares, price)
            }
            Step::Break { back } => {
                let match_number = match_number.saturating_sub(back);
                broken(self.trades.get(&match_number).map_or(1, |trade| trade.0), match_number)
            }
        }
    }
}

fn symbol(locate: u16) -> &'static str {
    ["", "A", "BRK.B", "ZVZZT"][usize::from(locate)]
}

proptest! {
    #[test]
    fn publishes_what_the_model_publishes(steps in prop::collection::vec(step(), 1..300)) {
        let (mut bench, mut model) = (Bench::new(), Model::default());
        for (match_number, step) in (1..).zip(&steps) {
            let message = model.message(step, match_number);
            let expected = model.apply(step, match_number);
            prop_assert_eq!(bench.apply(message), expected, "{:?}", step);
            prop_assert_eq!(bench.market.orders(), model.orders.len());
        }
    }

    /// Whatever the bytes: no panic, and what is published is well-formed (the bench sees to that).
    #[test]
    fn survives_any_message(
        steps in prop::collection::vec((step(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..200)
    ) {
        let mut bench = Bench::of(Market::with_orders_max("X", UnixNs(u64::MAX - 5), 20));
        for (step, index, byte, is_bent) in &steps {
            let mut message = Model::default().message(step, 1);
            if *is_bent {
                *index.get_mut(&mut message) = *byte;
            }
            let before = bench.market.counters().malformed;
            let is_malformed = bench.try_apply(&message).is_err();
            prop_assert_eq!(bench.market.counters().malformed, before + u64::from(is_malformed));
        }
    }
}
