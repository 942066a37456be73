//! The blade as it is run: `fanblade run` with a configuration of its own, fed by a publisher over its Unix socket.

use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fanblade_feed::publisher::{self, Hello, Record, Reply, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Manners, Server};
use crate::scenario::definition::Scenario;
use crate::scenario::message;
use crate::scenario::publisher::Outlet;

pub(crate) struct Blade {
    child: Child,
    data: SocketAddrV4,
    admin: SocketAddrV4,
    mode: String,
    /// Subjects of each subscriber, if they have lists.
    subjects: Option<u32>,
    configuration: toml::Table,
    directory: TempDir,
}

impl Blade {
    pub(crate) fn start(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Blade> {
        let mut blade = Blade::launch(configuration(scenario)?, &scenario.mode, cpus)?;
        blade.subjects = scenario.watchlists.map(|it| it.subjects_per_session);
        Ok(blade)
    }

    /// Starts a blade with this configuration, for subscribers in this mode.
    pub(crate) fn launch(configuration: toml::Table, mode: &str, cpus: &[usize]) -> anyhow::Result<Blade> {
        let program = program()?;
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join(CONFIGURATION), toml::to_string(&configuration)?)?;
        let mut command = Command::new(program);
        command.args(["run", "--config", CONFIGURATION]).stdin(Stdio::null()).stdout(Stdio::piped());
        // The blade runs in its directory, so that no path of this machine gets into a result.
        command.current_dir(directory.path());
        fanblade_measure::sys::tie(&mut command, cpus)?;
        let mut child = command.spawn().context("cannot start the blade")?;
        let stdout = child.stdout.take();
        let nowhere = SocketAddrV4::new([127, 0, 0, 1].into(), 0);
        // From here on, dropping the handle ends the process.
        let mode = mode.to_owned();
        let mut blade = Blade { child, data: nowhere, admin: nowhere, mode, subjects: None, configuration, directory };
        (blade.data, blade.admin) = addresses(BufReader::new(stdout.context("the blade has no standard output")?))?;
        Ok(blade)
    }

    pub(in crate::scenario) fn addr(&self) -> SocketAddrV4 {
        self.data
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// The program `fanblade` beside this one.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("fanblade");
    ensure!(program.is_file(), "there is no {}: `cargo xtask bench` builds it", program.display());
    Ok(program)
}

/// Lays a configuration over another, key by key.
pub(in crate::scenario) fn merge(table: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(there)), toml::Value::Table(over)) => merge(there, over),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

/// The blade's configuration: what the scenario wants, and what the measurement needs.
fn configuration(scenario: &Scenario) -> anyhow::Result<toml::Table> {
    // The newest message of every subject may fill half of a lane.
    let live = u64::from(scenario.subjects) * (u64::from(scenario.payload_bytes) + ENVELOPE_LEN_MAX);
    let lane = (2 * live).next_power_of_two().max(LANE_LEN_MIN);
    let updates = (2 * u64::from(scenario.subjects)).next_power_of_two().max(UPDATES_MIN);
    let usual = json!({
        "feed": {"source": "publisher", "publisher": {"listen": [], "unix": SOCKET, "state": ""}},
        "data": {"listen": scenario.listen().to_string()},
        "admin": {"listen": "127.0.0.1:0"},
        "ring": {"updates": updates, "json": lane, "binary": lane, "subjects_max": scenario.subjects.max(1_024)},
        "ebpf": {"enabled": false},
        // The blade's log lines would mix with ours.
        "log": {"level": "warn"},
    });
    let mut table = toml::Table::try_from(usual)?;
    merge(&mut table, &scenario.blade);
    Ok(table)
}

/// Reads where subscribers connect and where the admin port is, from what the blade prints at its start.
pub(crate) fn addresses(stdout: impl std::io::BufRead) -> anyhow::Result<(SocketAddrV4, SocketAddrV4)> {
    let (mut data, mut admin) = (None, None);
    for line in stdout.lines() {
        let line = line?;
        let after = |prefix: &str| -> Option<SocketAddrV4> {
            line.trim().strip_prefix(prefix)?.trim().split(['/', ' ']).nth(2)?.parse().ok()
        };
        data = data.or(after("subscribers"));
        admin = admin.or(after("live page"));
        if let (Some(data), Some(admin)) = (data, admin) {
            return Ok((data, admin));
        }
    }
    bail!("the blade has ended before it printed its addresses")
}

impl Server for Blade {
    fn manners(&self) -> Manners {
        match self.subjects {
            None => Manners::of_blade(self.data, &self.mode),
            Some(subjects) => Manners::of_blade_with_lists(self.data, &self.mode, subjects),
        }
    }

    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>> {
        Ok(Box::new(Feed::connect(&self.directory.path().join(SOCKET))?))
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.child.id()]
    }

    fn counters(&mut self) -> anyhow::Result<Value> {
        let mut stream =
            TcpStream::connect(SocketAddr::V4(self.admin)).context("cannot connect to the blade's admin port")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /v1/status HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("the admin port's answer is not HTTP")?;
        Ok(serde_json::from_str(body)?)
    }

    fn configuration(&self) -> Value {
        json!(self.configuration)
    }

    fn kill(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Blade {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A publisher, over the blade's Unix socket.
struct Feed {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl Feed {
    fn connect(path: &Path) -> anyhow::Result<Feed> {
        let mut stream = UnixStream::connect(path).context("cannot connect to the blade as a publisher")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut hello = Vec::new();
        Request::Hello(Hello { wants_acks: false, name: "bench", token: b"" }).write(&mut hello);
        stream.write_all(&hello)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).context("the blade sent no welcome to the publisher")?;
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let reply = Reply::parse(&frame)?;
        ensure!(matches!(reply, Reply::Welcome { .. }), "the blade refuses the publisher: {reply:?}");
        Ok(Feed { stream, pending: Vec::new() })
    }
}

impl Outlet for Feed {
    fn publish(&mut self, subject: u32, payload: &[u8]) -> anyhow::Result<()> {
        let subject = message::subject(subject);
        let record = Record { ts_ns: None, subject: &subject, value: publisher::Value::Json(payload) };
        Request::Record(record).write(&mut self.pending);
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.pending).context("cannot publish to the blade")?;
        self.pending.clear();
        // The blade sends no acknowledgements, so whatever it says is a complaint.
        self.stream.set_nonblocking(true)?;
        let mut complaint = [0; 512];
        let said = self.stream.read(&mut complaint);
        self.stream.set_nonblocking(false)?;
        match said {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Ok(len) => bail!("the blade complains: {}", String::from_utf8_lossy(&complaint[..len])),
            Err(error) => Err(error).context("cannot read the blade's replies to the publisher"),
        }
    }
}

const CONFIGURATION: &str = "blade.toml";
const SOCKET: &str = "publish.sock";
const PATIENCE: Duration = Duration::from_secs(60);
/// What the blade writes around the data: subject, numbers, time.
const ENVELOPE_LEN_MAX: u64 = 160;
const LANE_LEN_MIN: u64 = 64 << 20;
const UPDATES_MIN: u64 = 1 << 17;
