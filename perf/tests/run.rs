//! Scenarios on a small scale: each can be played, and its result has what a result must have.

mod common;

use std::process::Output;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use common::is_machine_too_small;

/// One run at a time: each wants its CPUs, and one looks at the whole machine's memory.
static TURN: Mutex<()> = Mutex::new(());

fn run(args: &[&str]) -> Output {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    common::run(args)
}

fn result(args: &[&str]) -> Value {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    common::result(args)
}

#[test]
fn a_scenario_with_messages_is_measured_and_nothing_is_lost() {
    if is_machine_too_small() {
        return;
    }
    let result = result(&["migratory-8x", "--subscribers", "500", "--warmup", "0.5", "--duration", "2"]);
    assert_eq!((&result["scenario"], &result["subscribers"]), (&"migratory-8x".into(), &500.into()));
    // Ten a second, give or take the messages at the edges of the window.
    let delivered = result["delivered"].as_u64().unwrap();
    assert!((9_500..10_500).contains(&delivered), "{delivered}");
    assert_eq!((&result["lost"], &result["expected"]), (&0.into(), &delivered.into()));
    assert!(result["cpu_us_per_message"].as_f64().unwrap() > 0.0);
    for figure in ["p50", "p90", "p99", "p999", "p9999", "max", "mean"] {
        assert!(result["latency_us"][figure].as_f64().unwrap() > 0.0, "{figure}");
    }
    assert!(result["position"]["first_us"]["p50"].is_number() && result["position"]["last_us"]["p50"].is_number());
    assert!(result["bytes_per_session"]["user"].is_number() && result["bytes_per_session"]["kernel"].is_number());
    assert!(result["machine"]["kernel"].is_string() && result["command"].is_string());
    assert_eq!(result["runs"].as_array().unwrap().len(), 1);
    assert_eq!(result["published_by_others"][0]["cores"], 12);
}

/// Every session has subjects of its own, and changes them; what each must get is counted one by one.
fn watchlists_are_measured(server: &str) {
    if is_machine_too_small() {
        return;
    }
    let scale = ["--subscribers", "300", "--warmup", "0.5", "--duration", "3"];
    let result = result(&[&["watchlist", "--server", server][..], &scale].concat());
    assert_eq!((&result["server"], &result["lost"]), (&server.into(), &0.into()));
    let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_f64).unwrap_or(-1.0);
    // 80 messages a second, 300 lists of 50 of 8,000 subjects: some 450, and more where a popular one was among them.
    assert!(number("/delivered") >= number("/expected") && number("/expected") > 100.0, "{result}");
    assert_eq!((number("/unasked"), number("/missing"), number("/reached_nobody")), (0.0, 0.0, 0.0));
    assert!(number("/changes/made") >= 1.0 && number("/changes/reply_us/p50") > 0.0, "{}", result["changes"]);
    let costs = ["one/bare_cpu_us", "one/cpu_us", "one/ratio", "backlog_8/ratio", "change/cpu_us"];
    for figure in costs.into_iter().chain(["change_of_a_long_list/cpu_us"]) {
        assert!(number(&format!("/beside_bare/{figure}")) > 0.0, "{figure}: {}", result["beside_bare"]);
    }
    assert!(number("/bytes_per_subscription/with_its_share_of_the_session") > 0.0, "{result}");
    assert_eq!(number("/watchlists/subjects_per_session"), 50.0);
    assert_eq!(number("/beside_bare/change_of_a_long_list/subjects_per_session"), 200.0);
    assert!(number("/beside_bare/bytes_per_session_left") >= 0.0, "{}", result["beside_bare"]);
    if server == "datapath" {
        // With so few sessions most of what is predicted is the tables of their filters.
        let (predicted, measured) =
            ("/bytes_per_subscription/predicted", "/bytes_per_subscription/measured_after_messages");
        assert!(number(predicted) > number(measured), "{result}");
    }
    assert!(result.get("subjects_seen").is_none());
}

#[test]
fn watchlists_of_the_data_path_are_measured_beside_the_bare_loop() {
    watchlists_are_measured("datapath");
}

#[test]
fn watchlists_of_the_blade_are_measured_beside_the_bare_loop() {
    watchlists_are_measured("blade");
}

#[test]
fn the_blade_as_it_is_run_is_a_server_of_scenarios() {
    if is_machine_too_small() {
        return;
    }
    let result =
        result(&["kafkorama-1m", "--server", "blade", "--subscribers", "500", "--warmup", "0.5", "--duration", "2"]);
    assert_eq!((&result["server"], &result["lost"]), (&"blade".into(), &0.into()));
    assert_eq!(result["delivered"], result["expected"]);
    assert_eq!(result["configuration"]["feed"]["source"], "publisher");
    // The server's own counters.
    assert_eq!(result["server_counters"]["feed"]["state"], "live");
    assert!(result["server_counters"]["ring"]["published"].as_u64() >= result["published"].as_u64());
}

#[test]
fn those_who_read_are_told_from_those_who_do_not() {
    if is_machine_too_small() {
        return;
    }
    let result = result(&["slow-readers", "--subscribers", "600", "--warmup", "0.5", "--duration", "2"]);
    let clients = |class: &Value| class["clients"].as_u64().unwrap();
    let (readers, slow, stalled) = (clients(&result), clients(&result["slow"]), clients(&result["stalled"]));
    assert_eq!(readers + slow + stalled, 600);
    assert!(readers > 200 && slow > 200 && stalled > 0, "{readers} {slow} {stalled}");
    assert_eq!(result["lost"], 0);
}

#[test]
fn a_packet_is_followed_from_the_kernel_to_each_client() {
    if is_machine_too_small() {
        return;
    }
    // The clients' own thread spins in the one and sleeps in the other, where there are two CPUs.
    for scenario in ["wire-to-wire", "wire-to-wire-busy"] {
        let result = result(&[scenario, "--subscribers", "5", "--warmup", "0.2", "--duration", "1"]);
        assert_eq!((&result["server"], &result["lost"]), (&"blade".into(), &0.into()));
        assert_eq!((&result["packets"], &result["delivered"]), (&1_000.into(), &5_000.into()));
        let mean = |pointer: &str| result.pointer(pointer).unwrap()["mean"].as_f64().unwrap();
        let stages = ["kernel_to_publish", "publish_to_frame", "frame_to_client"];
        let sum: f64 = stages.iter().map(|stage| mean(&format!("/stages_us/{stage}"))).sum();
        let all = mean("/latency_us");
        assert!((sum - all).abs() < 0.1 * all, "{scenario}: the stages' {sum} µs are not the whole's {all}");
        assert!(mean("/position/first_us") < mean("/position/last_us"), "{scenario}");
    }
    let output = run(&["wire-to-wire", "--server", "datapath", "--duration", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("only the blade"), "{stderr}");
}

#[test]
fn a_storm_is_measured_beside_a_bare_loop() {
    if is_machine_too_small() {
        return;
    }
    let result = result(&["storm", "--subscribers", "1000"]);
    for figure in
        ["server_upgrades_per_s", "bare_upgrades_per_s", "server_cpu_us_per_upgrade", "bare_cpu_us_per_upgrade"]
    {
        assert!(result[figure].as_f64().unwrap() > 0.0, "{figure}");
    }
    // Five times without a subscription, five times with one.
    assert_eq!(result["server_counters"]["upgraded"], 10_000);
}

#[test]
fn the_ends_of_idle_connections_are_told_apart() {
    if is_machine_too_small() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root may read /proc/slabinfo");
        return;
    }
    // Other processes use memory meanwhile, so only the order of magnitude is checked, and more than once.
    let is_seen = (0..ATTEMPTS).any(|_| {
        let result = result(&["idle-memory", "--subscribers", "4000", "--warmup", "0.2", "--duration", "0.5"]);
        let bytes = |name: &str| result["bytes_per_session"][name].as_f64().unwrap();
        let (server, client, both) = (bytes("kernel_server_end"), bytes("kernel_client_end"), bytes("kernel"));
        println!("kernel memory of the server's end: {server}, of the client's: {client}, of both: {both}");
        server > 1_000.0 && client > 1_000.0 && both > 2_000.0
    });
    assert!(is_seen);
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let refusal = |args: &[&str]| {
        let output = run(args);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    if is_machine_too_small() {
        return;
    }
    let too_small = refusal(&["c10m-ladder", "--subscribers", "400000000"]);
    assert!(too_small.contains("this machine is too small for c10m-ladder"), "{too_small}");
    assert!(too_small.contains("need about") && too_small.contains("at most"), "{too_small}");
    let unknown = refusal(&["kafkorama"]);
    assert!(unknown.contains("there is no scenario `kafkorama`; there are burst, c10m-ladder"), "{unknown}");
    let same = refusal(&["burst", "--server-cpus", "0", "--client-cpus", "0"]);
    assert!(same.contains("would disturb each other"), "{same}");
    let windows = refusal(&["caplin-50-batching", "--subscribers", "10", "--server", "datapath"]);
    assert!(windows.contains("use --server blade"), "{windows}");
    let without_lists = refusal(&["watchlist", "--subscribers", "10", "--server", "nats"]);
    assert!(without_lists.contains("one subject for each subscriber only"), "{without_lists}");
}

/// What `cargo xtask bench report` makes of perf/results.
#[test]
fn benchmarks_and_plots_say_what_the_results_say() {
    let output = common::perf(&["report", "--check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_scenario_can_be_read() {
    let output = run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() >= 12);
}

/// Measurements of the kernel's memory until one is believed.
const ATTEMPTS: u32 = 5;
