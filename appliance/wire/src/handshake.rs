//! The opening handshake, server's side (RFC 6455 section 4.2).

mod authority;
mod fields;
mod rejection;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use sha1::{Digest, Sha1};

use fields::Fields;
pub use rejection::Rejection;

pub use crate::limits::{HEAD_LEN_MAX, HEADERS_MAX, LEADING_LINES_MAX};
use crate::proxy;

/// What the bytes of a new connection are so far.
#[derive(Debug)]
pub enum Head<'a> {
    /// The beginning of a request, whose end has not arrived.
    Incomplete,
    /// A valid opening handshake.
    Upgrade(Upgrade<'a>),
    /// Anything else: send [`Rejection::response`] and close.
    Reject(Rejection),
}

/// A valid opening handshake. Whether its origin, path and token please is the caller's decision.
#[derive(Debug)]
pub struct Upgrade<'a> {
    /// Bytes of the head. What follows are frames already.
    pub head_len: usize,
    /// Path of the request, beginning with `/`, percent-encoding left as it came.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// `Host`, or the request target's authority where it has one.
    pub host: &'a str,
    /// `Sec-WebSocket-Key`: base64 of 16 bytes.
    pub key: &'a str,
    /// Subprotocols that the client offers, in its order of preference.
    pub protocols: Vec<&'a str>,
    /// `Origin`: browsers send it, other clients need not (section 10.2).
    pub origin: Option<&'a str>,
    /// `Authorization`, scheme included.
    pub authorization: Option<&'a str>,
    /// Every `X-Forwarded-For`, in their order. Anybody can have written them.
    pub x_forwarded_for: Vec<&'a str>,
    /// Every `Forwarded` (RFC 7239), in their order. Anybody can have written them, too.
    pub forwarded: Vec<&'a str>,
}

/// Reads the head of a request.
///
/// `bytes` is all that came so far, `scanned` the length of it in the call before (0 at first): the search for the
/// end goes on from there, and the fields are parsed only once, when it is found, so that a head costs time linear in
/// its length even if it arrives byte by byte.
pub fn parse(bytes: &[u8], scanned: usize) -> Head<'_> {
    match try_parse(bytes, scanned) {
        Ok(None) => Head::Incomplete,
        Ok(Some(upgrade)) => Head::Upgrade(upgrade),
        Err(rejection) => Head::Reject(rejection),
    }
}

impl Upgrade<'_> {
    /// Does the client offer this subprotocol? It is compared exactly (section 4.2.2).
    pub fn offers(&self, protocol: &str) -> bool {
        self.protocols.contains(&protocol)
    }

    /// Appends the `101` (section 4.2.2). `protocol` is told only to a client that offered it: any other would have to
    /// fail the connection.
    pub fn response(&self, protocol: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
        out.extend_from_slice(b"Sec-WebSocket-Accept: ");
        out.extend_from_slice(&accept_token(self.key));
        if let Some(protocol) = protocol.filter(|protocol| self.offers(protocol)) {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(protocol.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// `Sec-WebSocket-Accept` for a key: base64 of the SHA-1 of the key and a fixed GUID (section 4.2.2).
pub(crate) fn accept_token(key: &str) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut token = [0; 28];
    // 20 bytes are 28 characters, which fit.
    let _ = STANDARD.encode_slice(digest, &mut token);
    token
}

/// Length of the head up to and with its empty line, if that lies within the first [`HEAD_LEN_MAX`] bytes.
pub(crate) fn head_len(bytes: &[u8], scanned: usize) -> Option<usize> {
    let bytes = bytes.get(..HEAD_LEN_MAX).unwrap_or(bytes);
    // The empty line may have begun in what was scanned before.
    let from = scanned.min(bytes.len()).saturating_sub(END.len() - 1);
    let position = memmem::find(bytes.get(from..)?, END)?;
    Some(from + position + END.len())
}

fn try_parse(bytes: &[u8], scanned: usize) -> Result<Option<Upgrade<'_>>, Rejection> {
    // Empty lines may come first. What begins otherwise than a request is told at once, before its end has come.
    let lead = leading_lines(bytes);
    let (all, bytes, scanned) = (bytes, bytes.get(lead..).unwrap_or_default(), scanned.saturating_sub(lead));
    if proxy::is_like_header(all) || proxy::is_like_header(bytes) {
        return Err(Rejection::new(400, UNEXPECTED_PROXY_HEADER));
    }
    match bytes.first() {
        // The second half of an empty line has not come.
        Some(b'\r') if bytes.len() == 1 && lead < 2 * LEADING_LINES_MAX => return Ok(None),
        Some(0x16) => {
            return Err(Rejection::new(
                400,
                "This is a TLS handshake, but the port speaks plain WebSocket: use ws://.",
            ));
        }
        Some(first) if !first.is_ascii_alphabetic() => return Err(Rejection::new(400, NOT_HTTP)),
        _ => {}
    }
    // The head has to end in time.
    let Some(head_len) = head_len(bytes, scanned) else {
        return if bytes.len() < HEAD_LEN_MAX {
            Ok(None)
        } else if memchr::memchr(b'\n', bytes.get(..HEAD_LEN_MAX).unwrap_or(bytes)).is_none() {
            Err(Rejection::new(414, "The address is longer than 8 KiB; what does not fit is asked for in a message."))
        } else {
            Err(Rejection::new(431, "The request's head is longer than 8 KiB."))
        };
    };
    // It has to be HTTP.
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes.get(..head_len).unwrap_or_default()) {
        Ok(httparse::Status::Complete(length)) if length == head_len => {}
        // It ends earlier, at an empty line of bare line feeds: two readers of such a head may disagree on its end.
        Ok(_) => return Err(Rejection::new(400, "The request's lines must end with CR LF.")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Rejection::new(431, "The request has more than 64 header fields."));
        }
        Err(httparse::Error::Version) => return Err(Rejection::new(505, HTTP_VERSION)),
        Err(_) => return Err(Rejection::new(400, NOT_HTTP)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Rejection::new(400, NOT_HTTP));
    };
    // Section 4.1: "The method of the request MUST be GET".
    let not_get = Rejection::new(405, "A WebSocket begins with a GET request.");
    let is_head = method == "HEAD";
    if method != "GET" && !is_head {
        return Err(not_get);
    }
    // A plain GET or HEAD is no mistake: people and balancers send them.
    let fields = Fields::read(request.headers)?;
    if fields.is_plain() {
        let path = split_target(target).map_or("", |(_, path, _)| path);
        return Err(if is_head { not_get.of_head(path) } else { fields.page(path) });
    }
    if is_head {
        return Err(not_get.of_head(""));
    }
    fields.check_upgrade()?;
    // Section 4.1: "the HTTP version MUST be at least 1.1".
    if minor == 0 {
        return Err(Rejection::new(505, HTTP_VERSION));
    }
    let (authority, path, query) = split_target(target)?;
    Ok(Some(Upgrade {
        head_len: lead + head_len,
        path,
        query,
        host: fields.host(authority)?,
        key: fields.key()?,
        protocols: fields.protocols,
        origin: fields.origin,
        authorization: fields.authorization,
        x_forwarded_for: fields.x_forwarded_for,
        forwarded: fields.forwarded,
    }))
}

/// Bytes of the empty lines at the beginning, as many as may be there.
fn leading_lines(bytes: &[u8]) -> usize {
    2 * bytes.chunks_exact(2).take(LEADING_LINES_MAX).take_while(|line| *line == b"\r\n").count()
}

/// A request target is a path, or a whole URL, which RFC 9112 section 3.2.2 wants understood: authority, path, query.
fn split_target(target: &str) -> Result<(Option<&str>, &str, Option<&str>), Rejection> {
    let bad = Rejection::new(400, "The request's target must be a path that begins with a slash, without a fragment.");
    // RFC 3986 section 3.1: "schemes are case-insensitive".
    let known = ["http", "https", "ws", "wss"];
    let (authority, target) = match target.split_once("://") {
        Some((scheme, url)) if known.iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            let (authority, target) = url.split_at(url.find(['/', '?']).unwrap_or(url.len()));
            (Some(authority), if target.is_empty() { "/" } else { target })
        }
        _ => (None, target),
    };
    // Section 3: "Fragment identifiers […] MUST NOT be used".
    if !target.starts_with('/') || target.contains('#') {
        return Err(bad);
    }
    Ok(match target.split_once('?') {
        Some((path, query)) => (authority, path, Some(query)),
        None => (authority, target, None),
    })
}

/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const END: &[u8] = b"\r\n\r\n";
const NOT_HTTP: &str = "This is not an HTTP request; a WebSocket begins with one.";
const UNEXPECTED_PROXY_HEADER: &str = "This is a PROXY protocol header, but it is not taken from this address; \
    [data] proxy_protocol_from names those from which it is.";
const HTTP_VERSION: &str = "A WebSocket begins with HTTP/1.1.";

#[cfg(test)]
mod tests;
