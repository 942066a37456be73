//! A network card: what `ethtool` and /sys say of it.

use std::collections::BTreeMap;

use super::host::Host;

/// A network card, or a port of one.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    pub(crate) name: String,
    pub(crate) driver: String,
    /// None: it does not say.
    pub(crate) node: Option<usize>,
    /// Whether someone has switched it on; most drivers have interrupts only then.
    pub(crate) is_up: bool,
    /// The feed comes by it, and no clients.
    pub(crate) is_feed: bool,
    pub(crate) channels: Result<Channels, String>,
    pub(crate) rings: Result<Rings, String>,
    /// Whether the card delays interrupts by itself, and by how many µs (`rx-usecs`).
    pub(crate) coalescing: Result<(bool, u64), String>,
    /// How many entries of the table that spreads flows name each queue.
    pub(crate) spread: Result<BTreeMap<usize, usize>, String>,
    /// Queues as they are now.
    pub(crate) tx_queues: usize,
    pub(crate) rx_queues: usize,
    pub(crate) interrupts: Vec<Interrupt>,
}

/// How many queues a card has, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) now: u64,
    pub(crate) max: u64,
    /// Receiving and sending queues have numbers of their own, not one number of pairs.
    pub(crate) is_separate: bool,
}

/// Entries in each ring: receiving, sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rings {
    pub(crate) now: (u64, u64),
    pub(crate) max: (u64, u64),
}

/// An interrupt of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupt {
    pub(crate) number: u32,
    pub(crate) queue: usize,
}

pub(super) fn read(host: &Host, name: &str, interrupts: &BTreeMap<u32, String>) -> Card {
    let net = format!("/sys/class/net/{name}");
    let number = |path: &str| host.text(&format!("{net}/{path}"));
    let ask = |what: &str| host.tool("ethtool", &[what, name]);
    let flags = number("flags").and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
    let queues = host.names(&format!("{net}/queues"));
    let count = |prefix: &str| queues.iter().filter(|queue| queue.starts_with(prefix)).count();
    // A card of virtio's is a device on a PCI device, and only the latter has the interrupts.
    let vectors = ["device/msi_irqs", "device/../msi_irqs"].map(|path| host.names(&format!("{net}/{path}")));
    let vectors = vectors.into_iter().flatten().filter_map(|number| number.parse().ok());
    let of_queue = |number: u32| Some(Interrupt { number, queue: queue(interrupts.get(&number)?, name)? });
    let mut interrupts: Vec<Interrupt> = vectors.filter_map(of_queue).collect();
    interrupts.sort_by_key(|interrupt| (interrupt.queue, interrupt.number));
    interrupts.dedup();
    Card {
        name: name.to_owned(),
        driver: host.link(&format!("{net}/device/driver")).unwrap_or_else(|| "no driver".to_owned()),
        // -1: the firmware does not say.
        node: number("device/numa_node")
            .or_else(|| number("device/../numa_node"))
            .and_then(|node| node.parse::<usize>().ok()),
        is_up: flags.is_some_and(|flags| flags & IFF_UP != 0),
        is_feed: false,
        channels: ask("-l").and_then(|text| channels(&text)),
        rings: ask("-g").and_then(|text| rings(&text)),
        coalescing: ask("-c").and_then(|text| coalescing(&text)),
        spread: ask("-x").and_then(|text| spread(&text)),
        tx_queues: count("tx-"),
        rx_queues: count("rx-"),
        interrupts,
    }
}

/// The queue that an interrupt is for, by the name that its driver gave it. None: it is for something else (link
/// changes, commands). Seen: `eth0-TxRx-3`, `ice-eth0-TxRx-3`, `virtio2-input.3`, `mlx5_comp3@pci:…`, `eth0-Tx-Rx-3`,
/// `eth0-rx-3`.
fn queue(handler: &str, interface: &str) -> Option<usize> {
    let name = handler.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let stem = name.trim_end_matches(|char: char| char.is_ascii_digit());
    let queue = name[stem.len()..].parse().ok()?;
    let stem = stem.trim_end_matches(['-', '.', '_']);
    let is_queue = QUEUE_NAMES.iter().any(|ending| stem.ends_with(ending)) || stem == interface.to_ascii_lowercase();
    // The name of a card ends in a digit too: `eth0` is no queue 0 of `eth`.
    (is_queue && !NO_QUEUES.iter().any(|word| stem.contains(word)) && name != interface.to_ascii_lowercase())
        .then_some(queue)
}

/// `ethtool -l`.
fn channels(text: &str) -> Result<Channels, String> {
    let (max, now) = halves(text);
    let pick = |figures: &BTreeMap<&str, u64>, name: &str| figures.get(name).copied().unwrap_or(0);
    if let combined @ 1.. = pick(&max, "Combined") {
        return Ok(Channels { now: pick(&now, "Combined"), max: combined, is_separate: false });
    }
    let of = |figures| pick(figures, "RX").min(pick(figures, "TX"));
    match of(&max) {
        0 => Err("the driver names no number of queues".to_owned()),
        separate => Ok(Channels { now: of(&now), max: separate, is_separate: true }),
    }
}

/// `ethtool -g`.
fn rings(text: &str) -> Result<Rings, String> {
    let (max, now) = halves(text);
    let both = |figures: &BTreeMap<&str, u64>| Some((*figures.get("RX")?, *figures.get("TX")?));
    match (both(&now), both(&max)) {
        (Some(now), Some(max)) => Ok(Rings { now, max }),
        _ => Err("the driver names no sizes of rings".to_owned()),
    }
}

/// `ethtool -c`.
fn coalescing(text: &str) -> Result<(bool, u64), String> {
    let value = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let usecs = value("rx-usecs:").and_then(|usecs| usecs.parse().ok());
    let adaptive = value("Adaptive RX:").is_some_and(|adaptive| adaptive.starts_with("on"));
    usecs.map(|usecs| (adaptive, usecs)).ok_or_else(|| "the driver names no rx-usecs".to_owned())
}

/// `ethtool -x`: lines such as `8: 0 1 2 3`.
fn spread(text: &str) -> Result<BTreeMap<usize, usize>, String> {
    let table = text.split("RSS hash key").next().unwrap_or_default();
    let mut spread = BTreeMap::new();
    for (_, queues) in table.lines().skip(1).filter_map(|line| line.split_once(':')) {
        for queue in queues.split_whitespace().filter_map(|queue| queue.parse().ok()) {
            *spread.entry(queue).or_insert(0) += 1;
        }
    }
    if spread.is_empty() { Err("the card has no table that spreads flows".to_owned()) } else { Ok(spread) }
}

/// The figures before and after the line `Current hardware settings:`; `n/a` is none.
fn halves(text: &str) -> (BTreeMap<&str, u64>, BTreeMap<&str, u64>) {
    fn figures(text: &str) -> BTreeMap<&str, u64> {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.filter_map(|(name, value)| Some((name.trim(), value.trim().parse().ok()?))).collect()
    }
    let (max, now) = text.split_once("Current hardware settings").unwrap_or((text, ""));
    (figures(max), figures(now))
}

/// How drivers' names of queues end, in lower case.
const QUEUE_NAMES: [&str; 10] = ["txrx", "tx-rx", "rxtx", "input", "output", "comp", "rx", "tx", "fp", "ntfy-blk"];
/// What is in the name of an interrupt that has a number and is no queue's.
const NO_QUEUES: [&str; 4] = ["fdir", "xdp", "async", "config"];
/// The interface is switched on (net/if.h).
const IFF_UP: u32 = 1;
