//! How long a message takes, on the CPU: `cargo run --release -p fanblade-market --example throughput`
//!
//! Reported, not judged: a synthetic day of 4 million messages with a million live orders.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{MIDNIGHT_UNIX_NS, binary_file, synthetic};
use fanblade_market::{Channel, Market, Update, encode};

fn main() {
    let bytes = synthetic(1, 8000, ORDERS, ORDERS + 4_000_000);
    let messages: Vec<&[u8]> = binary_file(&bytes).collect();
    measure("apply", &messages, &mut |_| {});
    let mut out = Vec::new();
    let mut subject = String::new();
    measure("apply, json", &messages, &mut |update| json(&mut out, &mut subject, update));
    measure("apply, json without book", &messages, &mut |update| {
        if update.channel != Channel::Book {
            json(&mut out, &mut subject, update);
        }
    });
    let mut packed = Vec::new();
    measure("apply, json, binary", &messages, &mut |update| {
        json(&mut out, &mut subject, update);
        packed.clear();
        encode::binary(&mut packed, 1, update.seq, 0, update.ts_ns, &update.image);
        black_box(&packed);
    });
}

fn json(out: &mut Vec<u8>, subject: &mut String, update: &Update<'_>) {
    update.subject(subject);
    out.clear();
    encode::json(out, subject, update.seq, 0, update.ts_ns, &update.image);
    black_box(out);
}

fn measure(what: &str, messages: &[&[u8]], sink: &mut impl FnMut(&Update<'_>)) {
    let mut market = Market::new("NASDAQ", MIDNIGHT_UNIX_NS);
    let (build_up, day) = messages.split_at(ORDERS);
    for (seq, message) in (1..).zip(build_up) {
        market.apply(seq, message, sink).expect("well-formed");
    }
    let updates = |market: &Market| Channel::ALL.iter().map(|&channel| market.counters().updates(channel)).sum::<u64>();
    let (updates_before, started_ns) = (updates(&market), cpu_ns());
    for (seq, message) in (1..).zip(day) {
        market.apply(seq, message, sink).expect("well-formed");
    }
    let (elapsed_ns, count) = ((cpu_ns() - started_ns) as f64, day.len() as f64);
    println!(
        "{what}: {:.0} ns a message, {:.2} million a second; {:.2} updates a message, {} orders at the end",
        elapsed_ns / count,
        count / elapsed_ns * 1e3,
        (updates(&market) - updates_before) as f64 / count,
        market.orders(),
    );
}

/// CPU time of this thread, which other work on the machine does not lengthen as it does the clock's.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    schedstat.split(' ').next().and_then(|field| field.parse().ok()).expect("its first field")
}

/// Live orders, built up before the measurement begins.
const ORDERS: usize = 1_000_000;
