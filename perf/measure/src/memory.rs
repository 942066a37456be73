//! Memory of a process, and of the kernel.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

/// Memory of a process that is its own, in bytes. The ring of frames (a memfd) and the program's file are shared, and
/// do not grow with the sessions.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct UserMemory {
    /// Anonymous pages, by smaps, which is exact.
    pub anonymous: u64,
    /// The queues of its io_urings, which are mapped; no figure of the kernel's memory counts them.
    pub io_uring: u64,
    /// `RssAnon` of /proc/PID/status, for comparison: it lags behind by some pages.
    pub rss_anon: u64,
    /// `Pss` of smaps_rollup, ring and program included.
    pub pss: u64,
}

impl UserMemory {
    /// Reads it for a process, whose /proc files must be readable.
    pub fn of(pid: u32) -> anyhow::Result<UserMemory> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let (mut anonymous, mut io_uring) = (0, 0);
        let mut mapping = String::new();
        for line in read("smaps")?.lines() {
            match line.split_once(':') {
                Some(("Anonymous", _)) if !mapping.contains("/memfd:") => anonymous += kib(line),
                Some(("Rss", _)) if mapping.contains("[io_uring]") => io_uring += kib(line),
                // `7f…-7f… rw-p 00000000 00:00 0   [heap]`
                Some((start, _)) if start.contains('-') => mapping = line.to_owned(),
                _ => {}
            }
        }
        let field =
            |text: &str, name: &str| text.lines().find(|line| line.split(':').next() == Some(name)).map_or(0, kib);
        let (rss_anon, pss) = (field(&read("status")?, "RssAnon"), field(&read("smaps_rollup")?, "Pss"));
        Ok(UserMemory { anonymous, io_uring, rss_anon, pss })
    }
}

/// Memory of the whole machine, in bytes.
#[derive(Debug, Clone)]
pub struct KernelMemory {
    /// What programs may still take: `MemAvailable`.
    pub available: u64,
    /// All slab caches.
    pub slab: u64,
    /// The size of each cache, if we may read it.
    pub caches: BTreeMap<String, u64>,
    /// The objects in use in each cache, if we may read it. If every other object has been freed, the caches stay as
    /// large as they were.
    pub objects: u64,
    /// Bytes queued in TCP sockets.
    pub tcp_queues: u64,
}

impl KernelMemory {
    /// Reads it.
    pub fn now() -> anyhow::Result<KernelMemory> {
        let meminfo = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let field = |name: &str| meminfo.lines().find(|line| line.split(':').next() == Some(name)).map_or(0, kib);
        // Only root may read it.
        let slabinfo = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let (mut caches, mut objects) = (BTreeMap::new(), 0);
        for line in slabinfo.lines() {
            // name, active_objs, num_objs, objsize, …
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
            if let (Some(active), Some(all), Some(size)) = (number(1), number(2), number(3)) {
                caches.insert(words[0].to_owned(), all * size);
                objects += active * size;
            }
        }
        let sockstat = std::fs::read_to_string("/proc/net/sockstat").context("cannot read /proc/net/sockstat")?;
        // `TCP: inuse 6 orphan 0 tw 0 alloc 6 mem 0`, in pages.
        let tcp = sockstat.lines().find(|line| line.starts_with("TCP:"));
        let pages = tcp.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        Ok(KernelMemory {
            available: field("MemAvailable"),
            slab: field("Slab"),
            caches,
            objects,
            tcp_queues: pages * 4096,
        })
    }
}

/// `Name:   123 kB`, in bytes.
fn kib(line: &str) -> u64 {
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
