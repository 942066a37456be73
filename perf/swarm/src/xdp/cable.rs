//! The way to the server: a veth pair in this network namespace. The server's end has its address, and the route to all
//! subscribers; the other end has none, because only the program uses it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, unshare};

use super::mac::Mac;

/// Both ends; dropping this removes them.
#[derive(Debug)]
pub struct Cable(());

impl Cable {
    /// Lays a cable in the present namespace, to a server that will listen on this address.
    pub(crate) fn lay(server: Ipv4Addr) -> anyhow::Result<Cable> {
        require_root()?;
        // Each segment alone, as on a wire: the program cannot read joined ones.
        let one = ["gso_max_segs", "1"];
        let (server_mac, client_mac) = (SERVER_MAC.to_string(), CLIENT_MAC.to_string());
        let ends = [
            &["link", "add", SERVER_END, "address", &server_mac][..],
            &one,
            &["type", "veth", "peer", "name", CLIENT_END, "address", &client_mac],
            &one,
        ];
        ip(&ends.concat())?;
        let cable = Cable(());
        for end in [SERVER_END, CLIENT_END] {
            ip(&["link", "set", end, "addrgenmode", "none"])?;
            ip(&["link", "set", end, "up"])?;
            // A veth takes 256 packets at a time. With a queue before it, the rest of a sender's burst waits; without
            // one, the rest is dropped, and sent again by a timer, in a burst (Linux 6.16 and later).
            run("tc", &["qdisc", "add", "dev", end, "root", "pfifo", "limit", QUEUE_PACKETS])?;
        }
        for end in [SERVER_END, CLIENT_END] {
            until_up(end)?;
        }
        let gateway = GATEWAY.to_string();
        ip(&["addr", "add", &format!("{server}/32"), "dev", SERVER_END])?;
        ip(&["neigh", "add", &gateway, "lladdr", &client_mac, "dev", SERVER_END, "nud", "permanent"])?;
        let clients = format!("{CLIENTS_FIRST}/{CLIENTS_PREFIX}");
        ip(&["route", "add", &clients, "via", &gateway, "dev", SERVER_END, "onlink", "src", &server.to_string()])?;
        Ok(cable)
    }

    /// Lays a cable in a network namespace that only this process and the children that it starts from now on have. The
    /// namespace goes with the last of them, however they end.
    pub fn lay_apart(server: Ipv4Addr) -> anyhow::Result<Cable> {
        require_root()?;
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        ip(&["link", "set", "lo", "up"])?;
        Cable::lay(server)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The other end is deleted with it.
        let _ = ip(&["link", "del", SERVER_END]);
    }
}

pub(crate) fn require_root() -> anyhow::Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    ensure!(is_root, "the xdp engine needs root: it makes network interfaces and loads a program into the kernel");
    Ok(())
}

/// Segments that the kernel has sent again in this namespace since its creation.
pub(super) fn segments_retransmitted() -> anyhow::Result<u64> {
    let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = lines.next().zip(lines.next()).context("/proc/net/snmp lacks Tcp")?;
    let at = names.split(' ').position(|name| name == "RetransSegs");
    let value = at.and_then(|at| values.split(' ').nth(at)?.parse().ok());
    value.context("/proc/net/snmp lacks RetransSegs")
}

/// Waits until an end takes packets. From the moment that an interface is set up, the kernel drops packets in silence
/// until one of its workers has seen the carrier and made the queue, which takes a busy machine some time. Asking by
/// netlink waits for that worker's lock: an interface that says UP has its queue.
fn until_up(end: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + UP_MAX;
    loop {
        let shown = run("ip", &["-o", "link", "show", "dev", end])?;
        if shown.contains(" state UP ") {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the interface {end} is not up after {} s: {}",
            UP_MAX.as_secs(),
            shown.trim()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run("ip", arguments).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let line = arguments.join(" ");
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run `{program}`, a program of iproute2"))?;
    ensure!(output.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where the server of a scenario listens.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 63, 0, 1);
pub(crate) const SERVER_END: &str = "fanblade0";
/// The client's interface.
pub const CLIENT_END: &str = "fanblade1";
pub(super) const SERVER_MAC: Mac = Mac([0x02, 0xfa, 0, 0, 0, 1]);
pub(super) const CLIENT_MAC: Mac = Mac([0x02, 0xfa, 0, 0, 0, 2]);
const QUEUE_PACKETS: &str = "1000000";
/// How long an end may take until it is up.
const UP_MAX: Duration = Duration::from_secs(30);
/// The first of four million addresses.
pub(super) const CLIENTS_FIRST: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const CLIENTS_PREFIX: u32 = 10;
/// The gateway of the server's route to the clients.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 63, 255, 254);
