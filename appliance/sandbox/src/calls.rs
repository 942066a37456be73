//! The system calls of a worker's thread, each with its reason.

use libc::c_long;
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// A system call that is permitted.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its number on this processor.
    pub number: c_long,
    /// When it is needed.
    pub need: Need,
    /// What for.
    pub reason: &'static str,
}

/// When a call is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// At any time.
    Always,
    /// Never with PROT_EXEC, which its third argument tells: memory that is written is not run.
    WithoutExecution,
    /// With this first argument, and no other.
    Only(u32),
    /// While the thread may need further io_urings.
    MoreRings,
}

impl Need {
    /// What the call's arguments must be, as alternatives; empty: anything. `None`: the call is not permitted.
    pub(crate) fn conditions(self, more_rings: bool) -> Result<Option<Vec<SeccompRule>>, BackendError> {
        Ok(match self {
            Self::Always => Some(Vec::new()),
            Self::MoreRings => more_rings.then(Vec::new),
            Self::Only(first) => {
                let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, first.into())?;
                Some(vec![SeccompRule::new(vec![condition])?])
            }
            Self::WithoutExecution => {
                let not_executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into());
                let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, not_executable, 0)?;
                Some(vec![SeccompRule::new(vec![condition])?])
            }
        })
    }
}

const fn always(number: c_long, reason: &'static str) -> Call {
    Call { number, need: Need::Always, reason }
}

const fn more_rings(number: c_long, reason: &'static str) -> Call {
    Call { number, need: Need::MoreRings, reason }
}

const fn without_execution(number: c_long, reason: &'static str) -> Call {
    Call { number, need: Need::WithoutExecution, reason }
}

/// All that a worker's thread may call, from the moment that its engine stands to its end.
pub const CALLS: &[Call] = &[
    // The io_uring engine.
    always(libc::SYS_io_uring_enter, "submits requests and waits for what comes of them"),
    more_rings(libc::SYS_io_uring_setup, "a further ring, when the others are full"),
    more_rings(libc::SYS_io_uring_register, "the table and buffers of a further ring"),
    more_rings(libc::SYS_eventfd2, "the bell by which further rings are heard"),
    // The epoll engine.
    always(libc::SYS_epoll_ctl, "watches sockets"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_epoll_wait, "waits for sockets"),
    always(libc::SYS_epoll_pwait, "waits for sockets"),
    always(libc::SYS_epoll_pwait2, "waits for sockets"),
    always(libc::SYS_accept4, "accepts connections"),
    always(libc::SYS_recvfrom, "receives from a session"),
    always(libc::SYS_recvmsg, "receives from a session"),
    always(libc::SYS_sendto, "sends one slice to a session"),
    always(libc::SYS_sendmsg, "sends several slices to a session"),
    always(libc::SYS_shutdown, "ends one direction of a connection"),
    // Both engines.
    always(libc::SYS_close, "ends connections, and gives back what the engine held when the worker ends"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_poll, "looks whether connections wait"),
    always(libc::SYS_ppoll, "looks whether connections wait"),
    always(libc::SYS_read, "empties the eventfd of the publisher's bell"),
    always(libc::SYS_write, "rings an eventfd"),
    always(
        libc::SYS_fcntl,
        "a duplicate of that bell; debug builds look whether a descriptor is open before they close it",
    ),
    always(libc::SYS_getsockopt, "why a connection failed"),
    // Memory.
    without_execution(libc::SYS_mmap, "the allocator takes memory"),
    without_execution(libc::SYS_mprotect, "the allocator guards memory"),
    Call {
        number: libc::SYS_prctl,
        need: Need::Only(libc::PR_SET_VMA.unsigned_abs()),
        reason: "the allocator names its memory (PR_SET_VMA)",
    },
    always(libc::SYS_munmap, "the allocator gives memory back"),
    always(libc::SYS_mremap, "the allocator moves what grows"),
    always(libc::SYS_madvise, "the allocator gives pages back"),
    always(libc::SYS_brk, "glibc's allocator, which its own functions use"),
    // The thread.
    always(libc::SYS_futex, "wakes the log's thread, and ends this one"),
    always(libc::SYS_clock_gettime, "time, where the kernel has no vDSO for the clock"),
    always(libc::SYS_clock_nanosleep, "short waits"),
    always(libc::SYS_sched_yield, "short waits"),
    always(libc::SYS_restart_syscall, "a wait goes on after the process was stopped and continued"),
    always(libc::SYS_getrandom, "seeds of hash tables"),
    always(libc::SYS_gettid, "a panic names its thread"),
    always(libc::SYS_rt_sigreturn, "the end of a signal's handler, and so of a refused call"),
    always(libc::SYS_rt_sigprocmask, "the thread's end"),
    always(libc::SYS_sigaltstack, "the thread's end gives back its signal stack"),
    always(libc::SYS_exit, "the thread's end"),
    // abort(3): a second panic while the first unwinds.
    always(libc::SYS_getpid, "abort"),
    always(libc::SYS_tgkill, "abort"),
    always(libc::SYS_rt_sigaction, "abort"),
    always(libc::SYS_exit_group, "abort"),
];
