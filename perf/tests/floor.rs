//! The floor bench on a small scale: it is tested that it measures, not what it measures.

mod common;

#[test]
fn the_floor_bench_measures_both_servers_on_both_engines() {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        println!("skipped: it needs a CPU for the server and one for the clients");
        return;
    }
    let report =
        common::report(&["floor", "--subscribers", "200", "--runs", "1", "--rounds", "5", "--warmup-rounds", "2"]);
    for engine in ["uring", "epoll"] {
        for server in ["bare", "blade"] {
            let one = report[engine][server]["one"]["cpu_ns"].as_u64().unwrap();
            let eight = report[engine][server]["backlog_8"]["cpu_ns"].as_u64().unwrap();
            assert!(one > 0 && eight > 0 && eight < one, "{server} on {engine}: {one} and {eight} ns");
        }
        assert!(report[engine]["blade_to_bare"]["one"]["median"].as_f64().unwrap() > 0.0);
    }
    assert!(report["machine"]["kernel"].is_string());
}
