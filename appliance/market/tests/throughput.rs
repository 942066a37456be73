//! How long a message takes. Reported, not judged: `cargo test --release -p fanblade-market --test throughput -- --ignored --nocapture`

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{MIDNIGHT_UNIX_NS, binary_file, synthetic};
use fanblade_market::{Channel, Market, Update, encode};

#[test]
#[ignore = "a measurement"]
fn nanoseconds_per_message() {
    let bytes = synthetic(1, 4000, 4_000_000);
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
    let started = Instant::now();
    for (seq, message) in (1..).zip(messages) {
        market.apply(seq, message, sink).expect("well-formed");
    }
    let (elapsed, count) = (started.elapsed(), messages.len() as f64);
    let updates: u64 = Channel::ALL.iter().map(|&channel| market.counters().updates(channel)).sum();
    println!(
        "{what}: {:.0} ns a message, {:.2} million a second; {:.2} updates a message, {} orders at the end",
        elapsed.as_nanos() as f64 / count,
        count / elapsed.as_secs_f64() / 1e6,
        updates as f64 / count,
        market.orders(),
    );
}
