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

use fanblade_testkit::{Namespace, ip, is_root, until_up};

use super::FANBLADE;
use super::exchange::Exchange;

/// The blade's side: the thread that made this, and every process that it starts.
pub struct Network {
    exchange: Namespace,
}

impl Network {
    /// None, after printing why, where it cannot be made.
    pub fn new() -> Option<Network> {
        if !is_root("a network namespace") {
            return None;
        }
        let exchange = Namespace::new();
        Namespace::enter_new();
        for (line, number) in [("a", "1"), ("b", "2")] {
            let (near, far) = (format!("lin{line}"), format!("ex{line}"));
            ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &exchange.path()]);
            ip(&["addr", "add", &format!("10.78.{number}.2/24"), "dev", &near]);
            ip(&["link", "set", &near, "up"]);
        }
        exchange.run(|| {
            for (line, number) in [("a", "1"), ("b", "2")] {
                let far = format!("ex{line}");
                ip(&["addr", "add", &format!("10.78.{number}.1/24"), "dev", &far]);
                ip(&["link", "set", &far, "up"]);
            }
        });
        ["lina", "linb"].iter().for_each(|near| until_up(near));
        exchange.run(|| ["exa", "exb"].iter().for_each(|far| until_up(far)));
        Some(Network { exchange })
    }

    /// Starts `fanblade replay` at the exchange.
    pub fn replay(&self, args: &[&str]) -> Exchange {
        let mut command = self.exchange.command(FANBLADE);
        command.args(["replay", "--json"]).args(args);
        Exchange::spawn(command)
    }
}
