//! Networks of a test's own.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use crate::wait::until;

/// A network namespace. It has no name, so that it ends with the threads, descriptors and processes that use it,
/// however a test ends.
pub struct Namespace(File);

impl Namespace {
    /// Makes a namespace that has only `lo`, which is up. Needs root.
    pub fn new() -> Namespace {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = Namespace(made.join().unwrap());
        namespace.run(|| ip(&["link", "set", "lo", "up"]));
        namespace
    }

    /// Makes a namespace for this thread, and for all threads and processes that the thread starts.
    pub fn enter_new() -> Namespace {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip(&["link", "set", "lo", "up"]);
        Namespace(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// The path by which `ip` and `nsenter` find the namespace, for as long as `self` lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs a closure on a thread within the namespace: its sockets belong to the namespace. Children that the thread
    /// starts end with it; for children that live longer there is [`Namespace::command`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.0.try_clone().unwrap();
        let result = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `ip` within the namespace, and returns its output.
    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) -> String {
        self.run(|| ip(arguments))
    }

    /// A command that runs this program within the namespace, as a child of the calling thread.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Namespace::new()
    }
}

/// May this process make namespaces and load kernel programs? If not, prints the line that says so.
pub fn is_root(what: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("skipped: {what} needs root");
    }
    is_root
}

/// Waits until an interface of this thread's namespace takes packets. After an interface is set up, the kernel silently
/// drops its packets until a kernel worker has seen the carrier and made the queue, which takes a busy machine some
/// time. A netlink query waits for that worker's lock: an interface that the query reports as UP has its queue.
pub fn until_up(interface: &str) {
    until(interface, || ip(&["-o", "link", "show", "dev", interface]).contains(" state UP ").then_some(()));
}

/// Runs `ip` in this thread's namespace, and returns its output.
///
/// # Panics
///
/// `ip` fails.
#[track_caller]
pub fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("`ip` of iproute2");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
