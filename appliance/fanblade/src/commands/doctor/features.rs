//! What the kernel and this process's privileges allow.

use std::fs;

use super::finding::{Finding, State};
use crate::commands::tune::{self, Host};

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![kernel(), cpus()];
    findings.push(uring());
    findings.extend(fanblade_steer::probe().into_iter().map(|check| {
        if check.is_ok {
            Finding::ok(check.name, check.found)
        } else {
            Finding::not_ok(State::Missing, check.name, check.found, "", check.cost, check.mend)
        }
    }));
    findings
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_MIN {
        return Finding::ok("kernel", format!("Linux {release}"));
    }
    let (major, minor) = KERNEL_MIN;
    Finding::not_ok(
        State::Warn,
        "kernel",
        format!("Linux {release}"),
        format!("{major}.{minor} or later"),
        "some of the features below are missing",
        "install a newer kernel",
    )
}

fn cpus() -> Finding {
    // Not this process's own: a shell is confined to the system's CPUs where `fanblade tune` has isolated the others.
    let allowed = tune::allowed(&Host::here()).len();
    if allowed >= CPUS_MIN {
        return Finding::ok("CPUs", format!("{allowed} for a blade"));
    }
    Finding::not_ok(
        State::Warn,
        "CPUs",
        format!("{allowed} for a blade"),
        format!("{CPUS_MIN} or more"),
        "sequencer, worker and control share them: no thread is pinned, and each delays the others",
        "a larger machine, or a larger CPU set (taskset, cpuset)",
    )
}

fn uring() -> Finding {
    match fanblade_net::uring_probe() {
        Ok(()) => Finding::ok("io_uring", "usable"),
        Err(error) => Finding::not_ok(
            State::Missing,
            "io_uring",
            error.to_string(),
            "",
            "the epoll engine is used: 10 to 20 % more CPU per message, and RLIMIT_NOFILE sessions at most",
            "sysctl -w kernel.io_uring_disabled=0, and a seccomp profile that admits io_uring_setup",
        ),
    }
}

/// The first kernel with everything that the blade uses: tcx came with 6.6.
const KERNEL_MIN: (u32, u32) = (6, 6);
/// Control, sequencer, one worker.
const CPUS_MIN: usize = 3;
