//! Who connects, and by which protocol: the first bytes tell. An HTTP request asks for a WebSocket; anything else must
//! be the hello of docs/PUBLISHING.md, whose length field is no HTTP method.

use std::io;
use std::sync::Arc;

use fanblade_feed::publisher::{
    ErrorReply, FrameTooLong, Frames, HELLO_LEN_MAX, LENGTH_LEN, Reply, Request, RequestFault, is_name,
};
use fanblade_wire::handshake::{self, Head, Rejection, Upgrade};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::listener::Stream;
use super::settings::Settings;
use super::shared::{Seat, Shared};

/// A publisher that has been admitted.
pub(super) struct Greeted {
    pub(super) seat: Seat,
    pub(super) wants_acks: bool,
    pub(super) protocol: Protocol,
}

/// The protocol by which it publishes.
pub(super) enum Protocol {
    /// Frames; some may have arrived already.
    Frames(Frames),
    /// WebSocket messages; these bytes of them have arrived already.
    Messages(Vec<u8>),
}

/// Why a connection is declined.
#[derive(Debug)]
pub(super) enum Declined {
    /// The peer closed, or the connection broke, before the peer had said who it is.
    Gone,
    Refused(Refused),
}

#[derive(Debug)]
pub(super) struct Refused {
    /// The kind of trouble that the refusal counts as.
    pub(super) code: &'static str,
    pub(super) message: String,
    /// The bytes of the answer to the peer.
    pub(super) answer: Vec<u8>,
}

/// Reads the greeting, and answers if the publisher is admitted.
pub(super) async fn greet(
    stream: &mut Stream,
    transport: &'static str,
    shared: &Arc<Shared>,
) -> Result<Greeted, Declined> {
    let mut frames = Frames::new(HELLO_LEN_MAX);
    while frames.rest().len() < LENGTH_LEN {
        fill(stream, &mut frames).await?;
    }
    if is_http(frames.rest()) {
        let head = frames.rest().to_vec();
        return upgrade(stream, head, shared).await;
    }
    loop {
        match frames.next_frame() {
            Ok(None) => {}
            Ok(Some(frame)) => {
                let (seat, wants_acks) = admit_hello(frame, transport, shared)?;
                frames.set_len_max(frame_len_max(&shared.settings));
                let mut answer = Vec::new();
                let data_len_max = u32::try_from(shared.settings.data_len_max).unwrap_or(u32::MAX);
                Reply::Welcome { data_len_max, epoch: &shared.epoch }.write(&mut answer);
                stream.write_all(&answer).await?;
                return Ok(Greeted { seat, wants_acks, protocol: Protocol::Frames(frames) });
            }
            Err(FrameTooLong { .. }) => {
                return Err(refuse_hello("bad_hello", "this is neither a hello nor an HTTP request".to_owned()));
            }
        }
        fill(stream, &mut frames).await?;
    }
}

/// Whether these bytes begin an HTTP request, perhaps behind an empty line (RFC 9112 section 2.2). Read as a length
/// field, they would announce a frame that is longer than any hello.
fn is_http(bytes: &[u8]) -> bool {
    matches!(bytes, [b'A'..=b'Z', ..] | [b'\r', b'\n', b'A'..=b'Z' | b'\r', ..])
}

/// The length of the frame of the longest record.
pub(super) fn frame_len_max(settings: &Settings) -> usize {
    settings.data_len_max + fanblade_feed::publisher::RECORD_HEAD_LEN_MAX
}

async fn fill(stream: &mut Stream, frames: &mut Frames) -> Result<(), Declined> {
    match stream.read(frames.space()).await? {
        0 => Err(Declined::Gone),
        len => {
            frames.note_filled(len);
            Ok(())
        }
    }
}

fn admit_hello(frame: &[u8], transport: &'static str, shared: &Arc<Shared>) -> Result<(Seat, bool), Declined> {
    let hello = match Request::parse(frame) {
        Ok(Request::Hello(hello)) => hello,
        Ok(Request::Record(_)) => {
            return Err(refuse_hello("bad_hello", "a record before the hello".to_owned()));
        }
        Err(fault @ RequestFault::Version(_)) => return Err(refuse_hello("bad_version", fault.to_string())),
        Err(fault) => return Err(refuse_hello("bad_hello", fault.to_string())),
    };
    if !may_publish(&shared.settings, Some(hello.token)) {
        let what = if hello.token.is_empty() { "a token is needed" } else { "this is not the token" };
        return Err(refuse_hello("bad_token", what.to_owned()));
    }
    let name = if hello.name.is_empty() { transport } else { hello.name };
    let seat = shared.seat(name).ok_or_else(|| refuse_hello("too_many_publishers", full(&shared.settings)))?;
    Ok((seat, hello.wants_acks))
}

fn refuse_hello(code: &'static str, message: String) -> Declined {
    let mut answer = Vec::new();
    Reply::Error(ErrorReply { record: 0, closes: true, code, message: &message }).write(&mut answer);
    Declined::Refused(Refused { code, message, answer })
}

/// Reads the HTTP request for a WebSocket, and answers if the publisher is admitted.
async fn upgrade(stream: &mut Stream, mut head: Vec<u8>, shared: &Arc<Shared>) -> Result<Greeted, Declined> {
    let mut scanned = 0;
    loop {
        match handshake::parse(&head, scanned) {
            Head::Incomplete => scanned = head.len(),
            Head::Reject(rejection) => return Err(reject("bad_hello", &explained(rejection))),
            Head::Upgrade(upgrade) => {
                let (seat, wants_acks) = admit_upgrade(&upgrade, shared)?;
                let mut answer = Vec::new();
                upgrade.response(None, &mut answer);
                let rest = head.get(upgrade.head_len..).unwrap_or_default().to_vec();
                stream.write_all(&answer).await?;
                return Ok(Greeted { seat, wants_acks, protocol: Protocol::Messages(rest) });
            }
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(Declined::Gone);
        }
    }
}

/// Replaces the explanations of `wire`, which are for clients of a port for subscribers.
fn explained(rejection: Rejection) -> Rejection {
    match rejection.status {
        426 => Rejection::new(
            426,
            "This is Fanblade's port for publishers: GET /v1/publish, upgraded to WebSocket (version 13).",
        ),
        _ => rejection,
    }
}

fn admit_upgrade(upgrade: &Upgrade<'_>, shared: &Arc<Shared>) -> Result<(Seat, bool), Declined> {
    let settings = &shared.settings;
    if upgrade.path != PATH {
        let reason = "There is one endpoint here: GET /v1/publish, upgraded to WebSocket.";
        return Err(reject("bad_hello", &Rejection::new(404, reason)));
    }
    // Otherwise any page in a browser on this machine could publish over loopback.
    if upgrade.origin.is_some_and(|origin| !settings.origins.iter().any(|allowed| allowed == origin)) {
        let reason = "This Origin is not among the allowed_origins of [feed.publisher].";
        return Err(reject("bad_origin", &Rejection::new(403, reason)));
    }
    let token = upgrade.authorization.and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    if !may_publish(settings, token.map(str::as_bytes)) {
        let reason = "Publishing needs the token: Authorization: Bearer TOKEN.";
        return Err(reject("bad_token", &Rejection::new(401, reason)));
    }
    let (name, wants_acks) = wishes(upgrade.query.unwrap_or_default())
        .map_err(|reason| reject("bad_hello", &Rejection::new(400, reason)))?;
    if !is_name(name) {
        return Err(reject("bad_hello", &Rejection::new(400, "A name has at most 32 characters of printable ASCII.")));
    }
    let seat = shared.seat(if name.is_empty() { "ws" } else { name }).ok_or_else(|| {
        let Declined::Refused(refused) =
            reject("too_many_publishers", &Rejection::new(503, "The blade takes no more publishers (publishers_max)."))
        else {
            return Declined::Gone;
        };
        Declined::Refused(Refused { message: full(settings), ..refused })
    })?;
    Ok((seat, wants_acks))
}

/// The publisher's name and whether it wants acknowledgements, from the address. Unknown parameters are refused, so
/// that a typo is noticed.
fn wishes(query: &str) -> Result<(&str, bool), &'static str> {
    let (mut name, mut acks) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match key {
            "name" => &mut name,
            "acks" => &mut acks,
            _ => return Err("The address has an unknown parameter; there are name and acks."),
        };
        if place.replace(value).is_some() {
            return Err("The address has a parameter twice.");
        }
    }
    let wants_acks = match acks {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err("In the address, acks is neither true nor false."),
    };
    Ok((name.unwrap_or_default(), wants_acks))
}

fn reject(code: &'static str, rejection: &Rejection) -> Declined {
    let mut answer = Vec::new();
    rejection.response(&mut answer);
    Declined::Refused(Refused { code, message: format!("{} {}", rejection.status, rejection.reason), answer })
}

fn full(settings: &Settings) -> String {
    format!("{} publishers are connected; the blade takes no more (`publishers_max`)", settings.publishers_max)
}

/// Checks the token, in a time that does not depend on how many of its bytes are right.
fn may_publish(settings: &Settings, shown: Option<&[u8]>) -> bool {
    let Some(token) = &settings.token else { return true };
    let shown = shown.unwrap_or_default();
    let differing = token.iter().zip(shown).fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    token.len() == shown.len() && differing == 0
}

impl From<io::Error> for Declined {
    fn from(_: io::Error) -> Self {
        Declined::Gone
    }
}

const PATH: &str = "/v1/publish";
