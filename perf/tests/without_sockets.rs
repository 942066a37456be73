//! A scenario on the xdp engine, in a test program of its own: the kernel has taken down the rest of its ten thousand
//! sessions when other tests measure the machine's memory.

mod common;

use common::{is_machine_too_small, result, run};

/// Ten thousand sessions of the server, and not one socket on the other side.
#[test]
fn a_scenario_is_played_by_subscribers_without_sockets() {
    if is_machine_too_small() {
        return;
    }
    let args = ["migratory-8x", "--engine", "xdp", "--warmup", "1", "--duration", "2", "--subscribers"];
    if !nix::unistd::geteuid().is_root() {
        let stderr = run(&[&args[..], &["10000"]].concat()).stderr;
        assert!(String::from_utf8_lossy(&stderr).contains("the xdp engine needs root"));
        println!("skipped: the xdp engine needs root");
        return;
    }
    let result = result(&[&args[..], &["10000"]].concat());
    let delivered = result["delivered"].as_u64().unwrap();
    assert!(delivered > 150_000, "{delivered}");
    assert_eq!(
        (&result["engine"], &result["lost"], &result["expected"]),
        (&"xdp".into(), &0.into(), &delivered.into())
    );
    assert_eq!(result["server_counters"]["sessions"], 10_000);
    assert!(result["transport"]["segments"].as_u64().unwrap() > 0, "{}", result["transport"]);
    // Only one end of each connection: two would take eight kilobytes. Other processes use memory meanwhile.
    let kernel = result["bytes_per_session"]["kernel"].as_f64().unwrap();
    assert!((2_000.0..7_000.0).contains(&kernel), "{kernel}");
    let storm = String::from_utf8_lossy(&run(&["storm", "--engine", "xdp"]).stderr).into_owned();
    assert!(storm.contains("use --engine sockets"), "{storm}");
}
