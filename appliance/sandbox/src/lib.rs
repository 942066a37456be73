//! What a worker's thread may ask of the kernel.
//!
//! A worker reads what strangers send. Once its engine stands, its thread needs few system calls: it waits, sends,
//! accepts, and manages memory. [`confine`] has the kernel refuse all others to the calling thread, for good
//! (seccomp(2)). A refused call does not happen: it returns EPERM, is counted, and the blade logs its name.
//!
//! The filter stays with the thread; threads that it would start inherit it. Other threads are not affected. A refused
//! call while SIGSYS is blocked ends the process, as the kernel has it: glibc blocks all signals while it starts a
//! program, which no worker does.

mod calls;
mod refusals;

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{SeccompAction, SeccompFilter, SeccompRule, TargetArch};

pub use calls::{CALLS, Call, Need};
pub use refusals::{Refusals, refusals};

/// Why a thread could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no filter for this kind of processor.
    #[error("there is no system call filter for {}", std::env::consts::ARCH)]
    Processor,
    /// The filter could not be made: a mistake in [`CALLS`].
    #[error("the system call filter is invalid: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel has not taken it.
    #[error("the kernel does not take the system call filter (CONFIG_SECCOMP_FILTER): {0}")]
    Kernel(#[from] seccompiler::Error),
    /// Nobody would hear of refused calls.
    #[error("cannot handle SIGSYS: {0}")]
    Signal(#[from] nix::Error),
}

/// From here on, the calling thread is refused all system calls but [`CALLS`].
///
/// `more_rings`: whether the thread will make further io_urings. What a thread asks of an io_uring passes no filter of
/// system calls, so that one that need not make any may not.
///
/// # Errors
/// If there is no filter for this processor, or the kernel does not take it. The thread then goes on unconfined.
pub fn confine(more_rings: bool) -> Result<(), SandboxError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| SandboxError::Processor)?;
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    for call in CALLS {
        if let Some(conditions) = call.need.conditions(more_rings)? {
            rules.insert(call.number, conditions);
        }
    }
    refusals::handle()?;
    count_cpus();
    let filter = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, arch)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// glibc opens a file to count the CPUs when a thread first allocates by it, which its own functions do even where the
/// program has another allocator. That is over after this.
#[expect(unsafe_code, reason = "glibc's allocator itself")]
fn count_cpus() {
    // SAFETY: what is allocated is freed, and nothing else.
    unsafe { libc::free(std::hint::black_box(libc::malloc(1))) };
}
