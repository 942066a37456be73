//! How fast the simulator is on one core: `cargo run --release -p fanblade-feed --example simulator_rate [SYMBOLS]`.

use std::time::Instant;

use fanblade_feed::simulator::{Simulator, SimulatorConfig};
use fanblade_feed::{Event, Feed, Poll, SimulatedFeed};

/// Long enough for the day to have opened and the books to have filled.
const MESSAGES: u64 = 10_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let symbols = std::env::args().nth(1).map_or(Ok(2_000), |arg| arg.parse())?;
    let config = SimulatorConfig { symbols, messages_max: Some(MESSAGES), ..SimulatorConfig::default() };

    let started = Instant::now();
    let mut simulator = Simulator::new(&config)?;
    let (mut packets, mut bytes) = (0_u64, 0_u64);
    while simulator.advance().is_some() {
        packets += 1;
        bytes += simulator.packet().len() as u64;
    }
    report("packets alone", MESSAGES, started);
    println!(
        "{symbols} symbols, {:.1} messages and {} bytes a packet",
        MESSAGES as f64 / packets as f64,
        bytes / packets
    );

    let started = Instant::now();
    let mut feed = SimulatedFeed::unpaced(&config)?;
    let mut messages = 0_u64;
    while feed.poll(0, &mut |event| messages += u64::from(matches!(event, Event::Message { .. })))? == Poll::Busy {}
    report("as a feed, parsed and sequenced", messages, started);
    Ok(())
}

fn report(what: &str, messages: u64, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what}: {:.2} M messages/s, {:.0} ns each",
        messages as f64 / seconds / 1e6,
        seconds * 1e9 / messages as f64
    );
}
