//! The other side of the ring: what a delivered message and a session cost the worker.
//!
//! The server of `floor` runs under callgrind, its clients outside. Two runs differ in one thing alone, messages or
//! sessions: the difference between their counts is what that thing costs, wherever its instructions were inlined.

use std::time::Duration;

use anyhow::Context as _;

use super::callgrind;
use crate::floor::{EngineKind, Server, ServerArgs, ServerKind};

/// Instructions of a worker, in user space.
pub(super) struct Costs {
    /// Per message that is sent alone, for one subscriber of many.
    pub(super) one: f64,
    /// The same for eight messages that are sent at once.
    pub(super) of_eight: f64,
    /// Per session: accepted, upgraded, subscribed, and ended with all others.
    pub(super) session: f64,
}

pub(super) fn count() -> anyhow::Result<Costs> {
    let [few, many] = [ROUNDS, 3 * ROUNDS];
    let deliveries = f64::from(many - few) * f64::from(SUBSCRIBERS);
    let delivered = |backlog: u8| -> anyhow::Result<f64> {
        let more = server(SUBSCRIBERS, many, backlog)?.saturating_sub(server(SUBSCRIBERS, few, backlog)?);
        Ok(more as f64 / (deliveries * f64::from(backlog)))
    };
    let sessions = server(3 * SUBSCRIBERS, 0, 1)?.saturating_sub(server(SUBSCRIBERS, 0, 1)?);
    Ok(Costs { one: delivered(1)?, of_eight: delivered(8)?, session: sessions as f64 / f64::from(2 * SUBSCRIBERS) })
}

/// All instructions of a server with `subscribers` subscribers that publishes `rounds` times, `backlog` messages at
/// once.
fn server(subscribers: u32, rounds: u32, backlog: u8) -> anyhow::Result<u64> {
    let out = tempfile::NamedTempFile::new().context("cannot make a file for callgrind's output")?;
    let wanted = ServerArgs {
        // valgrind knows the system calls of this engine.
        engine: EngineKind::Epoll,
        subscribers: subscribers as usize,
        payload_bytes: PAYLOAD_BYTES,
        cpu: fanblade_net::affinity::cpus_allowed()?.first().copied().unwrap_or_default(),
        spin_us: 0,
    };
    let mut server = Server::start(callgrind::command(out.path())?, ServerKind::Blade, &wanted)?;
    let mut crowd = server.crowd(subscribers)?;
    for round in 1..=rounds {
        server.publish(backlog)?;
        crowd.await_messages(u64::from(round) * u64::from(backlog), PATIENCE)?;
    }
    server.stop()?;
    let text = std::fs::read_to_string(out.path()).context("cannot read callgrind's output")?;
    callgrind::total(&text).context("callgrind's output lacks the total")
}

const SUBSCRIBERS: u32 = 200;
const ROUNDS: u32 = 50;
const PAYLOAD_BYTES: usize = 512;
/// How long to wait for one round of a server that is fifty times slower than usual.
const PATIENCE: Duration = Duration::from_secs(60);
