//! How fast the simulator is on one core: `cargo run --release -p fanblade-feed --example simulator_rate [SYMBOLS]`.

use fanblade_feed::simulator::{Simulator, SimulatorConfig};
use fanblade_feed::{Event, Feed, Poll, SimulatedFeed, UnixNs};

/// Long enough for the day to have opened and the books to have filled.
const MESSAGES: u64 = 10_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let symbols = std::env::args().nth(1).map_or(Ok(2_000), |arg| arg.parse())?;
    let config = SimulatorConfig { symbols, messages_max: Some(MESSAGES), ..SimulatorConfig::default() };

    let begun_ns = cpu_ns()?;
    let mut simulator = Simulator::new(&config)?;
    let (mut packets, mut bytes) = (0_u64, 0_u64);
    while simulator.advance().is_some() {
        packets += 1;
        bytes += simulator.packet().len() as u64;
    }
    report("packets alone", MESSAGES, cpu_ns()? - begun_ns);
    let messages_a_packet = MESSAGES as f64 / packets as f64;
    println!("{symbols} symbols, {messages_a_packet:.1} messages and {} bytes a packet", bytes / packets);

    let begun_ns = cpu_ns()?;
    let mut feed = SimulatedFeed::unpaced(&config)?;
    let mut messages = 0_u64;
    while feed.poll(UnixNs(0), &mut |event| messages += u64::from(matches!(event, Event::Message { .. })))?
        == Poll::Busy
    {}
    report("as a feed, parsed and sequenced", messages, cpu_ns()? - begun_ns);
    Ok(())
}

/// What the one thread has had of its core, so that whatever else the machine does tells nothing.
fn cpu_ns() -> Result<u64, Box<dyn std::error::Error>> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(schedstat.split(' ').next().unwrap_or_default().parse()?)
}

fn report(what: &str, messages: u64, cpu_ns: u64) {
    let ns = cpu_ns as f64 / messages as f64;
    println!("{what}: {:.2} M messages per second of one core, {ns:.0} ns each", 1e3 / ns);
}
