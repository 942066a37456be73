//! Ten thousand sessions in one process, subscribed and silent: their memory beside its prediction, and none lost. The
//! hundred thousand are `cargo xtask bench idle`.

mod common;

#[test]
fn ten_thousand_idle_sessions_cost_what_is_predicted() {
    if let Err(error) = fanblade_net::uring_probe() {
        println!("skipped: ten_thousand_idle_sessions_cost_what_is_predicted: {error}");
        return;
    }
    // Prints the measured figures beside the predicted ones; a failure says which is too large, or what was lost.
    let report = common::report(&["idle", "--connections", "10000", "--ping-interval-ms", "5000"]);
    assert_eq!(report["counters"]["sessions"], 10_000);
    assert_eq!(report["messages_delivered"], 30_000);
    let bytes = |figure: &serde_json::Value| figure["total"].as_f64().unwrap();
    let predicted = bytes(&report["user_bytes_per_session_predicted"]);
    for moment in ["subscribed", "after_messages", "after_pings", "after_a_notice_to_all"] {
        let measured = bytes(&report["user_bytes_per_session"][moment]);
        // Beside the sessions, a worker has up to 200 kB for its passes, whatever its sessions.
        assert!(measured <= predicted + 20.0, "{moment}: {measured} bytes per session");
        // Something was measured at all.
        assert!(measured >= predicted / 2.0, "{moment}: {measured} bytes per session");
    }
}
