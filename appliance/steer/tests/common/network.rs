//! Two namespaces with a cable between them, and sockets in them.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use fanblade_testkit::{Namespace, ip, until_up};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

/// Two namespaces with a veth pair between them: `blade` (10.9.0.1) and `client` (10.9.0.2), both ends called `veth0`.
/// The cable carries only the test's own packets: no IPv6, no ARP. Without `segment_offload`, packets are as on a wire.
pub fn pair(segment_offload: bool) -> (Namespace, Namespace) {
    let (blade, client) = (Namespace::new(), Namespace::new());
    let paths = [blade.path(), client.path()];
    let mut add = vec!["link", "add", "veth0", "netns", &paths[0], "address", MACS[0]];
    if !segment_offload {
        add.extend(["gso_max_segs", "1"]);
    }
    add.extend(["type", "veth", "peer", "name", "veth0", "netns", &paths[1], "address", MACS[1]]);
    if !segment_offload {
        add.extend(["gso_max_segs", "1"]);
    }
    ip(&add);
    for (end, own, other, mac) in
        [(&blade, "10.9.0.1", "10.9.0.2", MACS[1]), (&client, "10.9.0.2", "10.9.0.1", MACS[0])]
    {
        end.ip(&["link", "set", "veth0", "addrgenmode", "none"]);
        end.ip(&["addr", "add", &format!("{own}/24"), "dev", "veth0"]);
        end.ip(&["link", "set", "veth0", "up"]);
        // A busy machine may retransmit; then selective acknowledgements would make some headers longer.
        end.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_sack", "0").unwrap());
        end.ip(&["neigh", "add", other, "lladdr", mac, "dev", "veth0", "nud", "permanent"]);
    }
    for end in [&blade, &client] {
        end.run(|| until_up("veth0"));
    }
    (blade, client)
}

/// Packets and bytes that an interface of this thread's namespace has received and sent, from the kernel.
pub fn interface_counts(interface: &str) -> [u64; 4] {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{interface}:"))).unwrap();
    let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap()).collect();
    [fields[1], fields[0], fields[9], fields[8]]
}

/// A listening socket of an SO_REUSEPORT group.
pub fn listen_shared(address: SocketAddr) -> TcpListener {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    listen(&socket, Backlog::new(4096).unwrap()).unwrap();
    socket.into()
}

/// Takes all connections that wait at a listener.
pub fn accept_all(listener: &TcpListener) -> Vec<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _peer)) => {
                stream.set_nonblocking(false).unwrap();
                accepted.push(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return accepted,
            Err(error) => panic!("accept: {error}"),
        }
    }
}

/// Sends a byte there and back.
pub fn echo(client: &mut TcpStream, server: &mut TcpStream) {
    let mut byte = [7];
    client.write_all(&byte).unwrap();
    server.read_exact(&mut byte).unwrap();
    server.write_all(&byte).unwrap();
    client.read_exact(&mut byte).unwrap();
}

/// The kernel's TCP counters of a connection.
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// Segments received and sent, SYN and pure ACKs included.
    pub segments_in: u64,
    pub segments_out: u64,
    /// Bytes of payload sent, and bytes sent again.
    pub bytes_sent: u64,
    pub bytes_resent: u64,
}

#[expect(unsafe_code, reason = "libc's tcp_info ends before these fields")]
pub fn tcp_info(stream: &TcpStream) -> TcpInfo {
    let mut info = [0_u8; 256];
    let mut len = libc::socklen_t::try_from(info.len()).unwrap();
    // SAFETY: the kernel writes at most `len` bytes to the buffer.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
    };
    assert!(result == 0 && len >= 216, "TCP_INFO: {result}, {len} bytes");
    // Offsets of include/uapi/linux/tcp.h: tcpi_segs_in, tcpi_segs_out, tcpi_bytes_sent, tcpi_bytes_retrans.
    let short = |offset: usize| u64::from(u32::from_ne_bytes(info[offset..offset + 4].try_into().unwrap()));
    let long = |offset: usize| u64::from_ne_bytes(info[offset..offset + 8].try_into().unwrap());
    TcpInfo { segments_in: short(140), segments_out: short(136), bytes_sent: long(200), bytes_resent: long(208) }
}

const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
