//! CPU time of processes.

use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// CPU time of processes, all threads, user and system. On loopback it includes their softirq work: what a send
/// triggers is done before the call returns, and charged to the caller.
pub fn cpu_time(pids: &[u32]) -> anyhow::Result<Duration> {
    let of = |pid: &u32| Ok(Duration::from(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?));
    pids.iter().map(of).sum::<anyhow::Result<Duration>>()
}

/// The same, once none of their threads runs. The kernel has not counted a running thread's time since its last tick
/// (`thread_group_cputime`), and a client may have the last message before the call that sent it returns.
pub fn cpu_time_at_rest(pids: &[u32]) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while started.elapsed() < TICK_MAX && any_runs(pids)? {
        std::thread::sleep(REST_LOOKS);
    }
    cpu_time(pids)
}

fn any_runs(pids: &[u32]) -> anyhow::Result<bool> {
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // `PID (NAME) STATE …` (proc(5)); a thread that has ended meanwhile has none, and does not run.
            let stat = std::fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
            if stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('R')) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Within this time a thread that goes on running has had a tick (`CONFIG_HZ` is 100 at least).
const TICK_MAX: Duration = Duration::from_millis(20);
const REST_LOOKS: Duration = Duration::from_micros(100);
