//! A network that only the machine and its clients have: a tap with several queues in a namespace.

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;

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

    /// Connections to a port of 127.0.0.1 go on to a port of the machine, for as long as this process runs.
    pub(super) fn forward(self: &Arc<Self>, port: u16, to: u16) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("listening on 127.0.0.1:{port}: take another --port"))?;
        let network = Arc::clone(self);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let network = Arc::clone(&network);
                std::thread::spawn(move || {
                    // The machine may not be up yet: the client sees its connection end.
                    let far = network.run(|| TcpStream::connect((GUEST, to)))?;
                    let (near_reader, far_reader) = (near.try_clone()?, far.try_clone()?);
                    let back = std::thread::spawn(move || copy(far_reader, near));
                    copy(near_reader, far);
                    drop(back.join());
                    std::io::Result::Ok(())
                });
            }
        });
        Ok(())
    }

    /// Runs a client to its end.
    pub(super) fn output(&self, command: &mut Command) -> anyhow::Result<Output> {
        let line = crate::child::line(command);
        self.run(|| command.output()).with_context(|| format!("starting `{line}`"))
    }
}

/// Copies until the one side has said all, and tells the other.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// The interface on this side.
pub(super) const TAP: &str = "tap0";
const HOST: &str = "10.99.0.1";
/// The machine's address.
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
