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

/// Credentials that let a machine run a line of shell on its console, once the blade is healthy and kept.
pub(super) fn script(line: &str) -> Vec<(String, String)> {
    let text = format!(
        "[Unit]\nRequires=boot-complete.target\nAfter=boot-complete.target fanblade-bless.service\n\
         [Service]\nType=oneshot\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n\
         ExecStart=/bin/sh -c '{line}'\n"
    );
    unit("trial", &text)
}

/// Credentials that give a machine a service of this name, which its boot starts.
pub(super) fn unit(name: &str, text: &str) -> Vec<(String, String)> {
    vec![
        (format!("systemd.extra-unit.{name}.service"), text.to_owned()),
        (format!("systemd.unit-dropin.multi-user.target~{name}"), format!("[Unit]\nWants={name}.service\n")),
    ]
}

/// The machine's admin port.
pub(super) fn admin() -> SocketAddr {
    SocketAddr::new(GUEST.into(), 7_401)
}

/// Emulation is slow, and slower on a busy host.
pub(super) const BOOT_MAX: Duration = Duration::from_secs(900);
pub(super) const WAIT_MAX: Duration = Duration::from_secs(120);
