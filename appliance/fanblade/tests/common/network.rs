//! An exchange and a blade in network namespaces of their own, with two lines between them. The namespaces have no
//! names: they end with the threads, descriptors and processes that are in them, however a test ends.
//!
//! ```text
//! exchange: exa 10.78.1.1 ══ line A ══ 10.78.1.2 lina :blade (the test's own thread)
//!           exb 10.78.2.1 ══ line B ══ 10.78.2.2 linb
//! ```
#![allow(
    dead_code,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

use super::PATIENCE;
use super::exchange::Exchange;

/// The blade's side is the thread that made this, and every process that it starts.
pub struct Network {
    exchange: File,
}

impl Network {
    /// None, and a line that says so, where it cannot be made.
    pub fn new() -> Option<Network> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let exchange = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let network = Network { exchange: exchange.join().unwrap() };
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let exchange = format!("/proc/{}/fd/{}", std::process::id(), network.exchange.as_raw_fd());
        ip(&["link", "set", "lo", "up"]);
        for (line, number) in [("a", "1"), ("b", "2")] {
            let (near, far) = (format!("lin{line}"), format!("ex{line}"));
            ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &exchange]);
            ip(&["addr", "add", &format!("10.78.{number}.2/24"), "dev", &near]);
            ip(&["link", "set", &near, "up"]);
        }
        network.at_exchange(|| {
            ip(&["link", "set", "lo", "up"]);
            for (line, number) in [("a", "1"), ("b", "2")] {
                let far = format!("ex{line}");
                ip(&["addr", "add", &format!("10.78.{number}.1/24"), "dev", &far]);
                ip(&["link", "set", &far, "up"]);
            }
        });
        ["lina", "linb"].iter().for_each(|near| until_up(near));
        network.at_exchange(|| ["exa", "exb"].iter().for_each(|far| until_up(far)));
        Some(network)
    }

    /// Runs a closure on a thread at the exchange.
    pub fn at_exchange<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.exchange.try_clone().unwrap();
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

    /// Starts `fanblade replay` at the exchange.
    pub fn replay(&self, args: &[&str]) -> Exchange {
        self.at_exchange(|| Exchange::start(args))
    }
}

/// Waits until an interface takes packets. The kernel drops them in silence from the moment that an interface is set
/// up until a worker of its own has seen the carrier and made the queue, which takes a busy machine some time.
/// Asking by netlink waits for that worker's lock: what says UP has its queue.
fn until_up(interface: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = ip(&["-o", "link", "show", "dev", interface]);
        if shown.contains(" state UP ") {
            return;
        }
        assert!(Instant::now() < deadline, "{shown}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("`ip` of iproute2");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
