//! Ten thousand sessions in one process, subscribed and silent: their memory against its prediction, and none lost. The
//! hundred thousand are `cargo xtask bench idle`.

use std::process::Command;

#[test]
fn ten_thousand_idle_sessions_cost_what_is_predicted() {
    if let Err(error) = fanblade_net::uring_probe() {
        println!("skipped: ten_thousand_idle_sessions_cost_what_is_predicted: {error}");
        return;
    }
    let arguments = ["idle", "--connections", "10000", "--ping-interval-ms", "5000", "--out", "-"];
    let output = Command::new(env!("CARGO_BIN_EXE_fanblade-perf")).args(arguments).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}{stderr}");
    // The command itself fails above 200 bytes a session, and where a session or a message was lost.
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(format!("{stdout}{stderr}").contains("none lost"), "{stdout}{stderr}");
}
