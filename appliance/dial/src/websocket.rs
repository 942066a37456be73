//! A WebSocket over a connection that we open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::dialer::{ConnectError, Dialer};

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server accepts the connection, but does not answer.
    #[error("connected, but no answer to the opening handshake within {ms} ms")]
    Late {
        /// The limit for the whole opening, milliseconds.
        ms: u128,
    },
    /// The opening handshake failed.
    #[error(transparent)]
    Handshake(#[from] tungstenite::Error),
}

/// An open WebSocket.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a WebSocket, all of it within `limit`. `tls` says which issuers to trust; `None`: those that browsers trust.
///
/// # Errors
/// The connection or the opening handshake failed, or was not complete in time.
pub async fn websocket(
    request: Request,
    tls: Option<Arc<rustls::ClientConfig>>,
    limit: Duration,
) -> Result<(Socket, Response), OpenError> {
    let began = Instant::now();
    let uri = request.uri();
    let host = uri.host().ok_or(tungstenite::Error::Url(tungstenite::error::UrlError::NoHostName))?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("wss") { 443 } else { 80 });
    let stream = Dialer::new(host, port).connect(limit).await?;
    let opening = client_async_tls_with_config(request, stream, None, tls.map(Connector::Rustls));
    match timeout(limit.saturating_sub(began.elapsed()), opening).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(OpenError::Late { ms: limit.as_millis() }),
    }
}

/// Limit for a command to open its connection.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);
