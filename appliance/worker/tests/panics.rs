//! A worker that panics: whom it can still tell, what its successor finds, and that nothing adds up.

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use common::{Client, ENGINES, Observed, PATIENCE, Received, Step, connect_small};
use fanblade_net::{EngineConfig, ListenOptions, Listener, listen};
use fanblade_ring::{NewFrame, RingConfig, Sleeper, SubjectId, UnixNs, Waker, Writer};
use fanblade_wire::client::UpgradeRequest;
use fanblade_worker::{WorkerConfig, WorkerEnd, WorkerHandle, WorkerStats, spawn};

/// A place for one worker after the other, and the publisher that knows nothing of that.
struct Place {
    engine: &'static str,
    writer: Writer,
    subject: SubjectId,
    listener: Listener,
    worker: WorkerHandle,
    fault: Arc<AtomicU8>,
    seq: u64,
}

impl Place {
    fn new(engine: &'static str) -> Place {
        let ring =
            RingConfig { index_len: 4_096, lane_len: [1 << 24, 1 << 20, 0, 0], subjects_max: 16, ..Default::default() };
        let mut writer = Writer::create(&ring, "test-1").unwrap();
        let subject = writer.subject("/X/A/v", 1).unwrap();
        let options = ListenOptions { sndbuf_bytes: Some(64 * 1024), ..ListenOptions::default() };
        let listener = listen("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let (waker, sleeper) = fanblade_ring::pair().unwrap();
        writer.add_waker(waker.clone());
        let fault = Arc::new(AtomicU8::new(NONE));
        let worker = start(engine, &writer, &listener, &fault, waker, sleeper, None);
        Place { engine, writer, subject, listener, worker, fault, seq: 0 }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    fn publish(&mut self, data: &str) -> u64 {
        self.seq += 1;
        let prev = self.writer.last_seq(self.subject);
        let json = format!(r#"{{"s":"/X/A/v","q":{},"p":{prev},"t":"0","d":{data}}}"#, self.seq);
        let update = NewFrame {
            subject: self.subject,
            channel: 1,
            seq: self.seq,
            ts_feed_ns: UnixNs(0),
            ts_publish_ns: UnixNs(0),
        };
        self.writer.publish(&update, &[json.as_bytes(), &[1], &[], &[]]).unwrap();
        self.seq
    }

    fn subscriber(&self) -> Client {
        let mut client = Client::connect(self.address(), "/v1/stream", None);
        client.subscribe(&["/X/**"], "all");
        assert_eq!(client.message()["op"], "subscribed");
        client
    }

    /// The next panic is where the fault says; returns once the worker has ended.
    fn break_at(&mut self, fault: Step, client: &mut Client) {
        self.fault.store(fault as u8, Relaxed);
        // Something for the engine to do, whichever call it is.
        client.send(r#"{"op":"ping"}"#);
        self.publish("1");
        self.until_ended();
        let end = self.worker.end().cloned();
        assert_eq!(end, Some(WorkerEnd::Panicked(format!("fault at {fault:?}"))), "{}", self.engine);
        assert_eq!(self.worker.stats().sessions.value(), 0, "{}: nobody is served here", self.engine);
    }

    fn until_ended(&self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.worker.is_finished() {
            assert!(std::time::Instant::now() < deadline, "the worker does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Another worker takes the place.
    fn replace(&mut self) {
        self.fault.store(NONE, Relaxed);
        let (waker, stats) = (self.worker.waker().clone(), Arc::clone(self.worker.stats()));
        let sleeper = waker.successor();
        self.worker = start(self.engine, &self.writer, &self.listener, &self.fault, waker, sleeper, Some(stats));
    }
}

fn start(
    engine: &str,
    writer: &Writer,
    listener: &Listener,
    fault: &Arc<AtomicU8>,
    waker: Waker,
    sleeper: Sleeper,
    predecessor: Option<Arc<WorkerStats>>,
) -> WorkerHandle {
    let config = WorkerConfig { predecessor, ..WorkerConfig::default() };
    let (listener, fault, is_uring) = (listener.try_clone().unwrap(), Arc::clone(fault), engine.starts_with("uring"));
    spawn(config, writer.open_reader().unwrap(), sleeper, waker, move |sleeper| {
        let config = EngineConfig { sessions_max: 1_000, waker: Some(sleeper.fd()) };
        let inner =
            if is_uring { fanblade_net::uring(listener, &config) } else { fanblade_net::epoll(listener, &config) };
        Ok(Observed::boxed(inner.map_err(std::io::Error::other)?, move |step| {
            if fault.compare_exchange(step as u8, NONE, Relaxed, Relaxed).is_ok() {
                panic!("fault at {step:?}");
            }
        }))
    })
    .unwrap()
}

/// Reads to the end: the frames that came whole, and the code of the close, if there was one.
fn to_the_end(client: &mut Client) -> (u64, Option<u16>, bool) {
    let (mut frames, mut close, mut has_notice) = (0, None, false);
    loop {
        match client.receive() {
            Received::Text(message) if message["s"].is_string() => frames += 1,
            Received::Text(message) => has_notice |= message["kind"] == "restart",
            Received::Close(code, _) => close = Some(code),
            Received::End => return (frames, close, has_notice),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whoever_is_between_frames_is_told_and_the_next_worker_finds_those_who_wait() {
    for engine in ENGINES {
        let mut place = Place::new(engine);
        let mut current = place.subscriber();
        let mut stuck = place.subscriber();
        // Until its socket is full, and a frame is cut.
        let data = format!("\"{}\"", "x".repeat(10_000));
        let mut published = 0;
        while place.worker.stats().unsent.value() == 0 {
            place.publish(&data);
            published += 1;
            assert!(published < 4_000, "{engine}: nobody falls behind");
            let Received::Text(_) = current.receive() else { panic!("{engine}") };
        }
        place.break_at(Step::Received, &mut current);
        // What was published last may have come before.
        let (frames, close, has_notice) = to_the_end(&mut current);
        assert!(frames <= 1 && close == Some(1012) && has_notice, "{engine}: {frames} {close:?} {has_notice}");
        // Whole frames only, and no word of which it could not be known where it would stand.
        let (frames, close, _) = to_the_end(&mut stuck);
        assert!(close.is_none() && frames > 0 && frames < published, "{engine}: {frames} {close:?}");

        let closes = |stats: &WorkerStats, code: &str| {
            let mut found = None;
            stats.closes.for_each(&mut |by, name, count| {
                if (by, name) == ("us", code) {
                    found = Some(count);
                }
            });
            found
        };
        let counted = ["1012", "1006"].map(|code| closes(place.worker.stats(), code));
        assert_eq!(counted, [Some(1), Some(1)], "{engine}: each session has ended once, told or not");

        // It comes while nobody serves, and waits at the listener.
        let mut early = connect_small(place.address());
        let (mut request, host) = (Vec::new(), place.address().to_string());
        let (target, key) = ("/v1/stream?subjects=/X/**", fanblade_wire::client::KEY);
        UpgradeRequest { host: &host, target, key, protocol: None, token: None }.write(&mut request);
        early.write_all(&request).unwrap();
        place.replace();
        early.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 12];
        std::io::Read::read_exact(&mut early, &mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101", "{engine}");
        let mut later = place.subscriber();
        // The snapshot, then what is published now: the new worker is woken by the old bell.
        let Received::Text(_) = later.receive() else { panic!("{engine}") };
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(150));
            let seq = place.publish("2");
            assert_eq!(later.message()["q"], seq, "{engine}");
        }
        let stats = place.worker.stats();
        let counts = (stats.panics.value(), stats.restarts.value(), stats.accepted.value(), stats.sessions.value());
        assert_eq!(counts, (1, 1, 4, 2), "{engine}: counts go on, levels begin anew");
        place.worker.send(fanblade_worker::Command::Stop);
    }
}

#[test]
fn wherever_it_panics_frames_are_whole_and_the_next_one_serves() {
    for engine in ENGINES {
        let mut place = Place::new(engine);
        for fault in [Step::Received, Step::Polled, Step::Sent, Step::Flush, Step::Unsent, Step::Close] {
            let mut clients: Vec<Client> = (0..8).map(|_| place.subscriber()).collect();
            let mut first = clients.remove(0);
            if fault == Step::Unsent {
                // Somebody whose sends are not taken whole.
                let data = format!("\"{}\"", "x".repeat(100_000));
                place.fault.store(fault as u8, Relaxed);
                while !place.worker.is_finished() {
                    place.publish(&data);
                    std::thread::sleep(Duration::from_millis(2));
                }
            } else if fault == Step::Close {
                place.fault.store(fault as u8, Relaxed);
                drop(first.stream.shutdown(std::net::Shutdown::Both));
                place.until_ended();
            } else {
                place.break_at(fault, &mut first);
            }
            for client in &mut clients {
                // The frames' reader panics at anything that is none.
                let (_, close, has_notice) = to_the_end(client);
                let is_told = close.is_some();
                assert_eq!((close.unwrap_or(1012), has_notice), (1012, is_told), "{engine}, fault at {fault:?}");
                // While sends are on their way nobody knows where a word would stand.
                assert!(!is_told || !matches!(fault, Step::Sent | Step::Flush), "{engine}, fault at {fault:?}");
                assert!(
                    is_told || matches!(fault, Step::Sent | Step::Flush | Step::Unsent),
                    "{engine}, fault at {fault:?}"
                );
            }
            place.replace();
        }
        let mut client = place.subscriber();
        let seq = place.publish("3");
        while client.message()["q"] != seq {}
        place.worker.send(fanblade_worker::Command::Stop);
    }
}

#[test]
fn a_hundred_panics_leave_nothing_behind() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for engine in ENGINES {
        let mut place = Place::new(engine);
        let mut before = 0;
        for round in 0..100 {
            let mut client = place.subscriber();
            place.break_at(Step::Received, &mut client);
            assert_eq!(to_the_end(&mut client).1, Some(1012), "{engine}, {round}");
            place.replace();
            if round == 20 {
                before = descriptors();
            }
        }
        // Threads of predecessors that still say goodbye, and the other tests of this process, have some.
        let after = descriptors();
        assert!(after < before + 60, "{engine}: {before} descriptors became {after}");
        let stats = Arc::clone(place.worker.stats());
        assert_eq!((stats.panics.value(), stats.restarts.value()), (100, 100), "{engine}");
        let mut client = place.subscriber();
        let seq = place.publish("4");
        while client.message()["q"] != seq {}
        place.worker.send(fanblade_worker::Command::Stop);
    }
}

/// No [`Step`].
const NONE: u8 = 0;
