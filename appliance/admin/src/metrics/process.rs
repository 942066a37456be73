//! `process_*`: the usual metrics of the process, read from /proc.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::out::Out;

/// The metrics of this process.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        // Without /proc there are no such metrics.
        if let Some(figures) = figures() {
            let Figures { cpu_seconds, start_seconds, virtual_bytes, resident_bytes } = figures;
            out.counter("process_cpu_seconds", "CPU time, user and system, of all threads.", cpu_seconds)?;
            out.gauge_f64("process_start_time_seconds", "Start, since the Unix epoch.", start_seconds)?;
            out.gauge("process_virtual_memory_bytes", "Address space in use.", &[], virtual_bytes)?;
            out.gauge("process_resident_memory_bytes", "Memory in use.", &[], resident_bytes)?;
        }
        // The size of the directory is the number of descriptors (since Linux 6.2), which spares listing them all.
        if let Some(open) = fs::metadata("/proc/self/fd").ok().map(|fds| fds.size()).filter(|open| *open > 0) {
            out.gauge("process_open_fds", "Descriptors open.", &[], open)?;
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            out.gauge("process_max_fds", "Descriptors that may be open.", &[], soft)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Figures {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

/// Parsed from the fields of proc_pid_stat(5), and from the time at which the machine was started.
fn figures() -> Option<Figures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in brackets, which may hold anything.
    let fields: Vec<u64> =
        stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // Fields are numbered from 1 in the man page; the state is number 3.
    let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
    let per =
        |name| sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    let (ticks, page) = (per(SysconfVar::CLK_TCK)? as f64, per(SysconfVar::PAGE_SIZE)?);
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Figures {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        start_seconds: boot + field(22)? as f64 / ticks,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_of_this_process() {
        let figures = figures().unwrap();
        let now = fanblade_feed::UnixNs::now().0 as f64 / 1e9;
        // The clock may have been set since the machine was started.
        assert!((now - 86_400.0..now + 60.0).contains(&figures.start_seconds), "{figures:?}");
        assert!(figures.cpu_seconds < 86_400.0, "{figures:?}");
        assert!(figures.resident_bytes > 1 << 20 && figures.virtual_bytes > figures.resident_bytes, "{figures:?}");
    }
}
