//! What trials share: how long a boot may take, and when it has come to its end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use fanblade_testkit::try_http;

use crate::vm::machine::Machine;
use crate::vm::network::{GUEST, Network};

/// Waits for the machine's `readyz`, and returns the time since its start.
pub(super) fn until_ready(network: &Network, machine: &Machine) -> anyhow::Result<Duration> {
    let started = Instant::now();
    loop {
        let answer = network.run(|| try_http(admin(), "/readyz"));
        if answer.is_ok_and(|(head, _)| head.starts_with("HTTP/1.1 200")) {
            return Ok(machine.age());
        }
        if machine.status().is_some() || started.elapsed() > BOOT_MAX {
            bail!("not ready after {} s\n{}", started.elapsed().as_secs(), machine.tail());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The machine's admin port.
pub(super) fn admin() -> SocketAddr {
    SocketAddr::new(GUEST.into(), 7_401)
}

/// Emulation is slow, and slower on a busy host.
pub(super) const BOOT_MAX: Duration = Duration::from_secs(900);
pub(super) const WAIT_MAX: Duration = Duration::from_secs(120);
