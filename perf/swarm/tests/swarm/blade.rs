//! The blade's data path in this process: a ring, a worker, and a publisher that is the test.

use std::collections::HashMap;
use std::net::SocketAddr;

use fanblade_net::{EngineConfig, ListenOptions};
use fanblade_ring::{LANES, Lane, NewFrame, RingConfig, SubjectId, UnixNs, Writer};
use fanblade_worker::{WorkerConfig, WorkerHandle};

pub(crate) struct Blade {
    writer: Writer,
    worker: WorkerHandle,
    addr: SocketAddr,
    subjects: HashMap<String, SubjectId>,
    seq: u64,
}

impl Blade {
    pub(crate) fn start() -> Blade {
        // The rings can have full tables then. None of their sessions is a descriptor.
        fanblade_net::rlimit::raise_descriptors().unwrap();
        let mut lane_len = [0; LANES];
        lane_len[Lane::Json as usize] = 16 << 20;
        let ring = RingConfig { index_len: 1 << 14, lane_len, subjects_max: 256, checksums: false };
        let mut writer = Writer::create(&ring, "swarm").unwrap();
        let (waker, sleeper) = fanblade_ring::pair().unwrap();
        writer.add_waker(waker.clone());
        let listener = fanblade_net::listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let addr = listener.local_addr();
        let config = WorkerConfig::default();
        let reader = writer.open_reader().unwrap();
        let worker = fanblade_worker::spawn(config, reader, sleeper, waker, move |sleeper| {
            let config = EngineConfig { sessions_max: 40_000, waker: Some(sleeper.fd()) };
            fanblade_net::uring(listener, &config).map_err(std::io::Error::other)
        });
        Blade { writer, worker: worker.unwrap(), addr, subjects: HashMap::new(), seq: 0 }
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("ws://{}{target}", self.addr)
    }

    pub(crate) fn publish(&mut self, subject: &str, data: &str) {
        let Blade { writer, subjects, .. } = self;
        let id = *subjects.entry(subject.to_owned()).or_insert_with(|| writer.subject(subject, 1).unwrap());
        self.seq += 1;
        let (seq, prev) = (self.seq, self.writer.last_seq(id));
        let json = format!(r#"{{"s":"{subject}","q":{seq},"p":{prev},"t":"0","d":{data}}}"#);
        let mut payloads: [&[u8]; LANES] = [&[]; LANES];
        payloads[Lane::Json as usize] = json.as_bytes();
        let update = NewFrame { subject: id, channel: 1, seq, ts_feed_ns: UnixNs(0), ts_publish_ns: UnixNs(0) };
        self.writer.publish(&update, &payloads).unwrap();
    }

    pub(crate) fn stat(&self, name: &str) -> u64 {
        let mut found = None;
        self.worker.stats().for_each(&mut |other, _, _, value| {
            if other == name {
                found = Some(value);
            }
        });
        found.unwrap()
    }
}
