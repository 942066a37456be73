//! `[feed.moldudp64]`: MoldUDP64 by multicast.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use fanblade_feed::limits::{JUMP_MESSAGES_MAX, PROOF_NS, REQUEST_MESSAGES_MAX, SEQUENCE_JUMP_MAX};
use fanblade_feed::soupbintcp::padded;
use serde::{Deserialize, Deserializer};
use serde_spanned::Spanned;

use super::checks::{Fault, fault, from_text, in_range, map, unplaced};
use super::soupbintcp;
use super::soupbintcp::Secret;
use super::units::{Bytes, Millis};

/// `[feed.moldudp64]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Moldudp64Config {
    /// Each line carries the same packets: A, B, and so on. Lines in the short form of the source replace them.
    pub(crate) lines: Spanned<Vec<LineAddress>>,
    /// Empty: any session.
    pub(crate) session: Spanned<String>,
    /// Re-request servers, `HOST:PORT`, tried in turn.
    pub(crate) requests: Spanned<Vec<String>>,
    /// None: from the beginning if there are re-request servers, else by a snapshot if there is a GLIMPSE server, else
    /// with the first packet that comes.
    pub(crate) join: Option<Spanned<Join>>,
    pub(crate) reorder_ms: Spanned<Millis>,
    pub(crate) request_timeout_ms: Spanned<Millis>,
    pub(crate) requests_per_s_max: Spanned<u64>,
    pub(crate) request_messages_max: Spanned<u64>,
    pub(crate) recovery_ms_max: Spanned<Millis>,
    pub(crate) stale_ms_max: Spanned<Millis>,
    pub(crate) jump_messages_max: Spanned<u64>,
    pub(crate) proof_ms: Spanned<Millis>,
    pub(crate) window: Spanned<Bytes>,
    pub(crate) receive_buffer: Spanned<Bytes>,
    pub(crate) busy: bool,
    pub(crate) busy_poll_us: Spanned<u64>,
    /// The GLIMPSE server, `HOST:PORT`; empty: there is none.
    pub(crate) snapshot: Spanned<String>,
    pub(crate) snapshot_username: Spanned<String>,
    pub(crate) snapshot_password: Spanned<Secret>,
    /// File with the password, in place of `snapshot_password`.
    pub(crate) snapshot_password_file: Option<Spanned<PathBuf>>,
    pub(crate) snapshot_attempts_max: Spanned<u64>,
    pub(crate) snapshot_ms_max: Spanned<Millis>,
}

/// A multicast group, and how to receive it: `GROUP:PORT[@INTERFACE][ from SOURCE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineAddress {
    pub(crate) group: SocketAddr,
    /// None: the routing table decides.
    pub(crate) interface: Option<String>,
    /// None: packets of any sender are taken.
    pub(crate) source: Option<IpAddr>,
}

/// Where to begin in a session that is already under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Join {
    /// With the first message of the session.
    Beginning,
    /// With the first packet that comes.
    Live,
    /// With a snapshot of the books.
    Snapshot,
}

impl Moldudp64Config {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        let lines = self.lines.get_ref();
        if lines.len() > LINES_MAX {
            return fault(&self.lines, format!("{} lines", lines.len()), format!("at most {LINES_MAX}"));
        }
        if let Some(twice) = twice(lines) {
            return fault(&self.lines, format!("`{twice}` is named twice"), "name each line once");
        }
        if padded::<10>(self.session.get_ref()).is_none() {
            let message = format!("`{}` cannot be a session", self.session.get_ref());
            return fault(&self.session, message, "at most 10 characters of ASCII");
        }
        let requests = self.requests.get_ref();
        if requests.len() > SERVERS_MAX {
            return fault(&self.requests, format!("{} servers", requests.len()), format!("at most {SERVERS_MAX}"));
        }
        if let Some(wrong) = requests.iter().find(|server| !soupbintcp::is_host_and_port(server)) {
            let message = format!("`{wrong}` is not a server");
            return fault(&self.requests, message, "HOST:PORT, such as \"192.0.2.9:18000\"");
        }
        let in_ms = |value: &Spanned<Millis>, min, max| in_range(&map(value, |ms| ms.0), min, max, "milliseconds");
        in_ms(&self.reorder_ms, 0, 1_000)?;
        in_ms(&self.request_timeout_ms, 10, 60_000)?;
        in_ms(&self.recovery_ms_max, 10, 3_600_000)?;
        in_ms(&self.stale_ms_max, 100, 3_600_000)?;
        in_ms(&self.proof_ms, 10, 60_000)?;
        in_range(&self.jump_messages_max, 1, SEQUENCE_JUMP_MAX, "messages")?;
        in_range(&self.requests_per_s_max, 1, 1_000_000, "requests a second")?;
        in_range(&self.request_messages_max, 1, REQUEST_MESSAGES_MAX, "messages a request")?;
        in_range(&map(&self.window, |bytes| bytes.0), 1 << 16, 1 << 34, "bytes")?;
        in_range(&map(&self.receive_buffer, |bytes| bytes.0), 1 << 12, 1 << 30, "bytes")?;
        in_range(&self.busy_poll_us, 0, 10_000, "microseconds")?;
        self.validate_snapshot()
    }

    fn validate_snapshot(&self) -> Result<(), Fault> {
        let server = self.snapshot.get_ref();
        if !server.is_empty() && !soupbintcp::is_host_and_port(server) {
            let message = format!("`{server}` is not a server");
            return fault(&self.snapshot, message, "HOST:PORT, such as \"192.0.2.9:18001\"");
        }
        if let Some(join) = self.join.as_ref().filter(|join| *join.get_ref() == Join::Snapshot)
            && server.is_empty()
        {
            return fault(
                join,
                "no server for snapshots is configured".to_owned(),
                "name the server: snapshot = \"HOST:PORT\"",
            );
        }
        soupbintcp::fits::<6>(&self.snapshot_username, "username")?;
        soupbintcp::check_password(&self.snapshot_password, self.snapshot_password_file.as_ref())?;
        in_range(&self.snapshot_attempts_max, 1, 1_000, "attempts")?;
        in_range(&map(&self.snapshot_ms_max, |ms| ms.0), 100, 3_600_000, "milliseconds")
    }
}

/// Parses the short form: lines with commas between them.
pub(super) fn lines(text: &str) -> Result<Vec<LineAddress>, String> {
    let lines = text.split(',').map(str::parse).collect::<Result<Vec<LineAddress>, String>>()?;
    match twice(&lines) {
        Some(twice) => Err(format!("`{twice}` is named twice")),
        None if lines.len() > LINES_MAX => Err(format!("{} lines; at most {LINES_MAX}", lines.len())),
        None => Ok(lines),
    }
}

/// The warning about lines that do not name their sender.
pub(crate) fn of_anybody(lines: &[LineAddress]) -> Option<String> {
    let unknown: Vec<String> =
        lines.iter().filter(|line| line.source.is_none()).map(|line| format!("`{line}`")).collect();
    let example = lines.iter().find(|line| line.source.is_none())?;
    Some(format!(
        "{}: packets of whoever sends to the group are taken, and a stranger's are only found out by comparison; name the \
         sender: `{example} from ADDRESS`",
        unknown.join(", ")
    ))
}

/// The first line that repeats an earlier one.
fn twice(lines: &[LineAddress]) -> Option<&LineAddress> {
    lines.iter().enumerate().find(|(at, line)| lines.iter().take(*at).any(|other| other == *line)).map(|(_, line)| line)
}

impl FromStr for LineAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = "write GROUP:PORT@INTERFACE, such as 233.54.12.111:26477@eth1; with ` from ADDRESS` behind it for one \
                     sender only";
        let (place, source) = match text.trim().split_once(" from ") {
            Some((place, source)) => {
                let source = source.trim();
                let address = source.parse().map_err(|_| format!("`{source}` is not a sender's address; {usage}"))?;
                (place.trim(), Some(address))
            }
            None => (text.trim(), None),
        };
        let (group, interface) = match place.split_once('@') {
            Some((_, "")) => return Err(format!("`{text}` lacks the interface after `@`")),
            Some((group, interface)) => (group, Some(interface.to_owned())),
            None => (place, None),
        };
        let group: SocketAddr = group.parse().map_err(|_| format!("`{group}` is not a group and port; {usage}"))?;
        if !group.ip().is_multicast() {
            let groups = "those are 224.0.0.0 to 239.255.255.255, and ff00::/8";
            return Err(format!("{} is not a multicast group; {groups}", group.ip()));
        }
        if group.port() == 0 {
            return Err(format!("`{text}` lacks a port"));
        }
        if source.is_some_and(|source: IpAddr| source.is_ipv4() != group.is_ipv4() || source.is_multicast()) {
            return Err(format!("`{text}`: the sender must have a unicast address of the group's family"));
        }
        Ok(Self { group, interface, source })
    }
}

impl fmt::Display for LineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        self.interface.iter().try_for_each(|interface| write!(f, "@{interface}"))?;
        self.source.iter().try_for_each(|source| write!(f, " from {source}"))
    }
}

impl<'de> Deserialize<'de> for LineAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl Default for Moldudp64Config {
    fn default() -> Self {
        Self {
            lines: unplaced(Vec::new()),
            session: unplaced(String::new()),
            requests: unplaced(Vec::new()),
            join: None,
            reorder_ms: unplaced(Millis(1)),
            request_timeout_ms: unplaced(Millis(1_000)),
            requests_per_s_max: unplaced(20_000),
            request_messages_max: unplaced(REQUEST_MESSAGES_MAX),
            recovery_ms_max: unplaced(Millis(5_000)),
            stale_ms_max: unplaced(Millis(3_000)),
            jump_messages_max: unplaced(JUMP_MESSAGES_MAX),
            proof_ms: unplaced(Millis(PROOF_NS / 1_000_000)),
            window: unplaced(Bytes(64 << 20)),
            receive_buffer: unplaced(Bytes(32 << 20)),
            busy: false,
            busy_poll_us: unplaced(0),
            snapshot: unplaced(String::new()),
            snapshot_username: unplaced(String::new()),
            snapshot_password: unplaced(Secret::default()),
            snapshot_password_file: None,
            snapshot_attempts_max: unplaced(3),
            snapshot_ms_max: unplaced(Millis(60_000)),
        }
    }
}

/// Lines are named by letters, and every turn polls each of them.
const LINES_MAX: usize = 16;
/// Backups are few; each is tried in turn.
const SERVERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_sender_are_named() {
        let lines = |text: &str| lines(text).unwrap();
        assert_eq!(of_anybody(&lines("232.1.1.1:9@eth2 from 10.0.0.1")), None);
        let told = of_anybody(&lines("232.1.1.1:9@a from 10.0.0.1,232.1.1.2:9@b,232.1.1.3:9")).unwrap();
        assert!(told.starts_with("`232.1.1.2:9@b`, `232.1.1.3:9`: packets of whoever sends"), "{told}");
        assert!(told.ends_with("name the sender: `232.1.1.2:9@b from ADDRESS`"), "{told}");
    }

    #[test]
    fn lines_read_as_written() {
        for text in ["233.54.12.111:26477@eth1", "232.1.1.1:26477@eth2 from 10.0.0.1", "224.0.2.3:1", "[ff15::1]:9@lo"]
        {
            assert_eq!(text.parse::<LineAddress>().unwrap().to_string(), text);
        }
        for (text, says) in [
            ("", "is not a group and port; write GROUP:PORT@INTERFACE"),
            ("233.54.12.111@eth1", "`233.54.12.111` is not a group and port"),
            ("10.0.0.1:26477@eth1", "10.0.0.1 is not a multicast group"),
            ("233.54.12.111:0@eth1", "lacks a port"),
            ("233.54.12.111:26477@", "lacks the interface"),
            ("232.1.1.1:26477@eth1 from you", "`you` is not a sender's address"),
            ("232.1.1.1:26477@eth1 from ::1", "unicast address of the group's family"),
        ] {
            let error = text.parse::<LineAddress>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
