//! Opens a WebSocket to an address, and says in words what prevents it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fanblade_dial::{Dialer, IssuersError};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{self, HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::limits::TEXT_LEN_MAX;
use super::settings::Settings;
use super::value::excerpt;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A server, and how to open a WebSocket to it.
#[derive(Debug)]
pub(super) struct Target {
    request: Request,
    dialer: Dialer,
    connect_max: Duration,
    options: WebSocketConfig,
    tls: Arc<rustls::ClientConfig>,
    address: String,
}

/// Faults of the settings that show only when they are used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The address is not valid.
    #[error("`{0}` is not the address of a WebSocket server")]
    Url(String),
    /// A header is not valid.
    #[error("`{0}` is not an HTTP header")]
    Header(String),
    /// The issuers in `ca_file` are not usable.
    #[error(transparent)]
    Issuers(#[from] IssuersError),
}

impl Target {
    /// `tls`: whom to trust, if the address is `wss://`.
    pub(super) fn new(settings: &Settings, tls: Arc<rustls::ClientConfig>) -> Result<Target, TargetError> {
        let url = &settings.url;
        let mut request = url.as_str().into_client_request().map_err(|_| TargetError::Url(url.clone()))?;
        let uri = request.uri();
        let host = uri.host().ok_or_else(|| TargetError::Url(url.clone()))?.to_owned();
        let scheme = uri.scheme_str().unwrap_or_default().to_owned();
        let port = uri.port_u16().unwrap_or(if scheme == "wss" { 443 } else { 80 });
        // The query may hold a key: leave it out.
        let address = format!("{scheme}://{host}:{port}{}", uri.path());
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("fanblade/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &settings.headers {
            let pair = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (name, value) = pair.ok_or_else(|| TargetError::Header(name.clone()))?;
            headers.insert(name, value);
        }
        let len_max = Some(settings.message_len_max);
        Ok(Target {
            request,
            dialer: Dialer::new(&host, port),
            connect_max: settings.connect_max,
            options: WebSocketConfig::default().max_message_size(len_max).max_frame_size(len_max),
            tls,
            address,
        })
    }

    /// The address without its query, which may be secret.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn connect(&self) -> Result<Socket, String> {
        let deadline = Instant::now() + self.connect_max;
        let stream = self.dialer.connect(self.connect_max).await.map_err(|error| error.to_string())?;
        let connector = Some(Connector::Rustls(Arc::clone(&self.tls)));
        let opening = client_async_tls_with_config(self.request.clone(), stream, Some(self.options), connector);
        let opened = self.until(deadline, "connected, but no answer to the opening handshake", opening).await?;
        opened.map(|(socket, _)| socket).map_err(|error| explain(&error))
    }

    async fn until<T>(&self, deadline: Instant, what: &str, step: impl Future<Output = T>) -> Result<T, String> {
        timeout_at(deadline, step).await.map_err(|_| format!("{what} within {} ms", self.connect_max.as_millis()))
    }
}

/// The error that ended or prevented a connection, in words.
pub(super) fn explain(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let body = match body.trim() {
                "" => String::new(),
                body => format!(": {}", excerpt(body, TEXT_LEN_MAX)),
            };
            format!("no WebSocket, but HTTP {}{body}", response.status())
        }
        tungstenite::Error::Io(error) => explain_io(error),
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            format!("a message of {size} bytes or more; `message_len_max` is {max_size}")
        }
        tungstenite::Error::Protocol(ProtocolError::HttparseError(error)) => format!("the answer is not HTTP: {error}"),
        error => error.to_string(),
    }
}

pub(super) fn explain_io(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return error.to_string();
    };
    let hint = match tls {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "; `ca_file` names the certificates of issuers of your own"
        }
        rustls::Error::InvalidMessage(_) => "; does the server speak TLS at this port?",
        _ => "",
    };
    format!("TLS: {tls}{hint}")
}

/// A close frame in words.
pub(super) fn explain_close(message: &Message) -> String {
    match message {
        Message::Close(Some(frame)) if !frame.reason.is_empty() => {
            format!("the server has closed with {}: {}", u16::from(frame.code), excerpt(&frame.reason, TEXT_LEN_MAX))
        }
        Message::Close(Some(frame)) => format!("the server has closed with {}", u16::from(frame.code)),
        _ => "the server has closed".to_owned(),
    }
}
