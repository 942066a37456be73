//! The kernel programs under a running blade: active where they are allowed, and dispensable where they are not.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{FANBLADE, Pins, fanblade, summary};
use fanblade_testkit::{Blade, Child, Namespace, PATIENCE, ip, is_root};
use nix::sys::signal::Signal;

#[test]
fn connections_are_steered_and_counted() {
    if !is_root("loading eBPF programs") {
        return;
    }
    // A network namespace for this thread and all its children: packets of other tests must not be counted.
    Namespace::enter_new();
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

    // Every connection went to the worker that the program chose, each worker has its share, and each connection is a
    // flow.
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

    // `fanblade top` shows the open ones.
    let mut subscriber = blade.subscriber(&["/NASDAQ/*/trade", "--check", "--connections", "3"]);
    let mut subscriber = Child::spawn(subscriber.stdout(Stdio::null()).stderr(Stdio::null()));
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
fn an_interface_that_goes_is_said_to_be_gone_and_counted_again_when_it_is_back() {
    if !is_root("loading eBPF programs") {
        return;
    }
    Namespace::enter_new();
    let pair = || ip(&["link", "add", "fbv0", "type", "veth", "peer", "name", "fbv1"]);
    pair();
    let pin_dir = format!("/sys/fs/bpf/fanblade-test-gone-{}", std::process::id());
    let _pins = Pins(pin_dir.clone());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    std::fs::write(&file, format!("[ebpf]\npin_dir = \"{pin_dir}\"\ninterface = \"fbv0\"\n")).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--workers", "1", "--config"]).arg(&file);
    let blade = Blade::spawn(command);
    let links = || std::fs::read_dir(format!("/proc/{}/fd", blade.pid())).unwrap().count();
    let is_counted = |status: &serde_json::Value| {
        let ebpf = &status["ebpf"];
        ebpf["ingress"][0].as_str().is_some_and(|name| name.starts_with("fbv0")) && ebpf["egress"][0] == "fbv0"
    };
    blade.until("packets are counted", |status| is_counted(status) && status["ebpf"]["reason"] == "");
    let links_before = links();
    for round in 1..=3 {
        ip(&["link", "del", "fbv0"]);
        let status = blade.until("that it has gone", |status| status["ebpf"]["reason"] != "");
        let ebpf = &status["ebpf"];
        assert_eq!((&ebpf["ingress"], &ebpf["egress"]), (&serde_json::json!([]), &serde_json::json!([])), "{ebpf}");
        assert_eq!((&ebpf["reason"], &ebpf["mode"]), (&"interface fbv0 has gone".into(), &"steering only".into()));
        assert!(!blade.get("/metrics").1.contains("fanblade_ebpf_ingress{"), "no metric says that it is counted");
        let is_logged = |words: &str| blade.log().matches(words).count() == round;
        blade.until("its end in the log", |_| is_logged("interface fbv0 has gone: its packets are not counted"));
        pair();
        blade.until("packets are counted again", |status| is_counted(status) && status["ebpf"]["reason"] == "");
        blade.until("its return in the log", |_| is_logged("interface fbv0 is there again: its packets are counted"));
    }
    // Neither side has kept anything for the interfaces that have gone.
    let deadline = Instant::now() + PATIENCE;
    while links() > links_before {
        assert!(Instant::now() < deadline, "{} descriptors, {links_before} before", links());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn without_privileges_it_serves_and_says_what_it_lacks() {
    // A copy that every user may run, whatever the build directory allows.
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

const NOBODY: u32 = 65_534;
