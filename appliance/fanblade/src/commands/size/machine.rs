//! A machine: this one, or one that is described.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::commands::tune;
use crate::config::Bytes;

/// What a blade has to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) memory_bytes: u64,
    pub(super) cores: usize,
    /// How many of them do a worker's work, and the data path's CPUs: the sequencer's, then the workers'. As `fanblade
    /// tune` places them, if it is this machine; without CPUs nothing is pinned.
    pub(super) workers: usize,
    pub(super) cpus: Vec<usize>,
    /// None: there is no network card, or it does not say.
    pub(super) queues: Option<usize>,
    /// Where the figures are from.
    pub(super) origin: &'static str,
}

impl Machine {
    /// What is not given is looked up here.
    pub(super) fn new(
        memory_bytes: Option<u64>,
        cores: Option<usize>,
        queues: Option<usize>,
        config: Option<&Path>,
    ) -> anyhow::Result<Machine> {
        let origin = match (memory_bytes, cores, queues) {
            (None, None, None) => "found on this machine",
            (Some(_), Some(_), _) => "as given",
            _ => "in part as given, the rest found on this machine",
        };
        let placement = cores.is_none().then(|| tune::placement_here(config));
        let cores_here = placement.as_ref().map_or(0, |placement| placement.allowed);
        ensure!(cores.is_some() || cores_here > 0, "cannot read which CPUs there are; give --cores");
        Ok(Machine {
            memory_bytes: match memory_bytes {
                Some(bytes) => bytes,
                None => memory_here().context("/proc/meminfo does not say how much memory there is; give --memory")?,
            },
            cores: cores.unwrap_or(cores_here),
            workers: match (&placement, cores) {
                (Some(placement), _) => placement.workers,
                (None, cores) => fanblade_blade::workers_for(cores.unwrap_or(1)),
            },
            cpus: placement.map_or(Vec::new(), |placement| placement.cpus()),
            // The queues of this machine say nothing about another one.
            queues: queues.or_else(|| if memory_bytes.is_none() && cores.is_none() { queues_here() } else { None }),
            origin,
        })
    }
}

/// Parses `--memory`.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    // `64G` as people say it of memory.
    let spelled = match text.trim_end().char_indices().next_back() {
        Some((_, unit)) if "KMGT".contains(unit) => format!("{}iB", text.trim_end()),
        _ => text.to_owned(),
    };
    let Bytes(bytes) = Bytes::parse(&spelled)
        .map_err(|_| format!("`{text}` is not an amount of memory; write 64G, \"1.5GiB\" or bytes"))?;
    if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&bytes) {
        return Err(format!(
            "a blade's machine has from {} to {} of memory",
            Bytes(MEMORY_BYTES_MIN),
            Bytes(MEMORY_BYTES_MAX)
        ));
    }
    Ok(bytes)
}

/// Parses `--cores`.
pub(super) fn cores(text: &str) -> Result<usize, String> {
    count(text, "cores", 1)
}

/// Parses `--queues`.
pub(super) fn queues(text: &str) -> Result<usize, String> {
    count(text, "queues", 1)
}

fn count(text: &str, what: &str, least: usize) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(count) if (least..=COUNT_MAX).contains(&count) => Ok(count),
        Ok(_) => Err(format!("from {least} to {COUNT_MAX} {what}")),
        Err(_) => Err(format!("`{text}` is not a number of {what}; from {least} to {COUNT_MAX}")),
    }
}

/// The memory that this process may have: the machine's, or the limit of its control group, if that is lower.
fn memory_here() -> Option<u64> {
    let total = memory_total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group.lines().find_map(|line| line.strip_prefix("0::")).and_then(|path| {
        let limit = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?;
        limit.trim().parse::<u64>().ok()
    });
    Some(limit.map_or(total, |limit| limit.min(total)))
}

/// `MemTotal` of /proc/meminfo (proc_meminfo(5)), in bytes.
fn memory_total(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The receive queues of the card that has the most. Virtual interfaces (loopback, bridges) have no `device`.
fn queues_here() -> Option<usize> {
    let interfaces = fs::read_dir("/sys/class/net").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let queues = |interface: std::path::PathBuf| {
        let entries = fs::read_dir(interface.join("queues")).ok()?.filter_map(Result::ok);
        Some(entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-")).count())
    };
    interfaces.filter(|path| path.join("device").exists()).filter_map(queues).max().filter(|count| *count > 0)
}

/// Below this nothing is left beside the operating system.
const MEMORY_BYTES_MIN: u64 = 256 << 20;
const MEMORY_BYTES_MAX: u64 = 64 << 40;
/// Cores and queues; more is a slip of the finger.
const COUNT_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_people_write_it() {
        assert_eq!(memory("64G"), Ok(64 << 30));
        assert_eq!(memory("1.5GiB"), Ok(3 << 29));
        assert_eq!(memory("2 T"), Ok(2 << 40));
        assert_eq!(memory("512M"), Ok(512 << 20));
        assert_eq!(memory("1000000000"), Ok(1_000_000_000));
        for (wrong, told) in [
            ("", "is not an amount of memory"),
            ("much", "`much` is not an amount of memory; write 64G"),
            ("-1G", "is not an amount"),
            ("0", "from 256 MiB to 65536 GiB"),
            ("64", "from 256 MiB"),
            ("100000T", "from 256 MiB to"),
            ("99999999999999999999G", "is not an amount"),
        ] {
            let error = memory(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
        assert_eq!(memory_total("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        assert_eq!(memory_total("MemTotal: x kB\n"), None);
    }

    #[test]
    fn counts_have_bounds() {
        assert_eq!(cores("32"), Ok(32));
        assert_eq!(cores("0").unwrap_err(), "from 1 to 4096 cores");
        assert_eq!(cores("100000").unwrap_err(), "from 1 to 4096 cores");
        assert_eq!(queues("eight").unwrap_err(), "`eight` is not a number of queues; from 1 to 4096");
    }

    #[test]
    fn this_machine_has_memory_and_cores() {
        let machine = Machine::new(None, None, None, None).unwrap();
        assert!(machine.memory_bytes > 64 << 20 && machine.cores > 0, "{machine:?}");
    }
}
