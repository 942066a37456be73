//! The connection of `fanblade publish`, over any of the three transports.

use std::io;

use anyhow::{Context as _, bail};
use fanblade_dial::{CONNECT_MAX, ConnectError, Dialer, OpenError, Socket, websocket_url};
use fanblade_feed::publisher::{Frames, Hello, Request};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

use super::replies::Replies;
use crate::commands::tls::TlsArgs;

/// The writing half of the connection.
pub(super) enum Writing {
    Frames(Box<dyn AsyncWrite + Send + Unpin>),
    Messages(SplitSink<Socket, Message>),
}

/// Connects and sends the hello.
pub(super) async fn connect(
    address: &str,
    name: &str,
    token: &str,
    tls: &TlsArgs,
) -> anyhow::Result<(Writing, Replies)> {
    if let Some((scheme, _)) = address.split_once("://") {
        if !["ws", "http", "wss", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            bail!("`{scheme}://` is not supported; write HOST:PORT, unix:PATH, ws://HOST:PORT or wss://HOST");
        }
        return websocket(&websocket_url(address, "/v1/publish")?, name, token, tls).await;
    }
    let _ = tls.config(address)?;
    if let Some(path) = address.strip_prefix("unix:") {
        let stream = UnixStream::connect(path).await.map_err(|error| explain(address, &error))?;
        let (read, write) = stream.into_split();
        return greet(address, read, write, name, token).await;
    }
    let dialer = Dialer::of(address).with_context(|| format!("cannot connect to {address}"))?;
    let stream = dialer.connect(CONNECT_MAX).await.map_err(|error| unreachable(address, &error))?;
    let (read, write) = stream.into_split();
    greet(address, read, write, name, token).await
}

async fn greet(
    address: &str,
    read: impl AsyncRead + Send + Unpin + 'static,
    mut write: impl AsyncWrite + Send + Unpin + 'static,
    name: &str,
    token: &str,
) -> anyhow::Result<(Writing, Replies)> {
    let mut hello = Vec::new();
    Request::Hello(Hello { wants_acks: true, name, token: token.as_bytes() }).write(&mut hello);
    write.write_all(&hello).await.with_context(|| address.to_owned())?;
    Ok((Writing::Frames(Box::new(write)), Replies::Frames(Box::new(read), Frames::new(REPLY_LEN_MAX))))
}

async fn websocket(url: &str, name: &str, token: &str, tls: &TlsArgs) -> anyhow::Result<(Writing, Replies)> {
    let trusted = tls.config(url)?;
    let url = match (name, url.contains('?')) {
        ("", _) => url.to_owned(),
        (name, true) => format!("{url}&name={name}"),
        (name, false) => format!("{url}?name={name}"),
    };
    let mut request = url.as_str().into_client_request().with_context(|| url.clone())?;
    if !token.is_empty() {
        request.headers_mut().insert(
            "Authorization",
            format!("Bearer {token}").parse().context("the token does not fit an HTTP header")?,
        );
    }
    let (socket, _) = fanblade_dial::websocket(request, trusted, CONNECT_MAX).await.map_err(|error| match error {
        OpenError::Connect(error) => unreachable(&url, &error),
        OpenError::Handshake(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            anyhow::anyhow!("{url} answered {}: {}", response.status(), body.trim())
        }
        error => match crate::commands::tls::explain(&error) {
            Some(fault) => anyhow::anyhow!("cannot connect to {url}: {fault}"),
            None => anyhow::Error::new(error).context(format!("cannot connect to {url}")),
        },
    })?;
    let (sink, stream) = socket.split();
    Ok((Writing::Messages(sink), Replies::Messages(stream)))
}

fn explain(address: &str, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => nobody(address),
        _ => anyhow::anyhow!("cannot connect to {address}: {error}"),
    }
}

fn unreachable(address: &str, error: &ConnectError) -> anyhow::Error {
    if error.is_refused() { nobody(address) } else { anyhow::anyhow!("cannot connect to {address}: {error}") }
}

fn nobody(address: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "nothing listens at {address}; is a blade running with the feed `publisher`? Its address is printed at its start"
    )
}

impl Writing {
    /// Sends whole frames.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Writing::Frames(write) => write.write_all(bytes).await.context("cannot send"),
            Writing::Messages(sink) => sink.send(Message::binary(bytes.to_vec())).await.context("cannot send"),
        }
    }

    /// Says that no more records follow.
    pub(super) async fn close(&mut self) -> anyhow::Result<()> {
        match self {
            Writing::Frames(write) => write.shutdown().await.context("cannot close"),
            Writing::Messages(sink) => sink.close().await.context("cannot close"),
        }
    }
}

/// A message of the blade has a few sentences at most.
const REPLY_LEN_MAX: usize = 16 << 10;
