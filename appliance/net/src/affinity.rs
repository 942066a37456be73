//! Which CPU a thread runs on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Pins the calling thread to one CPU.
pub fn pin_thread(cpu: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The CPUs that the calling thread may run on, in order.
pub fn cpus_allowed() -> std::io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_one_cpu() {
        let cpu = *cpus_allowed().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin_thread(cpu).unwrap();
            assert_eq!(cpus_allowed().unwrap(), [cpu]);
            assert!(pin_thread(CpuSet::count()).is_err());
        })
        .join()
        .unwrap();
    }
}
