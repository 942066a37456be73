//! The header fields of an opening handshake, and what RFC 6455 section 4.2.1 demands of them.

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use httparse::Header;

use super::Rejection;
use super::authority::is_authority;

/// The fields that matter here, each at most once where it may not be repeated.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) protocols: Vec<&'a str>,
    pub(super) origin: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    pub(super) x_forwarded_for: Vec<&'a str>,
    pub(super) forwarded: Vec<&'a str>,
    host: Option<&'a str>,
    key: Option<&'a str>,
    version: Option<&'a str>,
    has_upgrade: bool,
    has_connection_upgrade: bool,
    has_body: bool,
    accepts_html: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn read(headers: &[Header<'a>]) -> Result<Fields<'a>, Rejection> {
        let mut fields = Fields::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                once(&mut fields.host, header, "There is more than one Host header.")?;
            } else if is("origin") {
                once(&mut fields.origin, header, "There is more than one Origin header.")?;
            } else if is("authorization") {
                once(&mut fields.authorization, header, "There is more than one Authorization header.")?;
            } else if is("sec-websocket-key") {
                // Section 11.3.1: "MUST NOT appear more than once in an HTTP request"; so 11.3.5 and RFC 9112 3.2.
                once(&mut fields.key, header, "There is more than one Sec-WebSocket-Key header.")?;
            } else if is("sec-websocket-version") {
                once(&mut fields.version, header, "There is more than one Sec-WebSocket-Version header.")?;
            } else if is("upgrade") {
                fields.has_upgrade |= tokens(text(header)?).any(|token| token.eq_ignore_ascii_case("websocket"));
            } else if is("connection") {
                fields.has_connection_upgrade |=
                    tokens(text(header)?).any(|token| token.eq_ignore_ascii_case("upgrade"));
            } else if is("sec-websocket-protocol") {
                // Section 11.3.4: it may appear several times, which is the same as one with all the values.
                fields.add_protocols(text(header)?)?;
            } else if is("x-forwarded-for") {
                fields.x_forwarded_for.push(text_or_mark(header));
            } else if is("forwarded") {
                fields.forwarded.push(text_or_mark(header));
            } else if is("transfer-encoding") {
                fields.has_body = true;
            } else if is("content-length") {
                fields.has_body |= header.value != b"0";
            } else if is("accept") {
                fields.accepts_html |= header.value.windows(9).any(|window| window.eq_ignore_ascii_case(b"text/html"));
            }
        }
        Ok(fields)
    }

    /// Is nothing of an upgrade there? Then a person asks with a browser or curl, or a balancer asks how we are.
    pub(super) fn is_plain(&self) -> bool {
        !self.has_upgrade && self.key.is_none()
    }

    /// The answer to a request without an upgrade.
    pub(super) fn page(&self, path: &str) -> Rejection {
        Rejection::page(self.host, path, self.accepts_html)
    }

    /// Section 4.2.1, items 3 to 6, in the order in which the answers help most.
    pub(super) fn check_upgrade(&self) -> Result<(), Rejection> {
        if !self.has_upgrade {
            return Err(Rejection::new(426, "The header Upgrade: websocket is missing; a proxy may have removed it."));
        }
        if !self.has_connection_upgrade {
            return Err(Rejection::new(400, "The header Connection: Upgrade is missing; a proxy may have removed it."));
        }
        // Section 4.4: a server that does not support the version answers with those that it does.
        if self.version != Some("13") {
            return Err(Rejection::new(426, "Sec-WebSocket-Version must be 13."));
        }
        // Frames follow the head; a body would be taken for them.
        if self.has_body {
            return Err(Rejection::new(400, "An opening handshake has no body."));
        }
        Ok(())
    }

    /// Section 4.2.1 item 5: "a base64-encoded […] value that, when decoded, is 16 bytes in length".
    pub(super) fn key(&self) -> Result<&'a str, Rejection> {
        let key = self.key.ok_or(Rejection::new(400, "The header Sec-WebSocket-Key is missing."))?;
        let mut nonce = [0; 18];
        match KEY_ENCODING.decode_slice(key, &mut nonce) {
            Ok(16) => Ok(key),
            _ => Err(Rejection::new(400, "Sec-WebSocket-Key must be 16 bytes in base64.")),
        }
    }

    /// RFC 9112 section 3.2: exactly one `Host`, even where the target has an authority, which then counts (3.2.2).
    pub(super) fn host(&self, authority: Option<&'a str>) -> Result<&'a str, Rejection> {
        let host = self.host.ok_or(Rejection::new(400, "The header Host is missing."))?;
        let host = authority.unwrap_or(host);
        if is_authority(host) { Ok(host) } else { Err(Rejection::new(400, "The header Host is not a host and port.")) }
    }

    /// Section 4.1 item 10: tokens, unique.
    fn add_protocols(&mut self, value: &'a str) -> Result<(), Rejection> {
        for protocol in tokens(value) {
            if !protocol.bytes().all(is_token_byte) {
                return Err(Rejection::new(400, "Sec-WebSocket-Protocol holds something that is not a token."));
            }
            if self.protocols.contains(&protocol) {
                return Err(Rejection::new(400, "Sec-WebSocket-Protocol names a protocol twice."));
            }
            if self.protocols.len() == PROTOCOLS_MAX {
                return Err(Rejection::new(431, "Sec-WebSocket-Protocol names more than 16 protocols."));
            }
            self.protocols.push(protocol);
        }
        Ok(())
    }
}

fn once<'a>(slot: &mut Option<&'a str>, header: &Header<'a>, twice: &'static str) -> Result<(), Rejection> {
    match slot.replace(text(header)?) {
        None => Ok(()),
        Some(_) => Err(Rejection::new(400, twice)),
    }
}

fn text<'a>(header: &Header<'a>) -> Result<&'a str, Rejection> {
    std::str::from_utf8(header.value).map_err(|_| Rejection::new(400, "A header's value is not text."))
}

/// A value that we need not refuse: what is no text is no address either.
fn text_or_mark<'a>(header: &Header<'a>) -> &'a str {
    std::str::from_utf8(header.value).unwrap_or("?")
}

/// The elements of a list; RFC 9110 section 5.6.1.2 has empty ones ignored.
fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|token| token.trim_matches([' ', '\t'])).filter(|token| !token.is_empty())
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Subprotocols offered at once. We have two; a quadratic check for duplicates wants a limit.
const PROTOCOLS_MAX: usize = 16;
/// Standard base64, but the spare bits of the last character may be anything: so they are in the example of a key in
/// section 4.1, `AQIDBAUGBwgJCgsMDQ4PEC==`.
const KEY_ENCODING: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
