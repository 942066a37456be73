//! `tungstenite`: what people write themselves in Rust: tokio, tokio-tungstenite, a task for each connection, and a
//! broadcast channel for each subject. A connection with a list of subjects has a channel of its own instead, and each
//! subject holds the senders of those who want it. The server keeps the contract in [`super::contract`].
//!
//! Its configuration is the best that we know. One CPU: a runtime of one thread, so that no wake-up crosses threads.
//! The text is shared by all tasks. What waits in the channel goes into one write. Read buffers are small, because
//! subscribers send almost nothing.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use clap::Args;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

#[derive(Debug, Args)]
pub(crate) struct TungsteniteArgs {
    port: u16,
    subjects: u32,
}

pub(super) fn configuration(cpus: &[usize]) -> Value {
    json!({
        "tokio_threads": cpus.len(),
        "read_buffer_size": READ_BUFFER_LEN,
        "channel_len_max": CHANNEL_LEN_MAX,
        "channel_len_of_a_list": LIST_CHANNEL_LEN,
        "writes": "what waits in the channel in one write",
        "nodelay": true,
    })
}

/// The process itself.
pub(crate) fn run(args: &TungsteniteArgs) -> anyhow::Result<()> {
    fanblade_net::rlimit::raise_descriptors()?;
    let threads = fanblade_net::affinity::cpus_allowed()?.len();
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_io().build()?.block_on(serve(args))
}

type Subjects = Arc<[Subject]>;

/// A broadcast channel for connections that want nothing else, and the channels of the others.
struct Subject {
    alone: Sender<Utf8Bytes>,
    listed: Mutex<Vec<mpsc::Sender<Utf8Bytes>>>,
}

impl Subject {
    fn send(&self, text: &Utf8Bytes) {
        // Fails if nobody has subscribed.
        let _ = self.alone.send(text.clone());
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection whose channel is full misses the message, and its client counts that.
        listed.retain(|to| !matches!(to.try_send(text.clone()), Err(TrySendError::Closed(_))));
    }
}

async fn serve(args: &TungsteniteArgs) -> anyhow::Result<()> {
    let len = (CHANNELS_LEN / args.subjects.max(1) as usize).clamp(CHANNEL_LEN_MIN, CHANNEL_LEN_MAX);
    let subject = |_| Subject { alone: Sender::new(len), listed: Mutex::default() };
    let subjects: Subjects = (0..args.subjects).map(subject).collect();
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, args.port).into())?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        let subjects = Arc::clone(&subjects);
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &subjects).await {
                eprintln!("a connection has ended: {error}");
            }
        });
    }
}

/// What a client wants, by the path of its request.
enum Role {
    Subscriber(Receiver<Utf8Bytes>),
    Listed(mpsc::Receiver<Utf8Bytes>),
    Publisher,
}

async fn connection(stream: TcpStream, subjects: &Subjects) -> tungstenite::Result<()> {
    stream.set_nodelay(true)?;
    let mut role = None;
    // Subscribes before the handshake is answered, so that nobody who is connected misses anything.
    #[expect(clippy::result_large_err, reason = "the library wants it so")]
    let on_request = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        role = match request.uri().path().trim_start_matches('/') {
            "publish" => Some(Role::Publisher),
            list if list.contains(',') => listed(list, subjects).map(Role::Listed),
            number => {
                let subject = number.parse::<usize>().ok().and_then(|number| subjects.get(number));
                subject.map(|subject| Role::Subscriber(subject.alone.subscribe()))
            }
        };
        if role.is_some() {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(Some("there is no such subject".to_owned()));
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        Err(refusal)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_LEN);
    let socket = accept_hdr_async_with_config(stream, on_request, Some(config)).await?;
    match role {
        Some(Role::Subscriber(messages)) => subscriber(socket, messages).await,
        Some(Role::Listed(messages)) => subscriber_with_list(socket, messages).await,
        Some(Role::Publisher) => publisher(socket, subjects).await,
        None => Ok(()),
    }
}

/// Subscribes to all subjects of the list, if they exist.
fn listed(list: &str, subjects: &Subjects) -> Option<mpsc::Receiver<Utf8Bytes>> {
    let (sender, receiver) = mpsc::channel(LIST_CHANNEL_LEN);
    let list: Option<Vec<&Subject>> =
        list.split(',').map(|number| subjects.get(number.parse::<usize>().ok()?)).collect();
    for subject in list? {
        subject.listed.lock().unwrap_or_else(PoisonError::into_inner).push(sender.clone());
    }
    Some(receiver)
}

async fn subscriber_with_list(
    mut socket: WebSocketStream<TcpStream>,
    mut messages: mpsc::Receiver<Utf8Bytes>,
) -> tungstenite::Result<()> {
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(text) = message else { return Ok(()) };
                socket.feed(Message::Text(text)).await?;
                while let Ok(text) = messages.try_recv() {
                    socket.feed(Message::Text(text)).await?;
                }
                socket.flush().await?;
            },
            // The library answers pings.
            heard = socket.next() => match heard {
                Some(heard) => drop(heard?),
                None => return Ok(()),
            },
        }
    }
}

async fn subscriber(
    mut socket: WebSocketStream<TcpStream>,
    mut messages: Receiver<Utf8Bytes>,
) -> tungstenite::Result<()> {
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(text) => {
                    socket.feed(Message::Text(text)).await?;
                    while let Ok(text) = messages.try_recv() {
                        socket.feed(Message::Text(text)).await?;
                    }
                    socket.flush().await?;
                }
                // The subscriber counts what it has missed.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            // The library answers pings.
            heard = socket.next() => match heard {
                Some(heard) => drop(heard?),
                None => return Ok(()),
            },
        }
    }
}

async fn publisher(mut socket: WebSocketStream<TcpStream>, subjects: &Subjects) -> tungstenite::Result<()> {
    while let Some(message) = socket.next().await {
        let message = message?.into_data();
        let Some((number, text)) = message.split_first_chunk::<4>() else { continue };
        let text = Utf8Bytes::try_from(message.slice(message.len() - text.len()..))?;
        if let Some(subject) = subjects.get(u32::from_le_bytes(*number) as usize) {
            subject.send(&text);
        }
    }
    Ok(())
}

const READ_BUFFER_LEN: usize = 1_024;
/// A channel's slots are allocated at its creation, so each channel has fewer if there are many channels.
const CHANNELS_LEN: usize = 1 << 20;
const CHANNEL_LEN_MIN: usize = 16;
const CHANNEL_LEN_MAX: usize = 4_096;
const LIST_CHANNEL_LEN: usize = 256;
const BACKLOG: u32 = 4_096;
