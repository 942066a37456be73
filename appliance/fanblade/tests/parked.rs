//! A blade that is out of descriptors says so, and says when the shortage is over.

mod common;

use std::net::TcpStream;
use std::process::Command;

use common::FANBLADE;
use fanblade_testkit::Blade;

#[test]
fn out_of_descriptors_is_said_and_so_is_the_end_of_it() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", FANBLADE, "run", "--no-ebpf"]);
    command.args(["--workers", "1", "--engine", "epoll"]);
    let blade = Blade::spawn(command);
    let metric = |name: &str| blade.metric(&format!("fanblade_worker_{name}{{worker=\"0\"}}"));
    assert_eq!((metric("accept_parked_total"), metric("accepting_parked")), (0.0, 0.0));
    // The admin port has descriptors in reserve.
    let connections: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(blade.data).unwrap()).collect();
    blade.until("parking", |_| metric("accept_parked_total") > 2.0);
    blade.until("the gauge", |_| metric("accepting_parked") == 1.0);
    blade.until_logged("worker 0 cannot accept connections: out of descriptors");
    drop(connections);
    blade.until_logged("worker 0 accepts connections again");
    blade.until("the gauge", |_| metric("accepting_parked") == 0.0);
    assert_eq!(blade.log().matches("cannot accept connections").count(), 1, "once: {}", blade.log());
    let output = blade.subscribe(&["/NASDAQ/*/trade", "--check", "--count", "3", "--for", "50"]);
    assert!(output.status.success());
}
