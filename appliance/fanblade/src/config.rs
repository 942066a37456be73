//! The configuration file: TOML, every key with a default, nothing unknown accepted. docs/fanblade.example.toml lists
//! all keys with their defaults; a test reads it.

mod checks;
mod fault;
mod files;
mod keys;
mod moldudp64;
mod publisher;
mod ring;
mod settings;
mod soupbintcp;
mod units;
mod websocket;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fanblade_abi::limits::WORKERS_MAX;
use fanblade_feed::limits::{SIMULATOR_MESSAGES_PER_S_MAX, SIMULATOR_SYMBOLS_MAX};
use fanblade_worker::{ClientHeader, Limits, Network};
use serde::{Deserialize, Deserializer};
use serde_spanned::Spanned;

pub(crate) use checks::{ADDRESS_HINT, unplaced};
use checks::{Fault, ORIGIN_HINT, fault, from_text, in_range, is_origin, map};
pub(crate) use fault::ConfigError;
pub(crate) use files::Files;
pub(crate) use keys::{Keys, is_live};
pub(crate) use moldudp64::{Join, LineAddress, Moldudp64Config, of_anybody as lines_of_anybody};
pub(crate) use publisher::{PublisherConfig, read_token};
pub(crate) use ring::RingConfig;
pub(crate) use soupbintcp::{Secret, SoupbintcpConfig, SoupbintcpStart};
pub(crate) use units::{Bytes, Millis};
pub(crate) use websocket::WebsocketConfig;

/// A whole configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) feed: FeedConfig,
    pub(crate) data: DataConfig,
    pub(crate) admin: AdminConfig,
    pub(crate) ring: RingConfig,
    pub(crate) ebpf: EbpfConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) batching: Vec<BatchingConfig>,
    pub(crate) log: LogConfig,
}

/// `[feed]`: where messages come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FeedConfig {
    pub(crate) source: FeedSource,
    /// None: the source's default: real time for the simulator, as fast as possible for a file.
    pub(crate) pace: Option<Pace>,
    /// Start playing once this many sessions have subscribed.
    pub(crate) wait_for: u64,
    /// First segment of the subjects.
    pub(crate) venue: Spanned<String>,
    /// Trading day, `YYYY-MM-DD`. None: from the file's name, else today in New York.
    pub(crate) date: Option<TradingDay>,
    pub(crate) simulator: SimulatorConfig,
    pub(crate) moldudp64: Moldudp64Config,
    pub(crate) soupbintcp: SoupbintcpConfig,
    pub(crate) publisher: PublisherConfig,
    pub(crate) websocket: WebsocketConfig,
}

/// `[feed.simulator]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SimulatorConfig {
    pub(crate) seed: u64,
    pub(crate) symbols: Spanned<u64>,
    pub(crate) messages_per_s: Spanned<u64>,
}

/// `[data]`: where subscribers connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DataConfig {
    pub(crate) listen: SocketAddr,
    /// None: one for each CPU that the process may use, less two for the sequencer and everything else.
    pub(crate) workers: Option<Spanned<usize>>,
    /// CPUs to pin to: the sequencer's, then the workers'. Empty: chosen when there are enough, else not pinned.
    pub(crate) cpus: Spanned<Vec<usize>>,
    pub(crate) engine: EngineKind,
    pub(crate) allowed_origins: Spanned<Vec<String>>,
    /// Balancers whose connections begin with a PROXY protocol header.
    pub(crate) proxy_protocol_from: Spanned<Vec<Network>>,
    /// Proxies that are trusted to name the client in `client_header`.
    pub(crate) trusted_proxies: Spanned<Vec<Network>>,
    pub(crate) client_header: ClientHeader,
    pub(crate) backlog: Spanned<u64>,
    pub(crate) notsent_lowat: Bytes,
    /// How long a worker with a CPU of its own polls before it sleeps.
    pub(crate) spin_us: Spanned<u64>,
    /// Refuse the workers' threads all system calls that they do not need.
    pub(crate) sandbox: bool,
    /// From the order to stop, after which `/readyz` answers 503, to the end of the first session.
    pub(crate) drain_delay_ms: Spanned<Millis>,
}

/// `[admin]`: metrics, health and the live page.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminConfig {
    pub(crate) listen: Spanned<SocketAddr>,
    /// A thread that stands still for this long is reported by `/healthz`.
    pub(crate) stalled_ms: Spanned<Millis>,
    /// Host names, besides addresses and `localhost`, that requests may use for this port.
    pub(crate) allowed_hosts: Spanned<Vec<String>>,
    /// Connections at the same time.
    pub(crate) connections_max: Spanned<u64>,
    /// Where the live page finds the data port. Empty: on the page's own host.
    pub(crate) stream_url: Spanned<String>,
}

/// `[ebpf]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EbpfConfig {
    pub(crate) enabled: bool,
    /// Interface whose packets are counted. None: the interface that owns the data address, or loopback.
    pub(crate) interface: Option<String>,
    /// Where the maps are pinned.
    pub(crate) pin_dir: String,
}

/// `[limits]`: a key that is not set here keeps the worker's default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    pub(crate) sessions_max: Option<Spanned<u64>>,
    pub(crate) message_len_max: Option<Spanned<Bytes>>,
    pub(crate) subscriptions_max: Option<Spanned<u64>>,
    pub(crate) filters_max: Option<Spanned<u64>>,
    pub(crate) requests_per_s_max: Option<Spanned<u64>>,
    pub(crate) pieces_per_s_max: Option<Spanned<u64>>,
    pub(crate) handshake_ms_max: Option<Spanned<Millis>>,
    pub(crate) subscribe_ms_max: Option<Spanned<Millis>>,
    pub(crate) ping_interval_ms: Option<Spanned<Millis>>,
    pub(crate) pong_ms_max: Option<Spanned<Millis>>,
    pub(crate) lag_ms_max: Option<Spanned<Millis>>,
    pub(crate) half_closed_ms_max: Option<Spanned<Millis>>,
    pub(crate) control_bytes_max: Option<Spanned<Bytes>>,
    pub(crate) held_bytes_max: Option<Spanned<Bytes>>,
}

/// An entry of `[[batching]]`: frames of these subjects may wait for further frames, so that one send takes them all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchingConfig {
    pub(crate) subjects: Spanned<String>,
    pub(crate) ms_max: Spanned<Millis>,
    #[serde(default)]
    pub(crate) bytes_max: Option<Spanned<Bytes>>,
}

/// `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

/// Where the feed comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FeedSource {
    /// The seeded market simulator.
    Simulator,
    /// A BinaryFILE, plain or gzipped.
    File(PathBuf),
    /// MoldUDP64 by multicast, `[feed.moldudp64]`; these lines replace those configured there.
    Moldudp64(Option<Vec<LineAddress>>),
    /// SoupBinTCP, `[feed.soupbintcp]`; this server replaces those configured there.
    Soupbintcp(Option<String>),
    /// Programs that publish to us, `[feed.publisher]`.
    Publisher,
    /// Another WebSocket server, `[feed.websocket]`.
    Websocket,
}

/// How fast recorded or simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// As fast as the blade can.
    Max,
    /// At this multiple of the speed of the messages' own timestamps.
    Factor(f64),
}

/// The socket engine of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineKind {
    /// io_uring.
    Uring,
    /// epoll and sendmsg.
    Epoll,
}

/// The least severe line that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A calendar day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TradingDay(pub(crate) jiff::civil::Date);

impl Config {
    /// Reads and checks `file`.
    pub(crate) fn load(file: &Path) -> Result<Config, ConfigError> {
        Config::parse(file, &Config::read(file)?)
    }

    fn read(file: &Path) -> Result<String, ConfigError> {
        let bytes = std::fs::read(file).map_err(|error| ConfigError::unreadable(file, &error))?;
        String::from_utf8(bytes).map_err(|_| {
            ConfigError::unreadable(
                file,
                &std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not text (UTF-8)"),
            )
        })
    }

    pub(crate) fn parse(file: &Path, source: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(source).map_err(|error| ConfigError::from_toml(file, source, &error))?;
        config.validate().map_err(|fault| ConfigError::at(file, source, &fault.span, fault.message, fault.hint))?;
        Ok(config)
    }

    /// Checks for values that parse but make no sense, and reports the first one.
    fn validate(&self) -> Result<(), Fault> {
        // [feed]
        in_range(&self.feed.simulator.symbols, 1, SIMULATOR_SYMBOLS_MAX as u64, "symbols")?;
        in_range(&self.feed.simulator.messages_per_s, 1, SIMULATOR_MESSAGES_PER_S_MAX.into(), "messages a second")?;
        self.feed.moldudp64.validate()?;
        self.feed.soupbintcp.validate()?;
        self.feed.publisher.validate()?;
        self.feed.websocket.validate(self.feed.source == FeedSource::Websocket)?;
        let venue = self.feed.venue.get_ref();
        if venue.is_empty()
            || venue.len() > 32
            || !venue.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'*')
        {
            return fault(
                &self.feed.venue,
                format!("`{venue}` cannot be a subject's first segment"),
                "printable ASCII without `/` and `*`",
            );
        }
        // [data]: a CPU for the sequencer and each worker, or none named.
        if let Some(workers) = &self.data.workers {
            in_range(&map(workers, |count| *count as u64), 1, WORKERS_MAX.into(), "workers")?;
            let cpus = self.data.cpus.get_ref().len();
            if cpus != 0 && cpus != workers.get_ref() + 1 {
                let hint =
                    format!("the first is the sequencer's, then one for each of the {} workers", workers.get_ref());
                return fault(&self.data.cpus, format!("{cpus} CPUs for {} threads", workers.get_ref() + 1), hint);
            }
        } else if self.data.cpus.get_ref().len() == 1 {
            return fault(
                &self.data.cpus,
                "one CPU leaves none for a worker".to_owned(),
                "name at least two, or leave `cpus` out",
            );
        }
        for origin in self.data.allowed_origins.get_ref() {
            if !is_origin(origin) {
                return fault(&self.data.allowed_origins, format!("`{origin}` is not an origin"), ORIGIN_HINT);
            }
        }
        for networks in [&self.data.proxy_protocol_from, &self.data.trusted_proxies] {
            if networks.get_ref().len() > NETWORKS_MAX {
                let message = format!("{} networks", networks.get_ref().len());
                return fault(
                    networks,
                    message,
                    format!("at most {NETWORKS_MAX}; each connection is compared with all"),
                );
            }
        }
        in_range(&self.data.backlog, 1, 1 << 20, "waiting connections")?;
        // A worker that spins leaves its sockets waiting.
        in_range(&self.data.spin_us, 0, 1_000, "microseconds")?;
        // Healthy threads sleep for up to a second, and a machine may be busy.
        in_range(&map(&self.admin.stalled_ms, |millis| millis.0), 2_000, 3_600_000, "milliseconds")?;
        in_range(&map(&self.data.drain_delay_ms, |millis| millis.0), 0, 600_000, "milliseconds")?;
        if *self.admin.listen.get_ref() == self.data.listen && self.data.listen.port() != 0 {
            let message = format!("{} is the data address already", self.data.listen);
            return fault(&self.admin.listen, message, "give the admin port another number");
        }
        // The other sections.
        self.admin.validate()?;
        self.ring.validate()?;
        self.batching.iter().try_for_each(BatchingConfig::validate)?;
        self.limits.validate()
    }
}

impl AdminConfig {
    fn validate(&self) -> Result<(), Fault> {
        let is_name = |name: &str| {
            let is_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !name.is_empty() && name.bytes().all(is_label)
        };
        if let Some(name) = self.allowed_hosts.get_ref().iter().find(|name| !is_name(name)) {
            let hint = "a name without scheme and port, such as \"blade-1.example.com\"; addresses are always allowed";
            return fault(&self.allowed_hosts, format!("`{name}` is not the name of a host"), hint);
        }
        in_range(&self.connections_max, 4, 65_536, "connections")?;
        let url = self.stream_url.get_ref();
        let is_stream = ["ws://", "wss://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(is_place));
        if !url.is_empty() && !is_stream {
            let hint = "such as \"wss://data.example.com/v1/stream\"";
            return fault(&self.stream_url, format!("`{url}` is not the address of a WebSocket"), hint);
        }
        Ok(())
    }
}

/// Checks host, port and path for characters that could break out of the header that they are copied to.
fn is_place(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"',;*".contains(&byte))
}

impl LimitsConfig {
    fn validate(&self) -> Result<(), Fault> {
        let millis = |value: &Option<Spanned<Millis>>, min| match value {
            Some(value) => in_range(&map(value, |millis| millis.0), min, 86_400_000, "milliseconds"),
            None => Ok(()),
        };
        let number = |value: &Option<Spanned<u64>>, max, what| match value {
            Some(value) => in_range(value, 1, max, what),
            None => Ok(()),
        };
        let bytes = |value: &Option<Spanned<Bytes>>, min, max| match value {
            Some(value) => in_range(&map(value, |bytes| bytes.0), min, max, "bytes"),
            None => Ok(()),
        };
        number(&self.sessions_max, SESSIONS_MAX, "sessions of one worker")?;
        number(&self.subscriptions_max, SUBSCRIPTIONS_MAX, "subscriptions of one session")?;
        number(&self.filters_max, 1 << 28, "patterns and subjects of one worker")?;
        number(&self.requests_per_s_max, 65_535, "requests a second")?;
        if let Some(pieces) = &self.pieces_per_s_max {
            in_range(pieces, 100, 65_534, "pieces a second")?;
        }
        bytes(&self.message_len_max, 256, fanblade_worker::REQUEST_SKIPPED_LEN_MAX)?;
        bytes(&self.control_bytes_max, 4_096, 1 << 30)?;
        bytes(&self.held_bytes_max, 1 << 20, 1 << 40)?;
        millis(&self.handshake_ms_max, 100)?;
        millis(&self.subscribe_ms_max, 0)?;
        millis(&self.ping_interval_ms, 100)?;
        millis(&self.pong_ms_max, 100)?;
        millis(&self.lag_ms_max, 100)?;
        millis(&self.half_closed_ms_max, 100)?;
        self.check_requests_fit()
    }

    /// A request must be able to name as many subjects as a client may have, and the reply must fit as well.
    fn check_requests_fit(&self) -> Result<(), Fault> {
        let defaults = Limits::default();
        let subscriptions = self.subscriptions_max.as_ref().map_or(defaults.subscriptions_max.into(), |n| *n.get_ref());
        let needed = fanblade_worker::request_len(subscriptions);
        for (limit, what) in [(&self.message_len_max, "request"), (&self.control_bytes_max, "reply")] {
            if let Some(limit) = limit.as_ref().filter(|limit| limit.get_ref().0 < needed) {
                let message = format!(
                    "{} are too few for a {what} with {subscriptions} subjects (`subscriptions_max`)",
                    limit.get_ref()
                );
                return fault(limit, message, format!("at least {needed} bytes; or fewer `subscriptions_max`"));
            }
        }
        Ok(())
    }
}

impl BatchingConfig {
    fn validate(&self) -> Result<(), Fault> {
        if let Err(error) = fanblade_ring::subject::check(self.subjects.get_ref()) {
            let message = format!("`{}` selects no subject: {error}", self.subjects.get_ref());
            return fault(&self.subjects, message, "a subject or a pattern such as \"/NASDAQ/*/book\"");
        }
        in_range(&map(&self.ms_max, |millis| millis.0), 1, 1_000, "milliseconds")?;
        match &self.bytes_max {
            Some(bytes) => in_range(&map(bytes, |bytes| bytes.0), 1 << 10, 1 << 20, "bytes"),
            None => Ok(()),
        }
    }
}

/// Greatest `sessions_max`: sessions of one worker.
pub(crate) const SESSIONS_MAX: u64 = 1 << 24;
/// Greatest `subscriptions_max`: of one session.
pub(crate) const SUBSCRIPTIONS_MAX: u64 = 1 << 16;
/// Addresses and networks in one list.
const NETWORKS_MAX: usize = 256;

impl FromStr for FeedSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "sim" => Ok(FeedSource::Simulator),
            None if text == "moldudp64" => Ok(FeedSource::Moldudp64(None)),
            Some(("moldudp64", lines)) => moldudp64::lines(lines).map(|lines| FeedSource::Moldudp64(Some(lines))),
            None if text == "soupbintcp" => Ok(FeedSource::Soupbintcp(None)),
            Some(("soupbintcp", server)) if soupbintcp::is_host_and_port(server) => {
                Ok(FeedSource::Soupbintcp(Some(server.to_owned())))
            }
            Some(("soupbintcp", server)) => Err(format!(
                "`{server}` is not a server; write soupbintcp:HOST:PORT, or soupbintcp for those configured"
            )),
            None if text == "publisher" => Ok(FeedSource::Publisher),
            None if text == "websocket" => Ok(FeedSource::Websocket),
            Some(("file", path)) if !path.is_empty() => Ok(FeedSource::File(path.into())),
            Some(("file", _)) => Err("`file:` lacks the path: file:PATH".to_owned()),
            _ if Path::new(text).exists() => Err(format!("`{text}` is not a feed; to play that file: file:{text}")),
            _ => Err(format!(
                "`{text}` is not a feed; there are `sim`, `file:PATH`, `moldudp64`, `soupbintcp`, `publisher` and `websocket`"
            )),
        }
    }
}

impl std::fmt::Display for FeedSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FeedSource::Simulator => f.write_str("the simulator"),
            FeedSource::File(path) => path.display().fmt(f),
            FeedSource::Moldudp64(None) => f.write_str("MoldUDP64"),
            FeedSource::Moldudp64(Some(lines)) => {
                f.write_str("MoldUDP64 from")?;
                lines.iter().try_for_each(|line| write!(f, " {line}"))
            }
            FeedSource::Soupbintcp(None) => f.write_str("SoupBinTCP"),
            FeedSource::Soupbintcp(Some(server)) => write!(f, "SoupBinTCP from {server}"),
            FeedSource::Publisher => f.write_str("publishers"),
            FeedSource::Websocket => f.write_str("a WebSocket server"),
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Pace::Max),
            "realtime" => Ok(Pace::Factor(1.0)),
            _ => match text.trim_end_matches('x').parse::<f64>() {
                Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(Pace::Factor(factor)),
                _ => Err(format!("`{text}` is not a pace; write `max`, `realtime`, or a factor above 0 such as 10")),
            },
        }
    }
}

impl FromStr for TradingDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(TradingDay).map_err(|_| format!("`{text}` is not a day; write YYYY-MM-DD"))
    }
}

impl LogLevel {
    /// The filter for the log, unless RUST_LOG is set.
    pub(crate) fn directive(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl<'de> Deserialize<'de> for FeedSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl<'de> Deserialize<'de> for TradingDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A TOML date literal arrives as a map; only quoted text is accepted.
        from_text(deserializer)
    }
}

impl<'de> Deserialize<'de> for Pace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "\"max\", \"realtime\", or a factor above 0 such as 10")]
        enum Spelling {
            Text(String),
            Number(f64),
        }
        let text = match Spelling::deserialize(deserializer)? {
            Spelling::Text(text) => text,
            Spelling::Number(number) => number.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self {
            source: FeedSource::Simulator,
            pace: None,
            wait_for: 0,
            venue: unplaced("NASDAQ".to_owned()),
            date: None,
            simulator: SimulatorConfig::default(),
            moldudp64: Moldudp64Config::default(),
            soupbintcp: SoupbintcpConfig::default(),
            publisher: PublisherConfig::default(),
            websocket: WebsocketConfig::default(),
        }
    }
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self { seed: 1, symbols: unplaced(2_000), messages_per_s: unplaced(20_000) }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            workers: None,
            cpus: unplaced(Vec::new()),
            engine: EngineKind::Uring,
            allowed_origins: unplaced(Vec::new()),
            proxy_protocol_from: unplaced(Vec::new()),
            trusted_proxies: unplaced(Vec::new()),
            client_header: ClientHeader::Any,
            backlog: unplaced(65_535),
            notsent_lowat: Bytes(16 << 10),
            spin_us: unplaced(50),
            sandbox: true,
            drain_delay_ms: unplaced(Millis(0)),
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: unplaced(SocketAddr::from((Ipv4Addr::LOCALHOST, 7401))),
            stalled_ms: unplaced(Millis(5_000)),
            allowed_hosts: unplaced(Vec::new()),
            connections_max: unplaced(256),
            stream_url: unplaced(String::new()),
        }
    }
}

impl Default for EbpfConfig {
    fn default() -> Self {
        Self { enabled: true, interface: None, pin_dir: fanblade_steer::DEFAULT_PIN_DIR.to_owned() }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

#[cfg(test)]
mod tests;
