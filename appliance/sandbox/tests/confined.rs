//! What a confined thread may and may not do, tried.

use std::sync::Mutex;

use fanblade_sandbox::{CALLS, Need, confine, refusals};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// As in the blade: glibc's looks at a file before it first gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The count is the process's.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `act` in a thread that is confined first; how many calls were refused, and the newest.
fn confined(more_rings: bool, act: impl FnOnce() + Send) -> (u64, Option<String>) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = refusals().count;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            confine(more_rings).unwrap();
            act();
        });
    });
    (refusals().count - before, refusals().newest_name())
}

#[test]
fn what_is_not_permitted_is_refused_and_counted() {
    let refused = confined(true, || {
        assert_eq!(std::fs::read("/etc/passwd").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(std::net::TcpListener::bind("127.0.0.1:0").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(nix::unistd::execv(c"/bin/true", &[c"true"]), Err(Errno::EPERM));
        // The thread goes on.
        assert_eq!(std::fs::read("/etc/passwd").unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
    assert!(refused.0 >= 4, "{refused:?}");
    assert_eq!(refused.1.as_deref(), Some("openat"));
    // Others are not affected.
    assert!(std::fs::read("/etc/passwd").is_ok());
}

#[test]
fn memory_is_to_be_had_but_not_to_be_run() {
    let refused = confined(false, || {
        let page = std::num::NonZeroUsize::new(4_096).unwrap();
        let map = |flags| {
            #[expect(unsafe_code, reason = "an anonymous mapping, which nothing uses")]
            // SAFETY: no address is asked for.
            unsafe {
                mmap_anonymous(None, page, flags, MapFlags::MAP_PRIVATE)
            }
        };
        assert!(map(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).is_ok());
        assert_eq!(map(ProtFlags::PROT_READ | ProtFlags::PROT_EXEC), Err(Errno::EPERM));
        let blocks: Vec<Vec<u8>> = (0..64).map(|n| vec![1; n << 14]).collect();
        assert_eq!(blocks.iter().map(Vec::len).sum::<usize>(), (63 * 64 / 2) << 14);
    });
    assert_eq!(refused, (1, Some("mmap".to_owned())));
}

#[test]
fn a_panic_and_the_end_of_the_thread_are_permitted() {
    let refused = confined(false, || {
        let unwound = std::panic::catch_unwind(|| std::panic::panic_any(7));
        assert!(unwound.is_err());
        std::thread::sleep(std::time::Duration::from_millis(1));
        std::thread::yield_now();
    });
    // The default hook may look for a backtrace in the program's file; that is all.
    assert!(refused.0 == 0 || std::env::var_os("RUST_BACKTRACE").is_some(), "{refused:?}");
}

#[test]
fn further_io_urings_only_where_they_are_needed() {
    // SAFETY: the kernel refuses a null address itself, with EFAULT, where it is asked at all.
    #[expect(unsafe_code, reason = "a system call without a wrapper")]
    let setup = || unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    let refused = confined(false, || {
        assert_eq!((setup(), Errno::last()), (-1, Errno::EPERM));
    });
    assert_eq!(refused, (1, Some("io_uring_setup".to_owned())));
    let refused = confined(true, || {
        assert_eq!(setup(), -1);
    });
    assert_eq!(refused.0, 0);
}

#[test]
fn a_sigsys_that_somebody_sends_ends_the_process() {
    if std::env::var_os("SANDBOX_VICTIM").is_some() {
        confine(false).unwrap();
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSYS);
        return;
    }
    let this = std::env::current_exe().unwrap();
    let name = "a_sigsys_that_somebody_sends_ends_the_process";
    let ended = std::process::Command::new(this).args([name, "--exact"]).env("SANDBOX_VICTIM", "1").output().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(libc::SIGSYS), "{ended:?}");
}

#[test]
fn each_call_is_listed_once_and_has_a_reason() {
    let mut numbers: Vec<_> = CALLS.iter().map(|call| call.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), CALLS.len());
    assert!(CALLS.iter().all(|call| !call.reason.is_empty()));
    // Nothing that opens, connects, starts or looks at others.
    for forbidden in [
        libc::SYS_openat,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_execve,
        libc::SYS_clone,
        libc::SYS_ptrace,
        libc::SYS_bpf,
    ] {
        assert!(!CALLS.iter().any(|call| call.number == forbidden), "{forbidden}");
    }
    assert!(CALLS.iter().any(|call| call.need == Need::WithoutExecution));
}
