//! `floor-blade`: the blade's own data path, from the ring to the sockets: a ring, a worker, and a publisher that is
//! told how many messages are due.

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use fanblade_measure::sys::pin;
use fanblade_net::EngineConfig;
use fanblade_ring::{Lane, NewFrame, Payloads, RingConfig, UnixNs, Writer};
use fanblade_worker::{Limits, WorkerConfig};

use super::args::{EngineKind, ServerArgs};
use super::listener::listen;
use crate::message::Messages;

/// The only subject.
pub(crate) const SUBJECT: &str = "/FLOOR/ONE/trade";

pub(crate) fn run(args: &ServerArgs) -> anyhow::Result<()> {
    pin(args.cpu)?;
    let mut lane_len = [0; fanblade_ring::LANES];
    lane_len[Lane::Json as usize] = 16 << 20;
    let mut writer =
        Writer::create(&RingConfig { index_len: 1 << 14, lane_len, subjects_max: 16, checksums: false }, "floor")?;
    let subject = writer.subject(SUBJECT, 1)?;
    let (waker, sleeper) = fanblade_ring::pair()?;
    let listener = listen()?;
    let addr = listener.local_addr();
    let limits = Limits {
        // No pings: the clients check every byte.
        ping_interval_ms: 3_600_000,
        ..Limits::default()
    };
    let config = WorkerConfig { cpu: Some(args.cpu), limits, spin_us: args.spin_us, ..WorkerConfig::default() };
    let (engine, sessions_max) = (args.engine, args.subscribers);
    let worker = fanblade_worker::spawn(config, writer.open_reader()?, sleeper, waker.clone(), move |sleeper| {
        let config = EngineConfig { sessions_max, waker: Some(sleeper.fd()) };
        let made = match engine {
            EngineKind::Uring => fanblade_net::uring(listener, &config),
            EngineKind::Epoll => fanblade_net::epoll(listener, &config),
        };
        let engine = made.map_err(std::io::Error::other)?;
        crate::confined::confine(&*engine);
        Ok(engine)
    })?;
    println!("{addr}");
    std::io::stdout().flush()?;
    let mut messages = Messages::new(args.payload_bytes);
    let mut number = 0;
    let mut due = [0];
    while std::io::stdin().read(&mut due).context("cannot read standard input")? == 1 {
        for _ in 0..due[0] {
            let seq = number + 1;
            let now_ns = UnixNs::now();
            let update = NewFrame { subject, channel: 1, seq, ts_feed_ns: now_ns, ts_publish_ns: now_ns };
            let mut payloads: Payloads<'_> = [&[]; fanblade_ring::LANES];
            payloads[Lane::Json as usize] = messages.payload(number);
            writer.publish(&update, &payloads)?;
            number += 1;
        }
        // Wakes once for all messages that came together, as for a packet with several messages. (The ring's own waking
        // is per publish, and its worker shares this thread's core.)
        waker.wake();
    }
    worker.send(fanblade_worker::Command::Stop);
    worker.join()?;
    Ok(())
}
