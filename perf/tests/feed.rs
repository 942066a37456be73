//! The feed bench on a small scale: it is tested that it measures, not what it measures.

mod common;

#[test]
fn the_feed_bench_measures_every_stage() {
    let report =
        common::report(&["feed", "--symbols", "50", "--messages", "20000", "--warmup-messages", "5000", "--runs", "1"]);
    assert!(report["day"]["measured_messages"].as_u64().unwrap() > 14_000);
    let frames = report["day"]["frames_per_message"].as_f64().unwrap();
    let updates = report["day"]["updates_per_message"].as_object().unwrap();
    let updates: f64 = updates.values().map(|count| count.as_f64().unwrap()).sum();
    assert!((frames - updates).abs() < 0.01 && frames > 1.0, "{frames} frames of {updates} updates");
    for stage in ["feed", "market", "encode", "publish"] {
        assert!(report["up_to"][stage]["cpu_ns"].as_f64().unwrap() > 0.0, "{stage}");
    }
    assert!(report["messages_per_s"]["median"].as_u64().unwrap() > 1_000);
}
