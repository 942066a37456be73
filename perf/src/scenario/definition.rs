//! A scenario as it stands in perf/scenarios/.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use fanblade_swarm::EngineKind;
use fanblade_swarm::lists::{Lists, Shape};
use fanblade_swarm::plan::{Assignment, Habits, Subjects};
use fanblade_swarm::xdp::cable;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// One line.
    pub(crate) title: String,
    /// Who has published figures of this scenario, and where.
    pub(crate) source: String,
    /// What is left out, or done otherwise than in the source.
    #[serde(default)]
    pub(crate) remarks: String,
    #[serde(default)]
    pub(crate) kind: Kind,
    /// As many as a machine of two cores carries; `--subscribers` overrides it.
    pub(crate) subscribers: u32,
    pub(crate) subjects: u32,
    #[serde(default = "random")]
    pub(crate) assign: Assignment,
    /// Bytes of a message's data, without what the server wraps around it.
    #[serde(default = "half_a_kibibyte")]
    pub(crate) payload_bytes: u32,
    /// Phases of the publisher, one after the other and again from the first. None: nothing is published.
    #[serde(default)]
    pub(crate) phases: Vec<Phase>,
    /// Connections begun in a second; left out: as fast as they are answered.
    pub(crate) connect_rate: Option<u32>,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
    #[serde(default)]
    pub(crate) habits: HabitsTable,
    /// Subscription mode at a Fanblade server.
    #[serde(default = "all")]
    pub(crate) mode: String,
    /// CPUs that the server has at least, even if it shares the clients'.
    #[serde(default = "one")]
    pub(crate) server_cpus: u32,
    /// `storm`: how often everybody connects.
    #[serde(default = "one")]
    pub(crate) cycles: u32,
    /// Whether the server is ended before the clients, so that its share of the kernel's memory can be told from
    /// theirs.
    #[serde(default)]
    pub(crate) split_memory: bool,
    /// What carries the subscribers. The command line decides it, not the scenario.
    #[serde(skip)]
    pub(crate) engine: EngineKind,
    /// Lists of subjects, instead of one subject for each subscriber.
    pub(crate) watchlists: Option<Watchlists>,
    /// What others have published.
    #[serde(default)]
    pub(crate) published: Vec<Published>,
    /// Copied into the blade's configuration file as it is.
    #[serde(default)]
    pub(crate) blade: toml::Table,
    /// The program of [`super::server::ServerKind::Uwebsockets`], from the command line.
    #[serde(skip)]
    pub(crate) peer_path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Messages to those who have subscribed
    #[default]
    Traffic,
    /// Everybody connects at once, again and again
    Storm,
    /// One packet of the exchange in, one frame out
    WireToWire,
}

/// For how long, and how many messages a second of each subject.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    pub(crate) messages_per_s: f64,
}

/// Each subscriber has subjects of its own.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watchlists {
    pub(crate) subjects_per_session: u32,
    /// Exponent of the power law by which the subjects are chosen.
    pub(crate) exponent: f64,
    /// How often in a second a session replaces one subject by another.
    #[serde(default)]
    pub(crate) changes_per_s: f64,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HabitsTable {
    stalled_per_mille: u16,
    slow_per_mille: u16,
    slow_bytes_per_s: u32,
}

/// Figures that somebody has published.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    pub(crate) system: String,
    pub(crate) machine: String,
    pub(crate) cores: u32,
    pub(crate) subscribers: u64,
    pub(crate) messages_per_s: f64,
    /// mean, p50, p99, p999, max, as far as they are known.
    #[serde(default)]
    pub(crate) latency_ms: BTreeMap<String, f64>,
}

impl Scenario {
    /// Whether messages may wait for each other in the blade.
    pub(crate) fn is_batched(&self) -> bool {
        self.blade.contains_key("batching")
    }

    /// Reads perf/scenarios/NAME.toml.
    pub(crate) fn load(name: &str) -> anyhow::Result<Scenario> {
        let path = PathBuf::from(format!("perf/scenarios/{name}.toml"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("there is no scenario `{name}`; there are {}", names()?.join(", "));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let scenario: Scenario = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        scenario.check().with_context(|| format!("in {}", path.display()))?;
        Ok(scenario)
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.subjects > 0 && self.subscribers > 0, "`subjects` and `subscribers` must be above 0");
        ensure!((64..65_536).contains(&self.payload_bytes), "`payload_bytes` must be 64 to 65,535");
        for phase in &self.phases {
            ensure!(
                phase.seconds > 0.0 && phase.messages_per_s > 0.0,
                "a phase needs `seconds` and `messages_per_s` above 0"
            );
        }
        ensure!(["all", "conflate"].contains(&self.mode.as_str()), "`mode` must be `all` or `conflate`");
        if let Some(watchlists) = self.watchlists {
            self.lists()?;
            ensure!(
                (0.0..=50.0).contains(&watchlists.changes_per_s),
                "`changes_per_s` must be 0 to 50 for each session"
            );
            let is_simple = self.kind == Kind::Traffic && self.mode == "all" && self.habits() == Habits::default();
            ensure!(
                is_simple,
                "watchlists need kind `traffic`, mode `all`, and no habits, because every frame is counted"
            );
        }
        Ok(())
    }

    /// The address on which the server listens.
    pub(crate) fn listen(&self) -> SocketAddrV4 {
        let ip = match self.engine {
            EngineKind::Sockets => Ipv4Addr::LOCALHOST,
            EngineKind::Xdp => cable::SERVER,
        };
        SocketAddrV4::new(ip, 0)
    }

    pub(crate) fn habits(&self) -> Habits {
        let HabitsTable { stalled_per_mille, slow_per_mille, slow_bytes_per_s } = self.habits;
        Habits { stalled_per_mille, slow_per_mille, slow_bytes_per_s }
    }

    pub(crate) fn subjects(&self) -> Subjects {
        Subjects { count: self.subjects, assignment: self.assign, seed: SEED }
    }

    /// The subscribers' lists, if they have any.
    pub(crate) fn lists(&self) -> anyhow::Result<Option<Lists>> {
        self.shape().map(|shape| Lists::new(shape, self.subjects, SEED)).transpose()
    }

    pub(crate) fn shape(&self) -> Option<Shape> {
        let Watchlists { subjects_per_session: per_client, exponent, .. } = self.watchlists?;
        Some(Shape { per_client, exponent })
    }

    /// How many subjects a subscriber has.
    pub(crate) fn subjects_per_session(&self) -> u32 {
        self.watchlists.map_or(1, |it| it.subjects_per_session)
    }

    /// Messages a second of one subject, over all phases.
    pub(crate) fn messages_per_s(&self) -> f64 {
        let seconds: f64 = self.phases.iter().map(|phase| phase.seconds).sum();
        let messages: f64 = self.phases.iter().map(|phase| phase.seconds * phase.messages_per_s).sum();
        if seconds > 0.0 { messages / seconds } else { 0.0 }
    }
}

/// The scenarios that there are.
pub(crate) fn names() -> anyhow::Result<Vec<String>> {
    let files = std::fs::read_dir("perf/scenarios")
        .context("cannot read perf/scenarios: run this in the root of the checkout")?;
    let name = |file: std::fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".toml")?.to_owned());
    let mut names: Vec<String> = files.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Seed of the random choice of subjects.
pub(crate) const SEED: u64 = 1;

fn random() -> Assignment {
    Assignment::Random
}

fn half_a_kibibyte() -> u32 {
    512
}

fn all() -> String {
    "all".to_owned()
}

fn one() -> u32 {
    1
}
