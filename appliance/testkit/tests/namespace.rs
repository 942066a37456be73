//! A namespace is a network of its own, and ends with the threads and processes in it.

use std::net::{TcpListener, TcpStream};

use fanblade_testkit::{Namespace, ip, is_root, until_up};

#[test]
fn a_namespace_is_a_network_of_its_own() {
    if !is_root("a network namespace") {
        return;
    }
    let namespace = Namespace::new();
    let address = namespace.run(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let _outside = TcpListener::bind(address).unwrap();
    // A listener has that port outside the namespace, but none has it within.
    assert!(namespace.run(|| TcpStream::connect(address)).is_err());
    assert!(TcpStream::connect(address).is_ok());
    let shown = namespace.command("ip").args(["-o", "link"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout).lines().count(), 1, "lo alone");
}

#[test]
fn two_namespaces_are_joined_by_their_paths() {
    if !is_root("a network namespace") {
        return;
    }
    let (left, right) = (Namespace::new(), Namespace::new());
    left.run(|| {
        ip(&["link", "add", "left", "type", "veth", "peer", "name", "right", "netns", &right.path()]);
        ip(&["addr", "add", "10.77.0.1/24", "dev", "left"]);
        ip(&["link", "set", "left", "up"]);
    });
    right.run(|| {
        ip(&["addr", "add", "10.77.0.2/24", "dev", "right"]);
        ip(&["link", "set", "right", "up"]);
        until_up("right");
    });
    let listener = right.run(|| TcpListener::bind("10.77.0.2:0").unwrap());
    let address = listener.local_addr().unwrap();
    left.run(|| TcpStream::connect(address).unwrap());
}
