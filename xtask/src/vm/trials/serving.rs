//! From power to `readyz`; clients over the wire; what the kernel's programs counted inside is what the clients got.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fanblade_testkit::try_http;
use serde_json::Value;

use super::boot::{WAIT_MAX, admin, unit, until_ready};
use crate::image::{self, Place, Scratch};
use crate::vm::machine::{Card, Machine, Options};
use crate::vm::network::{GUEST, Network};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let network = Arc::new(Network::new());
    let options = Options {
        card: Card::Tap(Arc::clone(&network)),
        credentials: [vec![Network::credential()], unit("trial", &inside())].concat(),
        ..Options::default()
    };
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    network.until_up();
    let ready = until_ready(&network, &machine)?;

    let (_, body) = network.run(|| try_http(admin(), "/v1/status")).context("the admin port does not answer")?;
    let status: Value = serde_json::from_str(&body).context("/v1/status")?;
    let ebpf = &status["ebpf"];
    ensure!(ebpf["active"] == true && ebpf["reason"] == "", "eBPF inside: {ebpf}");
    let frames = subscribe(place, &network).with_context(|| machine.tail())?;
    let received = network.run(count).context("the counting clients")?;
    machine.until("trial: end", WAIT_MAX)?;
    let flows = flows(&machine)?;
    let retransmitted = machine.line("trial: retransmitted").unwrap_or_default();
    let retransmitted = retransmitted.split_whitespace().nth(3).and_then(|count| count.parse().ok());
    let retransmitted = retransmitted.context("nstat says no number of retransmitted segments")?;
    let equal = compare(&received, &flows, retransmitted)?;
    let may = machine.line("trial: may").unwrap_or_default();
    let may: Vec<&str> = may.split_whitespace().skip(2).collect();
    ensure!(may == MAY, "the blade's process may do other things than its unit says: {may:?}");
    ensure!(machine.said("trial: reloaded").is_some(), "it was not reloaded\n{}", machine.tail());
    let stopped = machine.said("trial: end").unwrap_or_default();
    let replaced = machine.until("trial: replaced", WAIT_MAX)?.saturating_sub(stopped);
    let pressed = machine.age();
    machine.press_power_button()?;
    ensure!(machine.wait(pressed + WAIT_MAX).is_some(), "the power button does not end it\n{}", machine.tail());
    let off = machine.age().saturating_sub(pressed);
    let bytes: u64 = received.values().sum();
    let queues = machine.line("trial: queues").unwrap_or_default();
    // Of the machine's processors one is the system's and one the sequencer's.
    let workers = options.cpus - 2;
    ensure!(queues.ends_with(&format!(" {workers}")), "not a queue for each of {workers} workers: {queues:?}");
    tuned(&machine, workers)?;
    Ok(format!(
        "ready {:.0} s after power; {SUBSCRIBERS} subscribers got {frames} frames, 0 violations; {bytes} bytes to {COUNTERS} \
         clients, the same in `fanblade flows` for {equal}, the others had retransmissions ({retransmitted} segments); {workers} \
         queues, each interrupts a CPU of its own; eBPF {}; a process that stood still was replaced after {:.0} s; off {:.0} s after the power button",
        ready.as_secs_f64(),
        ebpf["mode"].as_str().unwrap_or_default(),
        replaced.as_secs_f64(),
        off.as_secs_f64(),
    ))
}

/// What `fanblade tune` did at boot: each queue interrupts a worker's CPU of its own, nothing else is left to set, and
/// everything but the blade is on the system's CPU. The clock's service runs, and no unit failed.
fn tuned(machine: &Machine, workers: u32) -> anyhow::Result<()> {
    for line in
        ["trial: journal: ", "trial: tune: would set", "trial: doctor: "].iter().flat_map(|what| machine.lines(what))
    {
        eprintln!("{line}");
    }
    let last_word = |line: &String| line.split_whitespace().next_back().unwrap_or_default().to_owned();
    for kind in ["input", "output"] {
        let lines = machine.lines("trial: interrupt ").into_iter().filter(|line| line.contains(kind));
        // The card keeps the interrupts of queues that are switched off.
        let cpus: Vec<String> = lines.map(|line| last_word(&line)).take(workers as usize).collect();
        let wanted: Vec<String> = (2..2 + workers).map(|cpu| cpu.to_string()).collect();
        ensure!(cpus == wanted, "{kind} queues interrupt CPUs {cpus:?}, not {wanted:?}\n{}", machine.tail());
    }
    let words = |line: &str| machine.line(line).map(|line| last_word(&line)).unwrap_or_default();
    ensure!(words("trial: tune result") == "success", "fanblade-tune.service: {}", words("trial: tune result"));
    ensure!(words("trial: chrony") == "active", "chrony.service is {}", words("trial: chrony"));
    let failed = machine.line("trial: failed units:").unwrap_or_default();
    ensure!(failed.ends_with("units:"), "{failed}");
    ensure!(words("trial: system.slice") == "0", "system.slice is on CPUs {:?}, not 0", words("trial: system.slice"));
    Ok(())
}

/// Inside: waits until all connections have come and gone, then prints the flows.
fn inside() -> String {
    let all = SUBSCRIBERS + COUNTERS;
    // systemd makes `$` of `$$`.
    let tuned = "fanblade tune --dry-run | sed \"s/^/trial: tune: /\"; fanblade doctor | sed \"s/^/trial: doctor: /\"; \
                 for name in /proc/irq/*/virtio*put.*; do \
                 echo trial: interrupt $$name $$(cat $${name%%/virtio*}/smp_affinity_list); done; \
                 echo trial: tune result $$(systemctl show --value -p Result fanblade-tune.service); \
                 echo trial: system.slice $$(cat /sys/fs/cgroup/system.slice/cpuset.cpus); \
                 echo trial: chrony $$(systemctl is-active chrony); \
                 echo trial: failed units: $$(systemctl --failed --plain --no-legend | cut -d\" \" -f1); \
                 journalctl -q -o cat -u fanblade-tune.service | sed \"s/^/trial: journal: /\"; ";
    format!(
        "[Unit]\nAfter=fanblade-healthy.service\n[Service]\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
         ExecStart=/bin/sh -c '{tuned}echo trial: queues $(ls -d /sys/class/net/e*/queues/rx-* | wc -l); \
         main() {{ systemctl show -P MainPID fanblade; }}; \
         echo trial: may $(grep -E \"^(Uid|CapEff|NoNewPrivs|Seccomp):\" /proc/$(main)/status); \
         systemctl reload fanblade && echo trial: reloaded; \
         until [ $(fanblade flows --closed --top 0 | grep -c closed) -ge {all} ]; do sleep 1; done; \
         fanblade flows --closed --top 0; echo trial: retransmitted $(nstat -asz TcpRetransSegs | grep Tcp); echo trial: end; \
         old=$(main); kill -STOP $old; until [ $(main) != $old ] && [ $(main) != 0 ]; do sleep 1; done; echo trial: replaced'\n"
    )
}

/// Subscribers that check each frame. Returns how many frames they got.
fn subscribe(place: &Place, network: &Network) -> anyhow::Result<u64> {
    let mut client = Command::new(image::built(&place.root)?);
    client.args(["subscribe", &format!("{GUEST}:7400"), "/NASDAQ/*/trade", "--mode", "all", "--check", "--json"]);
    client.args(["--connections", &SUBSCRIBERS.to_string(), "--count", "50", "--for", "120"]);
    let output = network.output(&mut client)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .with_context(|| format!("the client: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    ensure!(output.status.success() && summary["violations"] == 0, "the client: {summary:#}");
    ensure!(summary["subscribed"] == SUBSCRIBERS, "not all subscribed: {summary:#}");
    summary["frames"].as_u64().context("the client counted no frames")
}

/// Clients that count what they receive, headers of frames and the answer to their upgrade included.
fn count() -> anyhow::Result<HashMap<SocketAddr, u64>> {
    let (server, started) = (SocketAddr::new(GUEST.into(), 7_400), Instant::now());
    let request = format!(
        "GET /v1/stream?subjects=/NASDAQ/*/trade HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut clients = Vec::new();
    for _ in 0..COUNTERS {
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(request.as_bytes())?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        clients.push((stream.local_addr()?, stream, 0));
    }
    let mut buffer = vec![0; 1 << 16];
    while started.elapsed() < COUNT_FOR {
        for (_, stream, bytes) in &mut clients {
            match stream.read(&mut buffer) {
                Ok(len) => *bytes += u64::try_from(len)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for (_, stream, bytes) in &mut clients {
        // A close frame, masked by zeros; the blade sends what it still has, its own close frame, and FIN.
        stream.write_all(&[0x88, 0x80, 0, 0, 0, 0])?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                len => *bytes += u64::try_from(len)?,
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }
    Ok(clients.into_iter().map(|(address, _, bytes)| (address, bytes)).collect())
}

/// Packets and bytes out, by client, as the console shows the table of `fanblade flows`.
fn flows(machine: &Machine) -> anyhow::Result<HashMap<SocketAddr, (u64, u64)>> {
    let mut flows = HashMap::new();
    for line in machine.lines("  closed") {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [client, _, _, _, packets, bytes, ..] = fields.as_slice() else { continue };
        flows.insert(client.parse().with_context(|| line.clone())?, (packets.parse()?, bytes.parse()?));
    }
    Ok(flows)
}

/// A flow's bytes are those of its packets, IP and TCP headers included, and of those that the machine sent again.
/// Returns for how many clients the bytes are exactly the same.
fn compare(
    received: &HashMap<SocketAddr, u64>,
    flows: &HashMap<SocketAddr, (u64, u64)>,
    retransmitted: u64,
) -> anyhow::Result<usize> {
    let (mut equal, mut excess) = (0, 0);
    for (client, bytes) in received {
        let (packets_out, bytes_out) = flows.get(client).with_context(|| format!("no flow of {client}"))?;
        let payload = bytes_out.checked_sub(packets_out * HEADERS + SYN_OPTIONS);
        let beyond = payload.and_then(|payload| payload.checked_sub(*bytes)).with_context(|| {
            format!("{client} received {bytes} bytes; its flow says {bytes_out} bytes in {packets_out} packets")
        })?;
        equal += usize::from(beyond == 0);
        excess += beyond;
    }
    ensure!(
        excess <= retransmitted * SEGMENT_LEN_MAX,
        "the flows say {excess} bytes more than clients received; the machine sent only {retransmitted} segments again"
    );
    Ok(equal)
}

/// /proc/PID/status of the blade: not root, no privileges to gain, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_PERFMON and
/// CAP_BPF alone, a filter of system calls.
const MAY: [&str; 11] =
    ["Uid:", "741", "741", "741", "741", "CapEff:", "000000c000001400", "NoNewPrivs:", "1", "Seccomp:", "2"];
const SUBSCRIBERS: usize = 40;
const COUNTERS: usize = 20;
/// How long counting clients stay.
const COUNT_FOR: Duration = Duration::from_secs(5);
/// IPv4, TCP, and TCP's timestamps.
const HEADERS: u64 = 20 + 20 + 12;
/// What the SYN's options take beyond that.
const SYN_OPTIONS: u64 = 8;
/// Ethernet's MTU without these headers.
const SEGMENT_LEN_MAX: u64 = 1_500 - HEADERS;
