//! A network that only the machine and its clients have: a tap with several queues in a namespace.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use anyhow::Context as _;
use fanblade_testkit::{Namespace, until_up};

/// The namespace, with the tap in it.
pub(super) struct Network(Namespace);

impl Network {
    pub(super) fn new() -> Network {
        let namespace = Namespace::new();
        namespace.ip(&["tuntap", "add", "dev", TAP, "mode", "tap", "multi_queue"]);
        namespace.ip(&["addr", "add", &format!("{HOST}/24"), "dev", TAP]);
        namespace.ip(&["link", "set", TAP, "up"]);
        Network(namespace)
    }

    /// QEMU's arguments for a card with as many queues as processors.
    pub(super) fn arguments(queues: u32) -> Vec<String> {
        vec![
            "-netdev".to_owned(),
            format!("tap,id=n0,ifname={TAP},script=no,downscript=no,queues={queues}"),
            "-device".to_owned(),
            // For each queue a vector to send and one to receive, one for the configuration, one for control.
            format!("virtio-net-pci,netdev=n0,mq=on,vectors={}", 2 * queues + 2),
        ]
    }

    /// Gives the machine its address, without DHCP.
    pub(super) fn credential() -> (String, String) {
        let text = format!("[Match]\nType=ether\n[Network]\nAddress={GUEST}/24\nLinkLocalAddressing=ipv6\n");
        ("network.network.10-trial".to_owned(), text)
    }

    /// Calls a closure whose sockets and children belong to the namespace. Children end with the thread that calls it.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.run(work)
    }

    /// Waits until the tap takes packets: QEMU has opened it.
    pub(super) fn until_up(&self) {
        self.run(|| until_up(TAP));
    }

    /// Runs a client to its end.
    pub(super) fn output(&self, command: &mut Command) -> anyhow::Result<Output> {
        let line = crate::child::line(command);
        self.run(|| command.output()).with_context(|| format!("starting `{line}`"))
    }
}

const TAP: &str = "tap0";
const HOST: &str = "10.99.0.1";
/// The machine's address.
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
