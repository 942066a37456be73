//! The multicast bench on a small scale: that packets go through the kernel and the blade, and all of them arrive.

mod common;

#[test]
fn packets_are_followed_from_the_kernel_to_the_ring() {
    let report = common::report(&[
        "multicast",
        "--rates",
        "20000,40000",
        "--seconds",
        "1",
        "--burst-seconds",
        "1",
        "--runs",
        "1",
    ]);
    for (rate, messages) in [("20000", 20_000), ("40000", 40_000)] {
        let figures = &report["by_rate"][rate];
        let of = |name: &str| figures[name]["median"].as_u64().unwrap();
        assert_eq!(of("messages") + of("lost"), messages, "{figures:#}");
        assert!(of("frames") > 0 && of("cpu_ns_per_message") > 0, "{figures:#}");
        assert!(0 < of("p50_ns") && of("p50_ns") <= of("p99_ns") && of("p99_ns") <= of("max_ns"), "{figures:#}");
    }
}
