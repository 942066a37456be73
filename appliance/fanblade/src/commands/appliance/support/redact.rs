//! What may leave the machine: of the configuration only keys that are listed here, of everything else all but what
//! looks like a secret or is one of the configuration's.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use toml::{Table, Value};

/// Texts that no part may contain.
pub(super) struct Secrets(Vec<String>);

/// The configuration without secrets, and the secrets.
pub(super) fn config_file(path: &Path) -> (String, Secrets) {
    let mut secrets = Secrets(command_line_secrets());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return (format!("# cannot read {}: {error}\n", path.display()), secrets),
    };
    // The whole file, of which a mistake would show a line, goes nowhere: a place says enough.
    let Ok(table) = text.parse::<Table>() else {
        secrets.add_lines(&text);
        return ("# it is no TOML; `fanblade check` says where\n".to_owned(), secrets);
    };
    let (mut kept, mut unknown) = (Table::new(), 0);
    secrets.keep("", &table, &mut kept, &mut unknown);
    secrets.finish();
    let text = toml::to_string(&kept).unwrap_or_else(|error| format!("# it cannot be written: {error}\n"));
    (format!("# Keys that fanblade does not know: {unknown}, left out.\n{}", secrets.scrub(&text)), secrets)
}

impl Secrets {
    /// Copies what may be kept of a table whose keys have this prefix, and remembers the texts of everything else.
    fn keep(&mut self, prefix: &str, table: &Table, kept: &mut Table, unknown: &mut usize) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::Table(table) if SECTIONS.contains(&key.as_str()) => {
                    let mut inner = Table::new();
                    self.keep(&format!("{key}."), table, &mut inner, unknown);
                    kept.insert(name.clone(), Value::Table(inner));
                }
                Value::Array(entries) if key == "batching" => {
                    let tables = entries.iter().filter_map(Value::as_table).map(|table| {
                        let mut inner = Table::new();
                        self.keep("batching.", table, &mut inner, unknown);
                        Value::Table(inner)
                    });
                    kept.insert(name.clone(), Value::Array(tables.collect()));
                }
                value if KEPT.contains(&key.as_str()) => {
                    if key.ends_with("_file") {
                        self.add_file(value);
                    }
                    kept.insert(name.clone(), self.harmless(value));
                }
                value if REMOVED.contains(&key.as_str()) => {
                    self.add(value);
                    kept.insert(name.clone(), Value::String(WORD.to_owned()));
                }
                value => {
                    *unknown += 1;
                    self.0.push(name.clone());
                    self.add(value);
                }
            }
        }
    }

    /// A value of a known key: of addresses in the Web only scheme and host.
    fn harmless(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => match text.split_once("://") {
                Some((scheme, rest)) => {
                    let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                    let (user, host) = place.rsplit_once('@').unwrap_or(("", place));
                    self.0.extend(user.split(':').map(str::to_owned));
                    self.0.extend(
                        path.split(['/', '?', '#', '&', '='])
                            .filter(|part| part.len() >= PATH_PART_LEN_MIN)
                            .map(str::to_owned),
                    );
                    let path = if path.len() > 1 { format!("/{WORD}") } else { path.to_owned() };
                    Value::String(format!("{scheme}://{host}{path}"))
                }
                None => Value::String(text.clone()),
            },
            Value::Array(values) => Value::Array(values.iter().map(|value| self.harmless(value)).collect()),
            // No known key with a harmless value has tables in it.
            Value::Table(_) => Value::String(WORD.to_owned()),
            value => value.clone(),
        }
    }

    /// All texts in a value, and names in its tables.
    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.0.push(text.clone());
                // A text for a venue is JSON: what stands in it may be logged by itself.
                let words = text.split(['"', '\'', ',', '{', '}', ' ', '\n']);
                self.0
                    .extend(words.filter(|word| word.len() >= PATH_PART_LEN_MIN && !is_word(word)).map(str::to_owned));
            }
            Value::Array(values) => values.iter().for_each(|value| self.add(value)),
            Value::Table(table) => table.values().for_each(|value| self.add(value)),
            value => self.0.push(value.to_string()),
        }
    }

    /// A file that holds a secret.
    fn add_file(&mut self, path: &Value) {
        let Some(file) = path.as_str().and_then(|path| fs::File::open(path).ok()) else { return };
        let mut text = String::new();
        let _ = file.take(SECRET_FILE_LEN_MAX).read_to_string(&mut text);
        self.add_lines(&text);
    }

    fn add_lines(&mut self, text: &str) {
        self.0.extend(text.lines().map(|line| line.trim().to_owned()));
        self.finish();
    }

    /// The longest first, so that a part of a secret does not hide the rest of it.
    fn finish(&mut self) {
        self.0.retain(|secret| secret.len() >= SECRET_LEN_MIN && !is_plain(secret));
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
    }

    /// A text without these secrets, and without what looks like one.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret) {
                text = text.replace(secret, WORD);
            }
        }
        let mut clean = String::with_capacity(text.len());
        let mut is_key = false;
        for line in text.split_inclusive('\n') {
            let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
            is_key |= begins;
            match is_key {
                true if begins => clean += "removed: a private key\n",
                true => {}
                false => clean += &scrub_line(line),
            }
            is_key &= !line.contains("-----END");
        }
        clean
    }
}

/// Removes user and password of addresses, their queries, and what follows words such as `password=`.
fn scrub_line(line: &str) -> String {
    let mut line = line.to_owned();
    let mut from = 0;
    while let Some(at) = line[from..].find("://").map(|at| from + at + 3) {
        let len =
            line[at..].find(|char: char| char.is_whitespace() || "\"'<>`".contains(char)).unwrap_or(line.len() - at);
        let address = &line[at..at + len];
        let address = address.split_once('?').map_or(address.to_owned(), |(place, _)| format!("{place}?{WORD}"));
        let host_end = address.find('/').unwrap_or(address.len());
        let host_at = address[..host_end].rfind('@').map_or(0, |at| at + 1);
        let address = address[host_at..].to_owned();
        line.replace_range(at..at + len, &address);
        from = at + address.len();
    }
    for word in WORDS {
        let mut from = 0;
        while let Some(at) = find_ascii(&line[from..], word).map(|at| from + at + word.len()) {
            from = at;
            // The word's own end, as in `token_file`, is another word.
            let rest = &line[at..];
            let Some(gap) = rest.find(|char: char| !"\"' ".contains(char)) else { break };
            let is_value = *word == "bearer" || rest[gap..].starts_with(['=', ':']);
            if !is_value {
                continue;
            }
            let skip = rest.len() - rest.trim_start_matches(['"', '\'', ' ', '=', ':']).len();
            let value = at + skip;
            let len = line[value..]
                .find(|char: char| char.is_whitespace() || "\"',;}&".contains(char))
                .unwrap_or(line.len() - value);
            line.replace_range(value..value + len, if len == 0 { "" } else { WORD });
        }
    }
    line
}

/// Where a word stands, in capital letters or not. ASCII only, so that places are those of the text.
fn find_ascii(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// Credentials on the kernel's command line, which the journal repeats.
fn command_line_secrets() -> Vec<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace()
        .filter(|word| word.contains("credential"))
        .filter_map(|word| word.split_once(':').map(|(_, value)| value.to_owned()))
        .collect()
}

/// A word of a language, which stands in every log: replacing it would hide the log and no secret.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// A number or a truth value that is short.
fn is_plain(text: &str) -> bool {
    ["true", "false"].contains(&text) || (text.len() < 6 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

const WORD: &str = "removed";
/// A shorter text stands everywhere by chance.
const SECRET_LEN_MIN: usize = 4;
/// Of parts of an address or of a text for a venue.
const PATH_PART_LEN_MIN: usize = 8;
const SECRET_FILE_LEN_MAX: u64 = 64 << 10;
/// Words that are followed by a secret.
const WORDS: &[&str] = &["password", "passwd", "token", "secret", "api_key", "apikey", "api-key", "bearer"];

const SECTIONS: [&str; 12] = [
    "feed",
    "feed.simulator",
    "feed.moldudp64",
    "feed.soupbintcp",
    "feed.websocket",
    "feed.publisher",
    "data",
    "admin",
    "ring",
    "ebpf",
    "limits",
    "log",
];

/// Keys whose values are replaced by a word: each may hold a secret.
const REMOVED: [&str; 14] = [
    "feed.moldudp64.snapshot_username",
    "feed.moldudp64.snapshot_password",
    "feed.soupbintcp.username",
    "feed.soupbintcp.password",
    "feed.publisher.token",
    "feed.websocket.subscribe",
    "feed.websocket.headers",
    "feed.websocket.send",
    "feed.websocket.answer",
    // Rules for messages: long, and written by the customer.
    "feed.websocket.error",
    "feed.websocket.error_text",
    "feed.websocket.channels",
    "feed.websocket.map",
    "feed.websocket.epoch",
];

/// Keys whose values are kept.
const KEPT: [&str; 107] = [
    "feed.source",
    "feed.pace",
    "feed.wait_for",
    "feed.venue",
    "feed.date",
    "feed.simulator.seed",
    "feed.simulator.symbols",
    "feed.simulator.messages_per_s",
    "feed.moldudp64.lines",
    "feed.moldudp64.session",
    "feed.moldudp64.requests",
    "feed.moldudp64.join",
    "feed.moldudp64.reorder_ms",
    "feed.moldudp64.request_timeout_ms",
    "feed.moldudp64.requests_per_s_max",
    "feed.moldudp64.request_messages_max",
    "feed.moldudp64.recovery_ms_max",
    "feed.moldudp64.stale_ms_max",
    "feed.moldudp64.jump_messages_max",
    "feed.moldudp64.proof_ms",
    "feed.moldudp64.window",
    "feed.moldudp64.receive_buffer",
    "feed.moldudp64.busy",
    "feed.moldudp64.busy_poll_us",
    "feed.moldudp64.snapshot",
    "feed.moldudp64.snapshot_password_file",
    "feed.moldudp64.snapshot_attempts_max",
    "feed.moldudp64.snapshot_ms_max",
    "feed.soupbintcp.servers",
    "feed.soupbintcp.password_file",
    "feed.soupbintcp.session",
    "feed.soupbintcp.start",
    "feed.soupbintcp.version",
    "feed.soupbintcp.connect_ms_max",
    "feed.soupbintcp.heartbeat_ms",
    "feed.soupbintcp.silence_ms_max",
    "feed.soupbintcp.retry_ms_min",
    "feed.soupbintcp.retry_ms_max",
    "feed.soupbintcp.refused_ms",
    "feed.websocket.url",
    "feed.websocket.ca_file",
    "feed.websocket.connect_ms_max",
    "feed.websocket.ping_interval_ms",
    "feed.websocket.idle_ms_max",
    "feed.websocket.silent_ms_max",
    "feed.websocket.reconnect_ms_min",
    "feed.websocket.reconnect_ms_max",
    "feed.websocket.message_len_max",
    "feed.websocket.sequence",
    "feed.websocket.on_gap",
    "feed.websocket.seq",
    "feed.websocket.rule_silent_ms_max",
    "feed.publisher.listen",
    "feed.publisher.unix",
    "feed.publisher.state",
    "feed.publisher.token_file",
    "feed.publisher.insecure",
    "feed.publisher.allowed_origins",
    "feed.publisher.stale_without_publisher",
    "feed.publisher.publishers_max",
    "feed.publisher.data_len_max",
    "feed.publisher.in_flight_max",
    "feed.publisher.handshake_ms_max",
    "data.listen",
    "data.workers",
    "data.cpus",
    "data.engine",
    "data.allowed_origins",
    "data.proxy_protocol_from",
    "data.trusted_proxies",
    "data.client_header",
    "data.backlog",
    "data.notsent_lowat",
    "data.spin_us",
    "data.sandbox",
    "data.drain_delay_ms",
    "admin.listen",
    "admin.stalled_ms",
    "admin.allowed_hosts",
    "admin.connections_max",
    "admin.stream_url",
    "ring.updates",
    "ring.json",
    "ring.binary",
    "ring.subjects_max",
    "ebpf.enabled",
    "ebpf.interface",
    "ebpf.pin_dir",
    "limits.sessions_max",
    "limits.message_len_max",
    "limits.subscriptions_max",
    "limits.filters_max",
    "limits.requests_per_s_max",
    "limits.pieces_per_s_max",
    "limits.handshake_ms_max",
    "limits.subscribe_ms_max",
    "limits.ping_interval_ms",
    "limits.pong_ms_max",
    "limits.lag_ms_max",
    "limits.half_closed_ms_max",
    "limits.control_bytes_max",
    "limits.held_bytes_max",
    "batching.subjects",
    "batching.ms_max",
    "batching.bytes_max",
    "log.level",
    "log.format",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_documented_key_is_kept_or_removed_on_purpose() {
        let example = include_str!("../../../../../../docs/fanblade.example.toml");
        let mut section = String::new();
        let mut count = 0;
        for line in example.lines() {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.trim_start_matches('[').split(']').next()) {
                section = name.to_owned();
            } else if let Some((key, _)) = bare.split_once(" = ")
                && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            {
                let key = format!("{section}.{key}");
                assert!(KEPT.contains(&key.as_str()) != REMOVED.contains(&key.as_str()), "{key}");
                count += 1;
            }
        }
        assert_eq!(count, KEPT.len() + REMOVED.len());
    }

    #[test]
    fn what_looks_like_a_secret_goes() {
        let none = Secrets(Vec::new());
        for (text, clean) in [
            ("open wss://a:b@h.example.com/p?k=v now", "open wss://h.example.com/p?removed now"),
            ("http://h/a@b", "http://h/a@b"),
            ("Authorization: Bearer abc", "Authorization: Bearer removed"),
            ("\"token\": \"abc\", x", "\"token\": \"removed\", x"),
            ("PASSWORD=abc;user", "PASSWORD=removed;user"),
            ("token_file and tokens 3", "token_file and tokens 3"),
            ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nend", "removed: a private key\nend"),
            ("ü://ü@ü?ü password=ü", "ü://ü?removed password=removed"),
        ] {
            assert_eq!(none.scrub(text), clean);
        }
    }
}
