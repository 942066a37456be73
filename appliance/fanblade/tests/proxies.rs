//! Clients behind proxies: with headers written by the test, and through nginx and HAProxy, where those are installed.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use common::{ENGINES, FANBLADE, fanblade};
use fanblade_testkit::{Blade, Child, PATIENCE, try_http};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

const UPGRADE: &str = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The address of clients, which differs from the proxies' address on this machine.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// A blade that logs who connects, with these keys in `[data]`.
fn blade(directory: &Path, engine: &str, data: &str) -> Blade {
    let file = directory.join("blade.toml");
    std::fs::write(&file, format!("[data]\n{data}\n[log]\nlevel = \"debug\"\n")).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--engine", engine, "--config"]).arg(&file);
    Blade::spawn(command)
}

/// Connects from [`CLIENT`], sends these bytes, and reads the head of the answer.
fn say(address: SocketAddr, bytes: &[u8]) -> (TcpStream, String) {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let at = |ip: Ipv4Addr, port| SockaddrIn::from(std::net::SocketAddrV4::new(ip, port));
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    bind(raw, &at(CLIENT, 0)).unwrap();
    connect(raw, &at(Ipv4Addr::LOCALHOST, address.port())).unwrap();
    let mut stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

#[test]
fn who_connects_is_known_from_proxies_that_are_trusted_and_from_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        let balancers = "proxy_protocol_from = [\"127.0.0.9\"]\ntrusted_proxies = [\"10.0.0.0/8\"]";
        let blade = blade(directory.path(), engine, balancers);
        for (preface, headers, logged) in [
            ("PROXY TCP4 203.0.113.1 192.0.2.1 4711 7400\r\n", "", "peer=203.0.113.1:4711"),
            ("PROXY TCP6 2001:db8::2 ::1 4711 7400\r\n", "", "peer=[2001:db8::2]:4711"),
            // A balancer before a proxy: the balancer names the proxy, and the proxy names the client.
            ("PROXY TCP4 10.0.0.1 192.0.2.1 1 7400\r\n", "X-Forwarded-For: 203.0.113.3\r\n", "peer=203.0.113.3:0"),
            (
                "PROXY TCP4 10.0.0.1 192.0.2.1 1 7400\r\n",
                "Forwarded: for=1.1.1.1, for=\"[2001:db8::4]:5\", for=10.0.0.7\r\n",
                "peer=[2001:db8::4]:5",
            ),
            // Headers of an untrusted client are ignored.
            (
                "PROXY TCP4 203.0.113.5 192.0.2.1 4711 7400\r\n",
                "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n",
                "peer=203.0.113.5:4711",
            ),
            ("PROXY UNKNOWN\r\n", "X-Forwarded-For: 1.1.1.1\r\n", "peer=127.0.0.9:"),
        ] {
            let request = format!("{preface}GET /v1/stream HTTP/1.1\r\n{UPGRADE}{headers}\r\n");
            let (_stream, head) = say(blade.data, request.as_bytes());
            assert!(head.starts_with("HTTP/1.1 101 "), "{engine}: {request}{head}");
            blade.until_logged(logged);
        }
        assert!(!blade.log().contains("1.1.1.1"), "{}", blade.log());
        // Faults of a client are logged under its own address, too.
        let request = format!("PROXY TCP4 203.0.113.6 192.0.2.1 4711 7400\r\nGET /v1/stream HTTP/1.1\r\n{UPGRADE}\r\n");
        let (mut stream, _) = say(blade.data, request.as_bytes());
        stream.write_all(&[0x81, 0x01, b'x']).unwrap();
        blade.until_logged("closed: a client's frames must be masked peer=203.0.113.6:4711");
        // A connection from a balancer's address needs the PROXY header.
        let (_, head) = say(blade.data, format!("GET /v1/stream HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
        assert!(head.starts_with("HTTP/1.1 400 "), "{engine}: {head}");
        blade.until_logged("127.0.0.9:");
    }
}

#[test]
fn the_data_port_answers_balancers_beside_everything_else() {
    for engine in ENGINES {
        let blade = Blade::start(&["--workers", "1", "--engine", engine]);
        blade.until("ready", |status| status["ready"] == true);
        let deadline = Instant::now() + PATIENCE;
        while !try_http(blade.data, "/healthz").unwrap().0.starts_with("HTTP/1.1 200 ") {
            assert!(Instant::now() < deadline, "{engine}: not ready");
        }
        assert!(try_http(blade.data, "/readyz").unwrap().0.starts_with("HTTP/1.1 200 "), "{engine}");
        assert!(try_http(blade.data, "/").unwrap().0.starts_with("HTTP/1.1 426 "), "{engine}");
    }
}

/// A proxy with this configuration, in which `PORT` stands for a free port; killed when dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(program: &str, args: &[&str], directory: &Path, configuration: &str) -> Option<Proxy> {
        // The port stays free for a moment, unless another process takes it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = directory.join("proxy.conf");
        std::fs::write(&file, configuration.replace("PORT", &address.port().to_string())).unwrap();
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
        let mut command = Command::new(program);
        command.args(args).arg(&file).current_dir(directory).env("PATH", path);
        let child = match Child::try_spawn(command.stdout(Stdio::null()).stderr(Stdio::null())) {
            Ok(child) => child,
            Err(error) => {
                println!("skipped: {program}: {error} (apt install {program})");
                return None;
            }
        };
        Some(Proxy { child, address })
    }

    /// Waits until the proxy serves and reaches the blade.
    fn until_answered(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !try_http(self.address, "/healthz").is_ok_and(|(head, _)| head.starts_with("HTTP/1.1 200 ")) {
            assert!(self.child.try_wait().unwrap().is_none(), "the proxy has ended");
            assert!(Instant::now() < deadline, "the proxy does not reach the blade");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn upgrade(&self, headers: &str) -> TcpStream {
        let request = format!("GET /v1/stream?subjects=/NASDAQ/** HTTP/1.1\r\n{UPGRADE}{headers}\r\n");
        let (stream, head) = say(self.address, request.as_bytes());
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }
}

#[test]
fn haproxy_says_by_proxy_header_who_the_client_is_and_asks_for_health() {
    for (engine, version) in [("uring", "send-proxy-v2"), ("epoll", "send-proxy")] {
        let directory = tempfile::tempdir().unwrap();
        let blade = blade(directory.path(), engine, "proxy_protocol_from = [\"127.0.0.1\"]");
        let configuration = format!(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             frontend in\n  bind 127.0.0.1:PORT\n  default_backend blade\n\
             backend blade\n  option httpchk GET /healthz\n  http-check expect status 200\n  \
             server blade {} {version} check check-send-proxy inter 200ms\n",
            blade.data
        );
        let Some(mut haproxy) = Proxy::start("haproxy", &["-db", "-f"], directory.path(), &configuration) else {
            return;
        };
        haproxy.until_answered();
        let stream = haproxy.upgrade("");
        blade.until_logged(&format!("peer={}", stream.local_addr().unwrap()));
    }
}

#[test]
fn nginx_says_by_header_who_the_client_is() {
    for engine in ENGINES {
        let directory = tempfile::tempdir().unwrap();
        let blade = blade(directory.path(), engine, "trusted_proxies = [\"127.0.0.1\"]");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.path().display()))
            .concat();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
             server {{\nlisten 127.0.0.1:PORT;\nlocation / {{\nproxy_pass http://{};\nproxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection $http_connection;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n}}\n}}\n}}\n",
            blade.data
        );
        let prefix = directory.path().to_str().unwrap();
        let args = ["-p", prefix, "-e", "stderr", "-c"];
        let Some(mut nginx) = Proxy::start("nginx", &args, directory.path(), &configuration) else { return };
        nginx.until_answered();
        // nginx appends the address that it knows to the header that the client sent.
        let _stream = nginx.upgrade("X-Forwarded-For: 1.1.1.1\r\n");
        blade.until_logged("a subscriber has connected through 127.0.0.1:");
        blade.until_logged("peer=127.0.0.9:0");
    }
}

type Secure = StreamOwned<ServerConnection, TcpStream>;

/// A TLS proxy before a blade, and the issuer of its certificate.
struct Front {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    issuer: PathBuf,
}

impl Front {
    fn new(directory: &Path) -> Front {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let issuer = directory.join("issuer.pem");
        std::fs::write(&issuer, certified.cert.pem()).unwrap();
        Front { listener: TcpListener::bind("127.0.0.1:0").unwrap(), config: Arc::new(config), issuer }
    }

    fn url(&self, rest: &str) -> String {
        format!("wss://localhost:{}{rest}", self.listener.local_addr().unwrap().port())
    }

    /// Serves the next connection; returns its path and query, or none if the handshake fails.
    fn serve(&self, answer: fn(&mut WebSocket<Secure>)) -> JoinHandle<Option<String>> {
        let (listener, config) = (self.listener.try_clone().unwrap(), Arc::clone(&self.config));
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            let mut asked = String::new();
            #[expect(clippy::result_large_err, reason = "the callback's error is tungstenite's choice")]
            let accepted = accept_hdr(stream, |request: &Request, response: Response| {
                asked = request.uri().to_string();
                Ok(response)
            });
            // A client that does not trust the certificate goes away in the middle of the handshake.
            answer(&mut accepted.ok()?);
            Some(asked)
        })
    }
}

/// Answers a subscription with one frame.
fn one_frame(socket: &mut WebSocket<Secure>) {
    let request = socket.read().unwrap().into_text().unwrap();
    assert!(request.contains("/X/a/v"), "{request}");
    socket.send(Message::text(r#"{"op":"subscribed","id":1,"epoch":"e","subjects":[{"subject":"/X/a/v"}]}"#)).unwrap();
    socket.send(Message::text(r#"{"s":"/X/a/v","q":1,"p":0,"t":"0","d":"secure"}"#)).unwrap();
    while socket.read().is_ok() {}
}

/// Acknowledges one record.
fn one_record(socket: &mut WebSocket<Secure>) {
    socket.send(Message::text(r#"{"op":"welcome","version":1,"epoch":"e","data_len_max":65536}"#)).unwrap();
    assert!(socket.read().unwrap().into_data().windows(6).any(|part| part == b"/D/A/v"));
    socket.send(Message::text(r#"{"op":"ack","records":1,"seq":1}"#)).unwrap();
    while socket.read().is_ok() {}
}

#[test]
fn subscribers_and_publishers_come_through_tls_that_ends_before_the_blade() {
    let directory = tempfile::tempdir().unwrap();
    let front = Front::new(directory.path());
    let issuer = front.issuer.to_str().unwrap();
    for trust in [&["--ca", issuer][..], &["--insecure"]] {
        for (rest, asked) in [("", "/v1/stream"), ("/feeds/1?key=a%2Fb", "/feeds/1?key=a%2Fb")] {
            let served = front.serve(one_frame);
            let url = front.url(rest);
            let (code, frames, said) = fanblade(&[&["subscribe", &url, "/X/a/v", "--count", "1"], trust].concat());
            assert!(code == 0 && frames.contains("\"secure\""), "{trust:?}: {frames}{said}");
            assert_eq!(served.join().unwrap().as_deref(), Some(asked));
        }
        let served = front.serve(one_record);
        let url = front.url("/publish?key=1");
        let mut command = Command::new(FANBLADE);
        command.args(["publish", &url, "--json", "--name", "me"]).args(trust).stdin(Stdio::piped());
        let mut child = Child::spawn(command.stdout(Stdio::piped()));
        child.stdin.take().unwrap().write_all(b"{\"s\":\"/D/A/v\",\"d\":1}\n").unwrap();
        let output = child.output();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(served.join().unwrap().as_deref(), Some("/publish?key=1&name=me"));
    }
    // No other issuer is trusted.
    let served = front.serve(one_frame);
    let (code, _, said) = fanblade(&["subscribe", &front.url(""), "/X/a/v"]);
    assert!(code != 0 && said.contains("UnknownIssuer") && said.contains("--ca FILE"), "{said}");
    assert_eq!(served.join().unwrap(), None);
}
