//! nginx with Nchan (Debian's libnginx-mod-nchan): subscribers over WebSocket, the publisher by pipelined POSTs.
//!
//! The best configuration that we know: a worker for each CPU, no access log, no pings and no timeouts of subscribers,
//! a small buffer of messages in shared memory.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use nix::sys::signal::Signal;
use serde_json::json;

use super::Manners;
use super::peer::{Peer, Publisher};
use super::process::{self, Line, Process};
use crate::scenario::definition::Scenario;

pub(super) fn start(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Peer> {
    let program = process::find("nginx", INSTALL)?;
    ensure!(Path::new(MODULE).is_file(), "{MODULE} is not installed; to get it: {INSTALL}");
    process::check_descriptors(scenario)?;
    let addr = process::free_addr()?;
    let directory = tempfile::tempdir()?;
    // As root, nginx would give up its rights, and with them its directory.
    let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
    // A worker must be able to hold all connections; it begins to close some when less than a sixteenth is free.
    let connections = scenario.subscribers + scenario.subscribers / 8 + CONNECTIONS_BESIDE;
    let configuration = format!(
        "worker_processes {};\nevents {{ worker_connections {connections}; use epoll; multi_accept on; }}\n{HTTP}",
        cpus.len().max(1),
    );
    let file = format!("{user}load_module {MODULE};\n{configuration}    listen {addr} backlog=4096;\n  }}\n}}\n");
    std::fs::write(directory.path().join("nginx.conf"), file)?;
    let version = process::version(&program, "-v");
    let mut command = Command::new(program);
    command.arg("-p").arg(directory.path()).args(["-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;"]);
    // On SIGTERM the master ends its workers; when killed, it leaves them running.
    let process = Process::start(command, cpus, addr, Signal::SIGTERM)?;
    // Once a worker answers, the master has written its last file, its process number: the directory can go.
    let mut line = Line::connect(addr, |_| false)?;
    line.pending.extend_from_slice(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    line.flush()?;
    line.await_text(STATUS)?;
    let manners = Manners::plain(addr, "/subscribe/{subject}");
    let configuration = json!({"version": version, "file": configuration.lines().collect::<Vec<_>>()});
    Ok(Peer { process, manners, configuration, publisher_addr: addr, connect })
}

fn connect(addr: SocketAddrV4) -> anyhow::Result<Publisher> {
    // Any status but 2xx. An answer that is cut within its first line counts as a good one.
    let complaint = |heard: &[u8]| {
        let mut statuses = memchr::memmem::find_iter(heard, STATUS).filter_map(|at| heard.get(at + STATUS.len()));
        statuses.any(|status| *status != b'2')
    };
    Ok(Publisher { line: Line::connect(addr, complaint)?, write })
}

fn write(out: &mut Vec<u8>, subject: u32, payload: &[u8]) {
    let len = payload.len();
    let head = format!("POST /publish/{subject} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
}

const STATUS: &[u8] = b"HTTP/1.1 ";
const INSTALL: &str = "apt-get install -y --no-install-recommends nginx libnginx-mod-nchan";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
const CONNECTIONS_BESIDE: u32 = 512;
/// The listening address and the last braces are added.
const HTTP: &str = "pid nginx.pid;
http {
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 1d;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_body_buffer_size 64k;
  client_body_in_single_buffer on;
  client_max_body_size 64k;
  nchan_shared_memory_size 256M;
  server {
    location ~ ^/subscribe/([0-9]+)$ {
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
      nchan_subscriber_timeout 0;
      nchan_websocket_ping_interval 0;
    }
    location ~ ^/publish/([0-9]+)$ {
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 64;
      nchan_message_timeout 10s;
    }
";
