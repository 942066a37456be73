//! Counts calls that were refused, and has them return EPERM.
#![expect(unsafe_code, reason = "a signal's handler, which reads and writes the registers of what it interrupted")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use libc::{c_int, c_long, c_void, siginfo_t, ucontext_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The system calls that were refused in this process so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// The number of the newest; none if there was none.
    pub newest: Option<i64>,
}

impl Refusals {
    /// The newest call's name, or its number where it has none.
    #[must_use]
    pub fn newest_name(&self) -> Option<String> {
        self.newest.map(|number| {
            let known = usize::try_from(number).ok().and_then(syscalls::Sysno::new);
            known.map_or_else(|| number.to_string(), |call| call.name().to_owned())
        })
    }
}

/// What was refused so far.
#[must_use]
pub fn refusals() -> Refusals {
    let newest = NEWEST.load(Relaxed);
    Refusals { count: COUNT.load(Relaxed), newest: (newest >= 0).then_some(newest) }
}

static COUNT: AtomicU64 = AtomicU64::new(0);
static NEWEST: AtomicI64 = AtomicI64::new(-1);

/// Has SIGSYS handled, once for the process.
pub(crate) fn handle() -> Result<(), nix::Error> {
    static HANDLED: OnceLock<Result<(), nix::Error>> = OnceLock::new();
    *HANDLED.get_or_init(|| {
        // SA_NODEFER: no call of the handler is refused, but if one were, it would be a refusal like others and not
        // the end of the process.
        let flags = SaFlags::SA_SIGINFO | SaFlags::SA_NODEFER | SaFlags::SA_RESTART;
        let action = SigAction::new(SigHandler::SigAction(refused), flags, SigSet::empty());
        // SAFETY: the handler calls nothing that is not safe there (signal-safety(7)): two atomic words, and for a
        // SIGSYS that is not the filter's, signal(2) and raise(3).
        unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop)
    })
}

/// The filter's SIGSYS: the call was not made. At its return the thread finds EPERM where the call's result would be.
extern "C" fn refused(_signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes both, for as long as the handler runs.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<ucontext_t>()) };
    if info.si_code != SYS_SECCOMP {
        // Somebody has sent it. Without a handler it ends the process.
        // SAFETY: both may be called in a handler (signal-safety(7)).
        unsafe {
            libc::signal(libc::SIGSYS, libc::SIG_DFL);
            libc::raise(libc::SIGSYS);
        }
        return;
    }
    NEWEST.store(replace_result(context), Relaxed);
    COUNT.fetch_add(1, Relaxed);
}

/// Puts EPERM where the call's result is expected; returns the call's number. The kernel shows the registers as they
/// were at the call (seccomp(2), SECCOMP_RET_TRAP).
#[cfg(target_arch = "x86_64")]
fn replace_result(context: &mut ucontext_t) -> i64 {
    let [result] = &mut context.uc_mcontext.gregs[libc::REG_RAX as usize..=libc::REG_RAX as usize] else { return -1 };
    std::mem::replace(result, REFUSED)
}

#[cfg(target_arch = "aarch64")]
fn replace_result(context: &mut ucontext_t) -> i64 {
    let [result, .., number] = &mut context.uc_mcontext.regs[0..=8] else { return -1 };
    *result = REFUSED.cast_unsigned();
    number.cast_signed()
}

const REFUSED: c_long = -(libc::EPERM as c_long);
/// `SYS_SECCOMP` of asm-generic/siginfo.h.
const SYS_SECCOMP: c_int = 1;
