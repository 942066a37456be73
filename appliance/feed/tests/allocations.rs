//! What feeds ask of the allocator: room when they are made, nothing while they run.

use std::io::Write;
use std::time::Duration;

use fanblade_feed::limits::SIMULATOR_SYMBOLS_MAX;
use fanblade_feed::moldudp64::Start;
use fanblade_feed::pace::Pace;
use fanblade_feed::queue::{QueueConfig, QueueFeed, Record, queue};
use fanblade_feed::simulator::{Simulator, SimulatorConfig, write_binaryfile};
use fanblade_feed::soupbintcp::{Retry, SoupbintcpConfig, Timing};
use fanblade_feed::{Data, Event, Feed, FileFeed, Poll, SimulatedFeed, SoupbintcpFeed, UnixNs};
use fanblade_testkit::allocations::{self, Counting};

#[path = "common/soupbintcp.rs"]
mod soupbintcp;

use soupbintcp::{PATIENCE, Server, sequenced};

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often the allocator is asked while a feed is polled so many times.
fn allocations_of(feed: &mut dyn Feed, polls: u32) -> u64 {
    let before = allocations::count();
    for _ in 0..polls {
        assert_eq!(feed.poll(UnixNs(0), &mut |_| {}).unwrap(), Poll::Busy);
    }
    allocations::count() - before
}

#[test]
fn a_running_feed_allocates_nothing() {
    let config = SimulatorConfig { symbols: 100, ..SimulatorConfig::default() };
    assert_eq!(allocations_of(&mut SimulatedFeed::unpaced(&config).unwrap(), 5_000), 0);

    let mut file = tempfile::NamedTempFile::new().unwrap();
    write_binaryfile(&config, 300_000, std::io::BufWriter::new(&mut file)).unwrap();
    file.flush().unwrap();
    assert_eq!(allocations_of(&mut FileFeed::open(file.path(), Pace::Unpaced).unwrap(), 1_000), 0);

    assert_eq!(soupbintcp_allocations(), 0);
    assert_eq!(queue_allocations(), 0);

    // The measure itself works.
    let before = allocations::count();
    drop(std::hint::black_box(vec![0_u8; 10]));
    assert_eq!(allocations::count(), before + 1);
}

/// How often the allocator is asked while a feed takes messages from a server, once it is logged in.
fn soupbintcp_allocations() -> u64 {
    const MESSAGES: u64 = 100_000;
    let server = Server::start(|_, mut client| {
        let session = *b"MONDAY    ";
        client.login();
        client.accept(&session, 1);
        let bytes = sequenced((0..MESSAGES).map(|_| &b"a message of some length"[..]));
        client.send_bytes(&bytes);
        client.until_gone();
    });
    let mut feed = SoupbintcpFeed::new(SoupbintcpConfig {
        servers: vec![server.address.into()],
        username: *b"User01",
        password: *b"secret    ",
        session: None,
        start: Start::Beginning,
        heartbeat_timeout_ms: None,
        timing: Timing { connect_max: PATIENCE, heartbeat: PATIENCE, silence_max: PATIENCE },
        retry: Retry { min: PATIENCE, max: PATIENCE, refused: PATIENCE },
    });
    let poll = |feed: &mut SoupbintcpFeed| {
        let mut messages = 0;
        if feed.poll(UnixNs(0), &mut |event| messages += u64::from(matches!(event, Event::Message { .. }))).unwrap()
            != Poll::Busy
        {
            feed.wait(Duration::from_millis(1));
        }
        messages
    };
    let mut messages = 0;
    while messages == 0 {
        messages = poll(&mut feed);
    }
    let before = allocations::count();
    while messages < MESSAGES {
        messages += poll(&mut feed);
    }
    allocations::count() - before
}

/// What a feed of queued records asks for, once both of its batches have been filled.
fn queue_allocations() -> u64 {
    let (sender, mut queued) = queue(&QueueConfig::new("test", *b"session   "));
    let data = Data::Json("[1,2,3]");
    let record = Record::Update { subject: "/a/b", ts_ns: UnixNs(1), data, received_ns: UnixNs(1) };
    let round = |queued: &mut QueueFeed| {
        // From another thread, as in a blade: what senders allocate is not the feed's.
        std::thread::scope(|scope| {
            scope.spawn(|| (0..1_000).for_each(|_| assert!(sender.try_send(&record).is_ok()))).join().unwrap();
        });
        let before = allocations::count();
        while queued.poll(UnixNs(0), &mut |_| {}).unwrap() == Poll::Busy {}
        allocations::count() - before
    };
    round(&mut queued);
    round(&mut queued);
    (0..10).map(|_| round(&mut queued)).sum()
}

#[test]
fn an_instrument_costs_what_its_limit_says() {
    let before = allocations::bytes_held();
    let config = SimulatorConfig { symbols: SIMULATOR_SYMBOLS_MAX, ..SimulatorConfig::default() };
    let simulator = Simulator::new(&config).unwrap();
    let bytes = usize::try_from(allocations::bytes_held() - before).unwrap() / SIMULATOR_SYMBOLS_MAX;
    assert!((2_100..2_300).contains(&bytes), "{bytes} bytes an instrument");
    drop(simulator);
    assert_eq!(allocations::bytes_held(), before);
}
