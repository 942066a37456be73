//! Where io_uring is forbidden, `uring()` says so. A binary of its own, because the filter stays with its thread.

mod support;

use fanblade_net::{EngineConfig, ListenOptions, NetError, listen, uring, uring_probe};
use nix::libc;

#[test]
fn a_forbidden_io_uring_is_a_clear_error() {
    // A thread of its own: it keeps the filter until it ends.
    std::thread::spawn(|| {
        forbid_io_uring();
        let listener = listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let error = uring(listener, &EngineConfig { sessions_max: 1, waker: None }).err().unwrap();
        assert!(matches!(error, NetError::UringForbidden { .. }), "{error}");
        assert!(error.to_string().contains("kernel.io_uring_disabled"), "{error}");
        assert!(uring_probe().is_err());
    })
    .join()
    .unwrap();
    uring_probe().unwrap();
}

/// Installs a seccomp filter that answers io_uring_setup with EPERM, as container runtimes do.
#[expect(unsafe_code, reason = "prctl with a filter")]
fn forbid_io_uring() {
    let code = |code: u32| u16::try_from(code).unwrap();
    let filter = [
        // The system call's number, the first field of seccomp_data.
        libc::sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: 0 },
        libc::sock_filter {
            code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            jt: 0,
            jf: 1,
            k: u32::try_from(libc::SYS_io_uring_setup).unwrap(),
        },
        libc::sock_filter {
            code: code(libc::BPF_RET | libc::BPF_K),
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        },
        libc::sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its filter outlive the calls, which copy them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}
