//! The blade that is attacked, the subscriber beside it, and what both notice.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fanblade_feed::publisher::{Hello, Record, Request, Value as Data};
use fanblade_measure::report::rounded;
use fanblade_wire::UnixNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::aim::{Aim, Over};
use super::attacks::{Attack, BALANCER, Feed, Log, Memory};
use super::engine::Engine;
use crate::scenario::server::blade::{addresses, program};

/// A running blade; killed when dropped.
pub(super) struct Target {
    child: Child,
    data: SocketAddr,
    admin: SocketAddr,
    feed: Feed,
    memory: Option<Memory>,
    directory: TempDir,
    /// The reader's end of the blade's log, if nobody reads it.
    _log: Option<std::io::PipeReader>,
}

impl Drop for Target {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    pub(super) fn start(attack: &Attack, engine: Engine, is_attacked: bool, rate: u64) -> anyhow::Result<Target> {
        let directory = tempfile::tempdir()?;
        let feed = match attack.feed {
            Feed::Market => json!({"source": "sim", "simulator": {"messages_per_s": rate, "symbols": attack.symbols}}),
            Feed::Publishers => json!({"source": "publisher"}),
        };
        let mut configuration = json!({
            "feed": feed,
            "data": {
                "listen": "127.0.0.1:0", "workers": 1, "engine": engine.name(),
                "proxy_protocol_from": [format!("{BALANCER}/32")],
            },
            "admin": {"listen": "127.0.0.1:0"},
            "ring": {"updates": 1 << 16, "json": 1 << 25, "binary": 1 << 25, "subjects_max": 4_096.max(attack.symbols * 16)},
            "ebpf": {"enabled": false},
            "log": {"level": if attack.log == Log::Quiet { "warn" } else { "debug" }},
        });
        configuration["feed"]["publisher"] = json!({"listen": [], "unix": SOCKET, "state": ""});
        let table = toml::Table::try_from(configuration)?;
        std::fs::write(directory.path().join(CONFIGURATION), toml::to_string(&table)?)?;
        let mut command = Command::new(program()?);
        command.args(["run", "--config", CONFIGURATION]).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut log = None;
        if is_attacked && attack.log != Log::Quiet {
            let (reader, mut writer) = std::io::pipe()?;
            if attack.log == Log::Stuck {
                fill(&mut writer)?;
                log = Some(reader);
            }
            command.stderr(writer);
        }
        fanblade_measure::sys::tie(&mut command, &[])?;
        let child = command.spawn().context("cannot start the blade")?;
        let nowhere = SocketAddr::V4(SocketAddrV4::new([127, 0, 0, 1].into(), 0));
        let mut target = Target {
            child,
            data: nowhere,
            admin: nowhere,
            feed: attack.feed,
            memory: attack.memory,
            directory,
            _log: log,
        };
        let stdout = target.child.stdout.take().context("the blade has no standard output")?;
        let (data, admin) = addresses(BufReader::new(stdout))?;
        (target.data, target.admin) = (data.into(), admin.into());
        Ok(target)
    }

    pub(super) fn aim(&self) -> Aim {
        let publishers = self.directory.path().join(SOCKET);
        Aim::new(self.data, self.admin, publishers, rss_kib(self.child.id()))
    }

    /// Subscribes for `duration`, whatever happens meanwhile.
    pub(super) fn watch(&self, aim: &Aim, duration: Duration) -> anyhow::Result<Seen> {
        std::thread::scope(|scope| {
            let _over = Over(aim);
            if self.feed == Feed::Publishers {
                scope.spawn(|| publish(aim));
            }
            let health = scope.spawn(|| watch_health(aim));
            let height = scope.spawn(|| watch_memory(aim, self.child.id()));
            let mut command = Command::new(program()?);
            let seconds = duration.as_secs_f64().to_string();
            command.args(["subscribe", &self.data.to_string(), self.feed.subjects()]);
            command.args(["--mode", "all", "--check", "--json", "--for", &seconds]).stdin(Stdio::null());
            fanblade_measure::sys::tie(&mut command, &[])?;
            let output = command.output().context("cannot start the subscriber")?;
            aim.end();
            let health =
                health.join().map_err(|_| anyhow::anyhow!("the thread that asks for /healthz has panicked"))?;
            let rss_kib_max =
                height.join().map_err(|_| anyhow::anyhow!("the thread that reads the memory has panicked"))?;
            let summary: Value = serde_json::from_slice(&output.stdout).with_context(|| {
                format!("the subscriber printed no summary: {}", String::from_utf8_lossy(&output.stderr))
            })?;
            Ok(Seen { rss_kib_max, ..Seen::of(&summary, health, aim.done()) })
        })
    }

    /// Ends the blade as an operator would.
    pub(super) fn stop(mut self, mut seen: Seen, aim: &Aim) -> anyhow::Result<Seen> {
        let _over = Over(aim);
        if self.memory.is_some() {
            std::thread::sleep(MEMORY_BACK);
        }
        seen.rss_kib = rss_kib(self.child.id());
        seen.rss_kib_before = aim.rss_kib_before;
        if let Some(memory) = self.memory {
            seen.judge_memory(memory);
        }
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > STOP_MAX {
                seen.faults.push(format!("the blade had not stopped {} s after SIGTERM", STOP_MAX.as_secs()));
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        seen.stop_s = begun.elapsed().as_secs_f64();
        Ok(seen)
    }
}

/// Fills the pipe until not one byte more fits.
fn fill(writer: &mut std::io::PipeWriter) -> anyhow::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(&*writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while writer.write(&[b'\n'; 4_096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    // Blocking, as a terminal's or a service manager's would be.
    fcntl(&*writer, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(())
}

/// A publisher that behaves well: a thousand values a second.
fn publish(aim: &Aim) {
    let Ok(mut stream) = UnixStream::connect(&aim.publishers) else { return };
    let mut bytes = Vec::new();
    Request::Hello(Hello { wants_acks: false, name: "desk", token: b"" }).write(&mut bytes);
    let mut due = Instant::now();
    for number in 0_u64.. {
        let subject = format!("/GOOD/S{}/value", number % 20);
        let data = number.to_string();
        let now_ns = UnixNs::now().0;
        let record = Record { ts_ns: Some(now_ns), subject: &subject, value: Data::Json(data.as_bytes()) };
        Request::Record(record).write(&mut bytes);
        if aim.is_over() || stream.write_all(&bytes).is_err() {
            return;
        }
        bytes.clear();
        due += Duration::from_millis(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// What `/healthz` answered during the run.
#[derive(Default)]
struct Health {
    asked: u64,
    bad: u64,
    slowest_ms: f64,
}

fn watch_health(aim: &Aim) -> Health {
    let mut health = Health::default();
    while !aim.is_over() {
        let begun = Instant::now();
        health.asked += 1;
        health.bad += u64::from(!is_healthy(aim.admin));
        health.slowest_ms = health.slowest_ms.max(begun.elapsed().as_secs_f64() * 1e3);
        aim.pause(Duration::from_millis(100));
    }
    health
}

fn is_healthy(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&admin, HEALTH_MAX)?;
        stream.set_read_timeout(Some(HEALTH_MAX))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

/// The most memory that the blade had during the run, in KiB.
fn watch_memory(aim: &Aim, pid: u32) -> u64 {
    let mut most = 0;
    while !aim.is_over() {
        most = rss_kib(pid).max(most);
        aim.pause(Duration::from_millis(50));
    }
    most
}

/// Private memory of a process.
fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// What a run showed.
pub(super) struct Seen {
    frames: u64,
    p50_ms: f64,
    pub(super) p99_ms: f64,
    max_ms: f64,
    health: Health,
    rss_kib_before: u64,
    rss_kib_max: u64,
    rss_kib: u64,
    stop_s: f64,
    /// What the attackers have done.
    pub(super) done: u64,
    pub(super) faults: Vec<String>,
}

impl Seen {
    fn of(summary: &Value, health: Health, done: u64) -> Seen {
        let ms = |name: &str| summary["age_ns"][name].as_f64().map_or(f64::INFINITY, |ns| ns / 1e6);
        let count = |name: &str| summary[name].as_u64().unwrap_or(0);
        let mut faults = Vec::new();
        if count("frames") == 0 || summary["age_ns"].is_null() {
            faults.push("the subscriber got nothing".to_owned());
        }
        if count("violations") > 0 {
            faults.push(format!("promises broken: {}", summary["violations_first"]));
        }
        if summary["closes"].as_object().is_some_and(|closes| !closes.is_empty()) {
            faults.push(format!("the subscriber was closed: {}", summary["closes"]));
        }
        if health.bad > 0 {
            faults.push(format!("/healthz was wrong {} of {} times", health.bad, health.asked));
        }
        Seen {
            frames: count("frames"),
            p50_ms: ms("p50"),
            p99_ms: ms("p99"),
            max_ms: ms("max"),
            health,
            rss_kib_before: 0,
            rss_kib_max: 0,
            rss_kib: 0,
            stop_s: 0.0,
            done,
            faults,
        }
    }

    /// Judges how much the attack may have added to what the blade needs by itself.
    fn judge_memory(&mut self, memory: Memory) {
        let more_mib = |kib: u64| kib.saturating_sub(self.rss_kib_before) >> 10;
        let (height_mib, left_mib) = (more_mib(self.rss_kib_max), more_mib(self.rss_kib));
        let Memory { height_mib_max, left_mib_max } = memory;
        if height_mib > height_mib_max {
            self.faults.push(format!("memory grew by {height_mib} MiB, more than {height_mib_max}"));
        }
        if left_mib > left_mib_max {
            let seconds = MEMORY_BACK.as_secs();
            self.faults.push(format!(
                "memory was {left_mib} MiB larger {seconds} s after the attack, more than {left_mib_max}"
            ));
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "rss_kib_before": self.rss_kib_before,
            "rss_kib_max": self.rss_kib_max,
            "frames": self.frames,
            "latency_ms": {
                "p50": rounded(self.p50_ms, 3), "p99": rounded(self.p99_ms, 3), "max": rounded(self.max_ms, 3),
            },
            "healthz": {
                "asked": self.health.asked, "bad": self.health.bad, "slowest_ms": rounded(self.health.slowest_ms, 1),
            },
            "rss_kib": self.rss_kib,
            "stop_s": rounded(self.stop_s, 2),
            "done_by_attackers": self.done,
            "faults": self.faults,
        })
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Health { asked, bad, slowest_ms } = self.health;
        write!(
            f,
            "{} frames, p50 {:.2}, p99 {:.2}, max {:.2} ms; /healthz right {} of {asked} times, slowest {slowest_ms:.0} \
             ms; memory {} MiB before, {} at most, {} at the end; stopped in {:.1} s; attackers did {}",
            self.frames,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            asked - bad,
            self.rss_kib_before >> 10,
            self.rss_kib_max >> 10,
            self.rss_kib >> 10,
            self.stop_s,
            self.done
        )
    }
}

const CONFIGURATION: &str = "blade.toml";
const SOCKET: &str = "publish.sock";
/// Within this time after an attack on memory, the memory must be back.
const MEMORY_BACK: Duration = Duration::from_secs(5);
/// A balancer would have given up after this time.
const HEALTH_MAX: Duration = Duration::from_secs(2);
/// The blade closes what is left after ten seconds.
const STOP_MAX: Duration = Duration::from_secs(20);
