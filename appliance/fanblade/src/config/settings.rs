//! Turns a validated configuration into settings: without spans, in the units of the code that uses them.

use fanblade_admin as admin;
use fanblade_blade::{Data, Ebpf, Engine, Settings};
use fanblade_ring::RingConfig as Ring;
use fanblade_worker::{Batching, Limits};
use serde_spanned::Spanned;

use super::{
    AdminConfig, BatchingConfig, Config, DataConfig, EbpfConfig, EngineKind, FeedSource, LimitsConfig, RingConfig,
};

impl Config {
    /// Settings for the serving core.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            venue: self.feed.venue.get_ref().clone(),
            wait_for: self.feed.wait_for,
            data: self.data.settings(),
            ring: self.ring.settings(),
            ebpf: self.ebpf.settings(),
            limits: limits(&self.limits),
            batching: batching(&self.batching),
        }
    }

    /// Settings for the admin port.
    pub(crate) fn admin_settings(&self) -> admin::Settings {
        let AdminConfig { listen, stalled_ms, allowed_hosts, connections_max, stream_url } = &self.admin;
        admin::Settings {
            listen: *listen.get_ref(),
            stalled: stalled_ms.get_ref().duration(),
            allowed_hosts: allowed_hosts.get_ref().clone(),
            connections_max: *connections_max.get_ref(),
            page: admin::Page {
                shape: match self.feed.source {
                    FeedSource::Publisher | FeedSource::Websocket => "values",
                    FeedSource::Simulator
                    | FeedSource::File(_)
                    | FeedSource::Moldudp64(_)
                    | FeedSource::Soupbintcp(_) => "market",
                },
                stream_url: stream_url.get_ref().clone(),
                allowed_origins: self.data.allowed_origins.get_ref().clone(),
            },
        }
    }
}

impl DataConfig {
    fn settings(&self) -> Data {
        let int = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Data {
            listen: self.listen,
            workers: self.workers.as_ref().map(|workers| *workers.get_ref()),
            cpus: self.cpus.get_ref().clone(),
            engine: match self.engine {
                EngineKind::Uring => Engine::Uring,
                EngineKind::Epoll => Engine::Epoll,
            },
            allowed_origins: self.allowed_origins.get_ref().clone(),
            proxy_protocol_from: self.proxy_protocol_from.get_ref().iter().copied().collect(),
            trusted_proxies: self.trusted_proxies.get_ref().iter().copied().collect(),
            client_header: self.client_header,
            backlog: int(*self.backlog.get_ref()),
            notsent_lowat: int(self.notsent_lowat.0),
            spin_us: int(*self.spin_us.get_ref()),
            sandbox: self.sandbox,
            drain_delay: self.drain_delay_ms.get_ref().duration(),
        }
    }
}

impl RingConfig {
    fn settings(&self) -> Ring {
        Ring {
            index_len: usize::try_from(*self.updates.get_ref()).unwrap_or(usize::MAX),
            lane_len: [self.json.get_ref().len(), self.binary.get_ref().len(), 0, 0],
            subjects_max: u32::try_from(*self.subjects_max.get_ref()).unwrap_or(u32::MAX),
            ..Ring::default()
        }
    }
}

impl EbpfConfig {
    fn settings(&self) -> Ebpf {
        Ebpf { enabled: self.enabled, interface: self.interface.clone(), pin_dir: self.pin_dir.clone().into() }
    }
}

/// The worker's limits: its own defaults, overridden by the configuration. The ranges were checked when the file was
/// read.
pub(super) fn limits(config: &LimitsConfig) -> Limits {
    fn set<T: Copy, U: TryFrom<u64>>(place: &mut U, value: &Option<Spanned<T>>, read: impl Fn(T) -> u64) {
        if let Some(value) = value.as_ref().and_then(|value| U::try_from(read(*value.get_ref())).ok()) {
            *place = value;
        }
    }
    let mut limits = Limits::default();
    set(&mut limits.sessions_max, &config.sessions_max, |n| n);
    set(&mut limits.message_len_max, &config.message_len_max, |bytes| bytes.0);
    set(&mut limits.subscriptions_max, &config.subscriptions_max, |n| n);
    set(&mut limits.filters_max, &config.filters_max, |n| n);
    set(&mut limits.requests_per_s_max, &config.requests_per_s_max, |n| n);
    set(&mut limits.pieces_per_s_max, &config.pieces_per_s_max, |n| n);
    set(&mut limits.handshake_ms_max, &config.handshake_ms_max, |ms| ms.0);
    set(&mut limits.subscribe_ms_max, &config.subscribe_ms_max, |ms| ms.0);
    set(&mut limits.ping_interval_ms, &config.ping_interval_ms, |ms| ms.0);
    set(&mut limits.pong_ms_max, &config.pong_ms_max, |ms| ms.0);
    set(&mut limits.lag_ms_max, &config.lag_ms_max, |ms| ms.0);
    set(&mut limits.half_closed_ms_max, &config.half_closed_ms_max, |ms| ms.0);
    set(&mut limits.control_bytes_max, &config.control_bytes_max, |bytes| bytes.0);
    set(&mut limits.held_bytes_max, &config.held_bytes_max, |bytes| bytes.0);
    // Where only the number of subscriptions was raised, the limits that depend on it rise, too.
    let needed = usize::try_from(fanblade_worker::request_len(limits.subscriptions_max.into())).unwrap_or(usize::MAX);
    limits.message_len_max = limits.message_len_max.max(needed);
    limits.control_bytes_max = limits.control_bytes_max.max(needed);
    let waiting = usize::try_from(fanblade_worker::deferred_bytes(limits.subscriptions_max.into()));
    limits.deferred_bytes_max = limits.deferred_bytes_max.max(waiting.unwrap_or(usize::MAX));
    limits
}

/// The range was checked when the file was read.
fn batching(config: &[BatchingConfig]) -> Vec<Batching> {
    let entry = |entry: &BatchingConfig| Batching {
        subjects: entry.subjects.get_ref().clone(),
        ms_max: u32::try_from(entry.ms_max.get_ref().0).unwrap_or(u32::MAX),
        bytes_max: entry
            .bytes_max
            .as_ref()
            .map_or(Batching::BYTES_MAX, |bytes| u32::try_from(bytes.get_ref().0).unwrap_or(u32::MAX)),
    };
    config.iter().map(entry).collect()
}
