//! Stops one thread of another process, as a lock, a file or the scheduler would, and lets it go on later.

#![expect(unsafe_code, reason = "ptrace is the one way to stop a single thread")]

use fanblade_testkit::{PATIENCE, until};
use std::time::{Duration, Instant};

/// A thread that stands still until this is dropped. Only the test thread that made it may use it.
pub struct Still {
    tid: libc::pid_t,
    is_first: bool,
}

impl Still {
    /// Stops a thread of our child by its name; the first thread of a process has the program's name.
    pub fn new(pid: u32, name: &str) -> Still {
        let comm = |tid: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
        // A thread gives itself its name, once it first runs.
        let tid = until(&format!("a thread named {name}"), || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let mut tids = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
            tids.find(|tid| comm(tid).trim_end() == name)
        });
        let tid: libc::pid_t = tid.parse().unwrap();
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request reads or writes through an address.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, null, null) };
        assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: as above.
        let interrupted = unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, null, null) };
        assert_eq!(interrupted, 0, "{}", std::io::Error::last_os_error());
        let deadline = Instant::now() + PATIENCE;
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        while unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) } != tid {
            assert!(Instant::now() < deadline, "{name} does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        Still { tid, is_first: tid.cast_unsigned() == pid }
    }
}

impl Still {
    /// Collects the thread's end: until then the process has not ended for its parent either.
    pub fn reap(&self) {
        // The first thread's end is that of the process, for which the parent waits anyway.
        if self.is_first {
            return;
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        unsafe { libc::waitpid(self.tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request does not read or write through an address.
        let is_detached = unsafe { libc::ptrace(libc::PTRACE_DETACH, self.tid, null, null) } == 0;
        if is_detached || self.is_first {
            return;
        }
        // A thread that is ending cannot be detached. Collect its end, or a wait for its process never returns.
        let deadline = Instant::now() + PATIENCE;
        let mut status = 0;
        // SAFETY: `status` outlives the call. On an error the end was collected already.
        while unsafe { libc::waitpid(self.tid, &raw mut status, libc::__WALL | libc::WNOHANG) } == 0
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether this process may stop threads of its children.
pub fn can_trace() -> bool {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let tid = libc::pid_t::try_from(child.id()).unwrap();
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the request does not read or write through an address.
    let is_allowed = unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, null, null) } == 0;
    child.kill().unwrap();
    child.wait().unwrap();
    if !is_allowed {
        println!("skipped: this process may not trace its children");
    }
    is_allowed
}
