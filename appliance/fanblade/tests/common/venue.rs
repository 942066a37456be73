//! A venue: a WebSocket server that sends what a test tells it to; and a subscriber that receives what the blade makes
//! of it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fanblade_testkit::{Blade, PATIENCE};
use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// A server that the blade connects to.
pub struct Venue {
    listener: TcpListener,
    directory: TempDir,
}

/// The blade's connection to the venue.
pub struct Upstream<S = TcpStream> {
    socket: WebSocket<S>,
    /// The path of the opening request.
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Venue {
    pub fn new() -> Venue {
        Venue { listener: TcpListener::bind("127.0.0.1:0").unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A file that lives as long as the venue.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// A blade with this configuration: `url` is replaced by the venue's address, and `keys` are added to
    /// `[feed.websocket]`.
    pub fn blade(&self, config: &str, keys: &str) -> Blade {
        self.blade_with(config, keys, &["--workers", "1"])
    }

    pub fn blade_with(&self, config: &str, keys: &str, args: &[&str]) -> Blade {
        let line = config.lines().find(|line| line.starts_with("url = ")).unwrap();
        let path = line.split('"').nth(1).unwrap().splitn(4, '/').nth(3).unwrap_or_default();
        self.blade_at(&format!("ws://{}/{path}", self.address()), config, keys, args)
    }

    pub fn blade_at(&self, url: &str, config: &str, keys: &str, args: &[&str]) -> Blade {
        let line = config.lines().find(|line| line.starts_with("url = ")).unwrap();
        // Durations that suit a test, unless the configuration or the test sets others.
        let mut new = format!("url = \"{url}\"\n{keys}\n");
        for (key, value) in [("reconnect_ms_min", "20"), ("reconnect_ms_max", "100")] {
            if !config.contains(key) && !keys.contains(key) {
                new += &format!("{key} = {value}\n");
            }
        }
        let file = self.file("config.toml", &config.replace(line, &new));
        let mut all = vec!["--config", file.to_str().unwrap()];
        all.extend(args);
        Blade::start(&all)
    }

    /// Accepts the blade's next connection, including the upgrade.
    pub fn accept(&self) -> Upstream {
        Upstream::accept(self.accept_tcp())
    }

    /// Accepts the blade's next connection without an answer.
    pub fn accept_tcp(&self) -> TcpStream {
        // The listener has no deadline of its own.
        self.listener.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    return stream;
                }
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
            }
            assert!(Instant::now() < deadline, "the blade does not connect");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl<S: Read + Write> Upstream<S> {
    pub fn accept(stream: S) -> Upstream<S> {
        let (mut path, mut headers) = (String::new(), Vec::new());
        #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
        let look = |request: &Request, response: Response| {
            path = request.uri().to_string();
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            headers =
                request.headers().iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
            Ok(response)
        };
        let socket = tungstenite::accept_hdr(stream, look).unwrap_or_else(|error| panic!("no upgrade: {error}"));
        Upstream { socket, path, headers }
    }

    /// Reads the blade's next text.
    pub fn text(&mut self) -> String {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => return text.as_str().to_owned(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} instead of a text"),
            }
        }
    }

    /// Reads the blade's next text; none when the blade has gone.
    pub fn text_or_end(&mut self) -> Option<String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Reads the texts that have already come; needs a read timeout on the stream.
    pub fn texts_at_hand(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => texts.push(text.as_str().to_owned()),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return texts,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Checks that the blade's next text is this one, compared as JSON.
    pub fn expect(&mut self, expected: &Value) {
        let text = self.text();
        assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), expected, "{text}");
    }

    pub fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    pub fn send_message(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    pub fn try_send(&mut self, text: &str) -> tungstenite::Result<()> {
        self.socket.send(Message::text(text))
    }

    pub fn flush(&mut self) -> tungstenite::Result<()> {
        self.socket.flush()
    }

    /// Closes the connection properly, and waits for the answer.
    pub fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.socket.close(Some(frame)).unwrap();
        while self.socket.read().is_ok() {}
    }

    /// Reads until the blade has closed the connection.
    pub fn wait_for_end(&mut self) {
        while self.socket.read().is_ok() {}
    }

    pub fn stream(&self) -> &S {
        self.socket.get_ref()
    }
}

/// A subscriber that gets everything.
pub struct Subscriber {
    socket: WebSocket<TcpStream>,
    /// Data frames and notices that no test has taken yet, in order.
    frames: Vec<Value>,
    notices: Vec<Value>,
    /// Data frames as text.
    texts: Vec<String>,
}

impl Subscriber {
    pub fn new(blade: &Blade) -> Subscriber {
        let stream = TcpStream::connect(blade.data).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{}/v1/stream?subjects=/**&mode=all", blade.data);
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        // The subscription is in force once it has been answered.
        let reply = loop {
            if let Message::Text(text) = socket.read().unwrap() {
                break serde_json::from_str::<Value>(&text).unwrap();
            }
        };
        assert_eq!(reply["op"], "subscribed", "{reply}");
        Subscriber { socket, frames: Vec::new(), notices: Vec::new(), texts: Vec::new() }
    }

    /// The next data frame; notices before it are kept.
    pub fn frame(&mut self) -> Value {
        let began = Instant::now();
        while self.frames.is_empty() {
            assert!(began.elapsed() < PATIENCE, "no frame; notices: {:?}", self.notices);
            self.read();
        }
        self.frames.remove(0)
    }

    /// Checks that the next data frame is of this subject; returns its `d`.
    pub fn value(&mut self, subject: &str) -> Value {
        let mut frame = self.frame();
        assert_eq!(frame["s"], subject, "{frame}");
        frame["d"].take()
    }

    /// The text of the newest data frame that was read.
    pub fn newest_text(&self) -> &str {
        self.texts.last().unwrap()
    }

    /// The next notice of this kind; earlier ones are dropped. Notices of the feed's condition take another way to
    /// subscribers, so they may come before or after an epoch: they are dropped only with each other.
    pub fn notice(&mut self, kind: &str) -> Value {
        let began = Instant::now();
        loop {
            // Pings keep coming, so the socket's read timeout never expires.
            assert!(began.elapsed() < PATIENCE, "no notice {kind}, but {:?}, {:?}", self.notices, self.frames);
            if let Some(at) = self.notices.iter().position(|notice| notice["kind"] == kind) {
                let found = self.notices.remove(at);
                let is_other = |notice: &Value| is_of_condition(notice) != is_of_condition(&found);
                let kept = self.notices.drain(..at).filter(is_other).collect::<Vec<_>>();
                self.notices.splice(..0, kept);
                return found;
            }
            self.read();
        }
    }

    fn read(&mut self) {
        match self.socket.read().unwrap() {
            Message::Text(text) => {
                let value: Value = serde_json::from_str(&text).unwrap();
                if value["op"].is_null() {
                    self.texts.push(text.as_str().to_owned());
                    self.frames.push(value);
                } else if value["op"] == "notice" {
                    self.notices.push(value);
                }
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn is_of_condition(notice: &Value) -> bool {
    ["live", "stale"].iter().any(|kind| notice["kind"] == *kind)
}
