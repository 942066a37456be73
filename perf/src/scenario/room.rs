//! Checks whether the machine is large enough for a scenario. It is better not to begin than to end in the middle.

use std::fs;
use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, ensure};
use fanblade_swarm::EngineKind;
use fanblade_swarm::plan::Sources;

use super::definition::Scenario;

/// Refuses a scenario that this machine cannot hold, in a sentence that says what is missing.
pub(crate) fn check(scenario: &Scenario) -> anyhow::Result<()> {
    let subscribers = u64::from(scenario.subscribers);
    let (each, ends) = match scenario.engine {
        EngineKind::Sockets => (BYTES_PER_SUBSCRIBER, "both ends"),
        EngineKind::Xdp => (BYTES_PER_SUBSCRIBER_XDP, "the server's end"),
    };
    let each = each + u64::from(scenario.watchlists.map_or(0, |it| it.subjects_per_session)) * BYTES_PER_SUBSCRIPTION;
    let needed = subscribers * each + BYTES_BESIDE;
    let available = meminfo("MemAvailable")?;
    ensure!(
        needed <= available,
        "{subscribers} subscribers with {ends} on this machine need about {} of memory ({each} bytes for each, most of \
         them the kernel's, and {} for the rest), but only {} are available: at most {} fit (--subscribers)",
        gib(needed),
        gib(BYTES_BESIDE),
        gib(available),
        available.saturating_sub(BYTES_BESIDE) / each / 1_000 * 1_000,
    );
    if scenario.engine == EngineKind::Sockets {
        Sources::usual("127.0.0.1:80".parse()?, scenario.subscribers).check(scenario.subscribers)?;
    }
    // Both ends of a connection are open files. Root is not held to the limit.
    if !nix::unistd::geteuid().is_root() {
        let files_max = number("/proc/sys/fs/file-max").unwrap_or(u64::MAX);
        let files = 2 * subscribers;
        ensure!(files < files_max, "{files} open files are more than fs.file-max = {files_max} permits: raise it");
    }
    // No rule asks for tracking in the namespace that the xdp engine makes.
    if let Some(tracked_max) = number("/proc/sys/net/netfilter/nf_conntrack_max")
        && scenario.engine == EngineKind::Sockets
        && is_loopback_tracked()?
    {
        ensure!(
            subscribers < tracked_max,
            "{subscribers} connections are more than net.netfilter.nf_conntrack_max = {tracked_max} permits: raise it, \
             or do not track loopback"
        );
    }
    let subscriptions = f64::from(scenario.subscribers) * f64::from(scenario.subjects_per_session());
    // The average over all subjects, so that it does not matter which are popular.
    let per_s = subscriptions * scenario.messages_per_s();
    if per_s > MESSAGES_PER_CORE {
        eprintln!(
            "note: the scenario asks for {per_s:.0} messages a second; whatever the server, a core carries about \
             {MESSAGES_PER_CORE:.0} if they cannot be sent together"
        );
    }
    Ok(())
}

/// The module may be loaded although no rule asks for it: a connection shows whether it gets an entry.
fn is_loopback_tracked() -> anyhow::Result<bool> {
    let tracked = || number("/proc/sys/net/netfilter/nf_conntrack_count");
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let before = tracked();
    let _client = TcpStream::connect(listener.local_addr()?).context("cannot connect on loopback")?;
    Ok(tracked() > before)
}

/// A field of /proc/meminfo, in bytes.
fn meminfo(name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("/proc/meminfo lacks {name}"))? * 1024)
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Both ends in the kernel (9.5 KB of slab measured), the session, the swarm's client, and messages on their way.
const BYTES_PER_SUBSCRIBER: u64 = 10_500;
/// Only the server's end, and an entry of 32 bytes in place of the client's end.
const BYTES_PER_SUBSCRIBER_XDP: u64 = 5_000;
/// Per subscription of subscribers with several: the memory of the server, whichever it is, and of the swarm.
const BYTES_PER_SUBSCRIPTION: u64 = 200;
/// Ring, programs, and a reserve.
const BYTES_BESIDE: u64 = 768 << 20;
/// 5.2 µs of CPU per message that is sent alone.
const MESSAGES_PER_CORE: f64 = 190_000.0;
