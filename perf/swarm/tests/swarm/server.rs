//! Servers: one that says what a test wants, and one that broadcasts as people write it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use fanblade_wire::handshake::{self, Head};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;

/// A server that upgrades its clients, and then says to each what the test wants.
pub(crate) struct Server {
    listener: TcpListener,
    clients: Vec<Client>,
}

pub(crate) struct Client(TcpStream);

impl Server {
    pub(crate) fn start() -> Server {
        Server { listener: TcpListener::bind("0.0.0.0:0").unwrap(), clients: Vec::new() }
    }

    pub(crate) fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    pub(crate) fn url_at(&self, host: &str) -> String {
        format!("ws://{host}:{}/", self.listener.local_addr().unwrap().port())
    }

    /// Takes `count` clients, and greets each in the same write as the answer to its upgrade.
    pub(crate) fn accept(&mut self, count: usize, greeting: &[u8]) {
        for _ in 0..count {
            let mut client = Client(self.listener.accept().unwrap().0);
            client.0.set_nodelay(true).unwrap();
            client.0.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut request = Vec::new();
            let mut answer = Vec::new();
            while answer.is_empty() {
                request.extend(client.receive(1));
                match handshake::parse(&request, 0) {
                    Head::Incomplete => {}
                    Head::Upgrade(upgrade) => upgrade.response(None, &mut answer),
                    Head::Reject(_) => panic!("{}", String::from_utf8_lossy(&request)),
                }
            }
            answer.extend_from_slice(greeting);
            client.send(&answer);
            self.clients.push(client);
        }
    }

    pub(crate) fn each(&mut self, mut with: impl FnMut(usize, &mut Client)) {
        self.clients.iter_mut().enumerate().for_each(|(at, client)| with(at, client));
    }
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Whether the other end has reset the connection without saying anything.
    pub(crate) fn is_reset(&mut self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let error = self.0.read(&mut [0]).unwrap_err();
        error.kind() == std::io::ErrorKind::ConnectionReset
    }

    pub(crate) fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// A broadcast server of tokio-tungstenite and a broadcast channel.
pub(crate) struct Broadcast {
    addr: SocketAddr,
    sender: broadcast::Sender<String>,
    _runtime: tokio::runtime::Runtime,
}

impl Broadcast {
    pub(crate) fn start() -> Broadcast {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, _) = broadcast::channel::<String>(1_024);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let messages = sender.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Subscribes before the handshake is answered, so that nobody who is connected misses anything.
                let mut messages = messages.subscribe();
                tokio::spawn(async move {
                    let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                    let (mut to, mut from) = socket.split();
                    tokio::spawn(async move { while from.next().await.is_some_and(|it| it.is_ok()) {} });
                    while let Ok(text) = messages.recv().await {
                        if to.send(Message::text(text)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Broadcast { addr, sender, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.addr)
    }

    pub(crate) fn send(&self, text: &str) {
        self.sender.send(text.to_owned()).unwrap();
    }
}
