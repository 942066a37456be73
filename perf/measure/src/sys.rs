//! System calls for children and threads of a measurement that the standard library does not offer.

#![expect(unsafe_code, reason = "scheduling, and what a child does between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Makes the child run on these CPUs only (none: on any), and end when this process ends, however it ends.
pub fn tie(command: &mut Command, cpus: &[usize]) -> anyhow::Result<()> {
    tie_with(command, cpus, Signal::SIGKILL)
}

/// The same with a signal of the caller's choice, for a child that must end its own children.
pub fn tie_with(command: &mut Command, cpus: &[usize], end: Signal) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
    let is_pinned = !cpus.is_empty();
    // SAFETY: between fork and exec only system calls are made; nothing is allocated, no lock is taken.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(end)?;
            if is_pinned {
                sched_setaffinity(Pid::from_raw(0), &set)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// Pins this thread to a CPU.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    fanblade_net::affinity::pin_thread(cpu).with_context(|| format!("cannot pin to CPU {cpu}"))
}

/// Gives this thread precedence over all ordinary ones, and wakes it on time. Needs a privilege.
pub fn run_first() -> io::Result<()> {
    // Nanoseconds that the kernel may be late; 50,000 by default.
    prctl::set_timerslack(1)?;
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a local, and 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives all ordinary threads precedence over this one, if there are not enough CPUs.
pub fn run_behind() -> io::Result<()> {
    // SAFETY: a call with numbers only; on Linux 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
