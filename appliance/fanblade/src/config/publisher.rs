//! `[feed.publisher]`: programs that publish to us.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use fanblade_feed::limits::PUBLISHER_TOKEN_LEN_MAX;
use fanblade_upstream::publisher::Settings;
use serde::Deserialize;
use serde_spanned::Spanned;

use super::checks::{Fault, ORIGIN_HINT, fault, in_range, is_origin, map, unplaced};
use super::ring::RingConfig;
use super::soupbintcp::Secret;
use super::units::{Bytes, Millis};

/// `[feed.publisher]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PublisherConfig {
    /// Addresses for WebSocket and TCP, on the same ports.
    listen: Spanned<Vec<SocketAddr>>,
    /// Path of a Unix socket for publishers.
    unix: Option<Spanned<PathBuf>>,
    /// The file that keeps the numbering; empty: none.
    state: Spanned<String>,
    /// The token that publishers must show; empty: none is asked for.
    token: Spanned<Secret>,
    /// File with the token, in place of `token`.
    token_file: Option<Spanned<PathBuf>>,
    /// Other machines may publish without a token.
    insecure: bool,
    /// Browsers' origins that are allowed to publish.
    allowed_origins: Spanned<Vec<String>>,
    stale_without_publisher: bool,
    publishers_max: Spanned<u64>,
    data_len_max: Spanned<Bytes>,
    in_flight_max: Spanned<Bytes>,
    handshake_ms_max: Spanned<Millis>,
}

impl PublisherConfig {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        let is_open = self.token.get_ref().0.is_empty() && self.token_file.is_none();
        if let Some(address) = self.listen.get_ref().iter().find(|address| !address.ip().is_loopback())
            && is_open
            && !self.insecure
        {
            return fault(
                &self.listen,
                format!("anybody who reaches {address} could publish"),
                "set `token_file`, or listen on loopback; `insecure = true` if that is what you want",
            );
        }
        if let Some(file) = &self.token_file
            && !self.token.get_ref().0.is_empty()
        {
            return fault(file, "there are two tokens".to_owned(), "leave out `token` or `token_file`");
        }
        if !self.token.get_ref().0.is_empty() && !is_token(&self.token.get_ref().0) {
            return fault(&self.token, "the token cannot be shown".to_owned(), TOKEN_RULE);
        }
        for origin in self.allowed_origins.get_ref() {
            if !is_origin(origin) {
                return fault(&self.allowed_origins, format!("`{origin}` is not an origin"), ORIGIN_HINT);
            }
        }
        in_range(&self.publishers_max, 1, 10_000, "publishers")?;
        in_range(&map(&self.data_len_max, |bytes| bytes.0), 16, 512 << 10, "bytes of data in a record")?;
        in_range(&map(&self.in_flight_max, |bytes| bytes.0), 1 << 10, 256 << 20, "bytes under way")?;
        in_range(&map(&self.handshake_ms_max, |ms| ms.0), 100, 600_000, "milliseconds")
    }

    /// The validated configuration as settings, for a blade with this ring.
    ///
    /// # Errors
    /// The file with the token cannot be read, or holds none.
    pub(crate) fn settings(&self, ring: &RingConfig) -> anyhow::Result<Settings> {
        let count = |number: &Spanned<u64>| usize::try_from(*number.get_ref()).unwrap_or(usize::MAX);
        let state = self.state.get_ref();
        Ok(Settings {
            listen: self.listen.get_ref().clone(),
            unix: self.unix.as_ref().map(|path| path.get_ref().clone()),
            state: (!state.is_empty()).then(|| PathBuf::from(state)),
            token: self.token()?,
            origins: self.allowed_origins.get_ref().clone(),
            stale_without_publisher: self.stale_without_publisher,
            publishers_max: count(&self.publishers_max),
            subjects_max: count(&ring.subjects_max),
            data_len_max: self.data_len_max.get_ref().len(),
            lane_len: ring.json.get_ref().len().min(ring.binary.get_ref().len()),
            in_flight_max: self.in_flight_max.get_ref().len(),
            greeting_max: self.handshake_ms_max.get_ref().duration(),
        })
    }

    /// The token that publishers must show, if any.
    fn token(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = &self.token_file else {
            let token = &self.token.get_ref().0;
            return Ok((!token.is_empty()).then(|| token.clone().into_bytes()));
        };
        read_token(file.get_ref()).map(|token| Some(token.into_bytes()))
    }
}

/// Reads a token from its file.
pub(crate) fn read_token(file: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
    // Editors end a file with a line break, which is not part of the token.
    let token = text.trim_end_matches(['\r', '\n']);
    if !is_token(token) {
        bail!("the content of {} is not a token: {TOKEN_RULE}", file.display());
    }
    Ok(token.to_owned())
}

/// The token has to fit an HTTP header.
fn is_token(token: &str) -> bool {
    (1..=PUBLISHER_TOKEN_LEN_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Default for PublisherConfig {
    fn default() -> Self {
        Self {
            listen: unplaced(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 7402))]),
            unix: None,
            state: unplaced("/var/lib/fanblade/publisher.toml".to_owned()),
            token: unplaced(Secret(String::new())),
            token_file: None,
            insecure: false,
            allowed_origins: unplaced(Vec::new()),
            stale_without_publisher: false,
            publishers_max: unplaced(64),
            data_len_max: unplaced(Bytes(64 << 10)),
            in_flight_max: unplaced(Bytes(1 << 20)),
            handshake_ms_max: unplaced(Millis(5_000)),
        }
    }
}

const TOKEN_RULE: &str = "1 to 512 characters of printable ASCII without spaces";
