//! The kernel programs under a running blade: at work where they may be, and not missed where they may not.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use common::{Blade, FANBLADE, fanblade, summary};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

#[test]
fn connections_are_steered_and_counted() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading eBPF programs needs root");
        return;
    }
    // A network of its own for this thread and all that it starts: other tests' packets are not ours to count.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let pin_dir = format!("/sys/fs/bpf/fanblade-test-{}", std::process::id());
    let _pins = Pins(pin_dir.clone());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    std::fs::write(&file, format!("[ebpf]\npin_dir = \"{pin_dir}\"\n")).unwrap();

    let mut command = Command::new(FANBLADE);
    command.args(["run", "--workers", "4", "--config"]).arg(&file);
    let mut blade = Blade::spawn(command);
    let log = blade.log();
    assert!(log.contains("eBPF: steering 4 workers, counting on lo"), "{log}");
    let count = 40;
    let args = ["/NASDAQ/*/trade", "--check", "--json", "--count", "20", "--connections", "40", "--for", "50"];
    let output = blade.subscribe(&args);
    assert!(output.status.success(), "{:#}", summary(&output));

    // Every connection went where the program sent it, to each worker its share, and each is a flow of its own.
    let status = blade.until("the counts", |status| {
        let verdict = |name: &str| {
            status["ebpf"]["verdicts"].as_array()?.iter().find(|verdict| verdict["name"] == name)?["packets"].as_u64()
        };
        verdict("steer_selected") >= Some(count)
    });
    assert_eq!((&status["ebpf"]["active"], &status["ebpf"]["reason"]), (&true.into(), &"".into()));
    assert_eq!(blade.metric("fanblade_ebpf_active"), 1.0);
    assert_eq!(blade.metric("fanblade_steer_fallback_total"), 0.0);
    let accepted: Vec<f64> =
        (0..4).map(|worker| blade.metric(&format!("fanblade_worker_accepted_total{{worker=\"{worker}\"}}"))).collect();
    let steered: Vec<f64> = (0..4)
        .map(|worker| blade.metric(&format!("fanblade_steer_connections_total{{worker=\"{worker}\"}}")))
        .collect();
    assert_eq!(accepted, steered, "the kernel and the workers agree");
    assert!(accepted.iter().sum::<f64>() == 40.0 && accepted.iter().all(|accepted| *accepted > 0.0), "{accepted:?}");

    let (code, flows, _) = fanblade(&["flows", "--pin-dir", &pin_dir, "--closed", "--verdicts", "--top", "0"]);
    let ours = format!("127.0.0.1:{}", blade.data.port());
    assert_eq!((code, flows.lines().filter(|line| line.contains(&ours)).count()), (0, 40), "{flows}");
    assert!(flows.contains("steer_selected") && flows.contains("worker 3"), "{flows}");

    // `fanblade top` shows those that are open.
    let mut subscriber = blade.subscriber(&["/NASDAQ/*/trade", "--check", "--connections", "3"]);
    let mut subscriber = subscriber.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    blade.until("three sessions", |status| status["totals"]["sessions_subscribed"] == 3);
    let (code, picture, _) = fanblade(&["top", "--once", &blade.admin.to_string(), "--pin-dir", &pin_dir]);
    assert!(code == 0 && picture.contains(" 3 open "), "{picture}");
    assert_eq!(picture.matches("││127.0.0.1:").count(), 3, "{picture}");
    subscriber.kill().unwrap();
    subscriber.wait().unwrap();

    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
    assert!(!std::path::Path::new(&pin_dir).exists(), "nothing is left behind");
}

#[test]
fn without_privileges_it_serves_and_says_what_it_lacks() {
    // A copy that everybody may run, whatever the build directory allows.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("fanblade");
    std::fs::copy(FANBLADE, &program).unwrap();
    let mut command = Command::new(&program);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["run", "--workers", "2"]);
    let blade = Blade::spawn(command);
    let log = blade.log();
    assert!(log.contains("serving without eBPF: missing CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{log}");
    assert!(log.contains("setcap cap_bpf,cap_net_admin,cap_perfmon+ep"), "the command that mends it: {log}");
    assert_eq!(log.matches("without eBPF").count(), 1, "once: {log}");
    assert_eq!(blade.metric("fanblade_ebpf_active"), 0.0);
    let output =
        blade.subscribe(&["/NASDAQ/**", "--mode", "all", "--check", "--json", "--count", "500", "--for", "50"]);
    assert!(output.status.success(), "{:#}", summary(&output));
}

/// Removes what a blade leaves that does not end by itself.
struct Pins(String);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const NOBODY: u32 = 65_534;
