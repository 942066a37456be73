//! Fetches books over HTTP, one at a time, for venues whose stream has only the changes.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fanblade_dial::Dialer;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::http::uri::Authority;
use tokio_tungstenite::tungstenite::http::{Request, StatusCode, Uri, header};

use super::connect::explain_io;
use super::limits::{FETCH_MS_MAX, FETCH_PAUSE_MS_MAX, FETCH_PAUSE_MS_MIN, TEXT_LEN_MAX};
use super::value::excerpt;

/// Fetches books in the order in which they were asked for.
pub(super) struct Fetcher {
    client: Arc<Client>,
    waiting: VecDeque<Wanted>,
    under_way: Option<Pin<Box<dyn Future<Output = Fetched> + Send>>>,
    /// The server has asked us to send no requests until then.
    pause_end: Option<Instant>,
}

/// The result of a fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) subject: String,
    pub(super) body: Result<String, String>,
    /// How long the server has asked us to send no requests.
    pause: Option<Duration>,
}

struct Wanted {
    subject: String,
    url: String,
}

struct Client {
    tls: TlsConnector,
    /// Dialers by host and port, of which the settings name a few.
    dialers: Mutex<HashMap<(String, u16), Arc<Dialer>>>,
    len_max: usize,
}

/// Why there is no body.
struct Failure {
    text: String,
    pause: Option<Duration>,
}

impl Fetcher {
    /// `tls`: whom to trust, if an address is `https://`.
    pub(super) fn new(tls: Arc<rustls::ClientConfig>, len_max: usize) -> Fetcher {
        let client = Arc::new(Client { tls: tls.into(), dialers: Mutex::default(), len_max });
        Fetcher { client, waiting: VecDeque::new(), under_way: None, pause_end: None }
    }

    /// Drops all requests of the former connection.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.under_way = None;
    }

    /// Asks for a book. A subject that waits for its book does not ask again: requests never outnumber subjects.
    pub(super) fn ask(&mut self, subject: &str, url: &str) {
        self.waiting.push_back(Wanted { subject: subject.to_owned(), url: url.to_owned() });
    }

    /// Waits for the next book; for ever, if none has been asked for. May be cancelled and called again.
    pub(super) async fn next(&mut self) -> Fetched {
        loop {
            if let Some(fetch) = &mut self.under_way {
                let fetched = fetch.await;
                self.under_way = None;
                self.pause_end = fetched.pause.map(|pause| Instant::now() + pause);
                return fetched;
            }
            if self.waiting.is_empty() {
                return std::future::pending().await;
            }
            if let Some(end) = self.pause_end {
                sleep_until(end).await;
                self.pause_end = None;
            }
            if let Some(Wanted { subject, url }) = self.waiting.pop_front() {
                let client = Arc::clone(&self.client);
                self.under_way = Some(Box::pin(async move { client.fetch(subject, &url).await }));
            }
        }
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Client {
    async fn fetch(&self, subject: String, url: &str) -> Fetched {
        let got = match timeout(Duration::from_millis(FETCH_MS_MAX), self.get(url)).await {
            Ok(got) => got,
            Err(_) => Err(Failure::from(format!("no whole answer within {FETCH_MS_MAX} ms"))),
        };
        // The query may hold a key: leave it out.
        let address = url.split('?').next().unwrap_or_default();
        let (body, pause) = match got {
            Ok(body) => (Ok(body), None),
            Err(Failure { text, pause }) => (Err(format!("{address}: {text}")), pause),
        };
        Fetched { subject, body, pause }
    }

    async fn get(&self, url: &str) -> Result<String, Failure> {
        let uri: Uri = url.parse().map_err(|error| format!("no address: {error}"))?;
        let host = uri.host().ok_or_else(|| "no address: it has no host".to_owned())?.trim_matches(['[', ']']);
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let dialing = self.dialer(host, port);
        let stream = dialing.connect(Duration::from_millis(FETCH_MS_MAX)).await.map_err(|error| error.to_string())?;
        if !is_tls {
            return self.exchange(stream, &uri).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("`{host}`: {error}"))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| explain_io(&error))?;
        self.exchange(stream, &uri).await
    }

    /// The dialer of a host, kept because it remembers which address to try next.
    fn dialer(&self, host: &str, port: u16) -> Arc<Dialer> {
        let mut dialers = self.dialers.lock();
        Arc::clone(dialers.entry((host.to_owned(), port)).or_insert_with(|| Arc::new(Dialer::new(host, port))))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        uri: &Uri,
    ) -> Result<String, Failure> {
        let explain = |error: hyper::Error| format!("the answer is not HTTP: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(explain)?;
        let host = uri.authority().map(Authority::as_str).unwrap_or_default();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("fanblade/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("no request: {error}"))?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(explain)?;
            let (status, pause) = (answer.status(), pause(answer.headers(), answer.status()));
            let body = Limited::new(answer.into_body(), self.len_max).collect().await;
            let body = body.map_err(|error| format!("HTTP {status}, but no body: {error}"))?.to_bytes();
            if status != StatusCode::OK {
                let body = excerpt(&String::from_utf8_lossy(&body), TEXT_LEN_MAX);
                return Err(Failure { text: format!("HTTP {status}: {body}"), pause });
            }
            String::from_utf8(body.into()).map_err(|_| Failure::from("the answer is not text".to_owned()))
        };
        tokio::pin!(answer);
        tokio::pin!(connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The connection ends once the answer has arrived, but its last part may not have been read yet.
            _ = &mut connection => answer.await,
        }
    }
}

/// A server that is asked too often says how long to wait (429; Binance sends 418 to clients that go on).
fn pause(headers: &header::HeaderMap, status: StatusCode) -> Option<Duration> {
    let is_refused = matches!(status.as_u16(), 418 | 429 | 503);
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let ms = seconds.unwrap_or(0).saturating_mul(1_000).clamp(FETCH_PAUSE_MS_MIN, FETCH_PAUSE_MS_MAX);
    is_refused.then(|| Duration::from_millis(ms))
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure { text, pause: None }
    }
}
