//! `fanblade-swarm` as a child: the clients of a run.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};
use fanblade_swarm::EngineKind;
use fanblade_swarm::plan::Assignment;
use fanblade_swarm::xdp::cable;
use serde_json::Value;

use super::definition::{SEED, Scenario};
use super::message::{NUMBER, SEQUENCE, TIMESTAMP};
use super::server::Manners;

pub(crate) struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Lines<BufReader<ChildStdout>>,
}

impl Load {
    /// Starts the clients of a server with these manners: fills the command line of `fanblade-swarm`.
    pub(crate) fn start(scenario: &Scenario, manners: &Manners, cpus: &[usize], more: &[&str]) -> anyhow::Result<Load> {
        let program = std::env::current_exe()?.with_file_name("fanblade-swarm");
        ensure!(program.is_file(), "there is no {}: `cargo xtask bench` builds it", program.display());
        let mut command = Command::new(program);
        let assign = match scenario.assign {
            Assignment::Random => "random",
            Assignment::InTurn => "in-turn",
        };
        command
            .args(["--json", "--linger", "--url", &format!("ws://{}{}", manners.addr, manners.target)])
            .args(["--connections", &scenario.subscribers.to_string(), "--expect-preamble", &manners.preamble])
            .args(["--subjects", &scenario.subjects.to_string(), "--assign", assign, "--seed", &SEED.to_string()])
            .args(["--warmup", &scenario.warmup_s.to_string(), "--duration", &scenario.duration_s.to_string()])
            .args(["--timestamp", TIMESTAMP, "--sequence", SEQUENCE, "--patience", PATIENCE_S])
            .args(["--threads", &cpus.len().clamp(1, THREADS_MAX).to_string()])
            .args(manners.subscribe.iter().flat_map(|template| ["--subscribe", template.as_str()]))
            .args(more);
        if let Some(watchlists) = scenario.watchlists {
            command.args(["--subjects-per-client", &watchlists.subjects_per_session.to_string()]).args([
                "--exponent",
                &watchlists.exponent.to_string(),
                "--subject-number",
                NUMBER,
            ]);
            // Not every server lets its clients change their lists.
            if let Some([leave, take]) = &manners.change {
                let per_s = watchlists.changes_per_s * f64::from(scenario.subscribers);
                command.args(["--changes-per-s", &per_s.to_string(), "--leave", leave, "--take", take]);
            }
        }
        if scenario.engine == EngineKind::Xdp {
            command.args(["--engine", "xdp", "--interface", cable::CLIENT_END]);
        }
        let habits = scenario.habits();
        if habits.slow_per_mille + habits.stalled_per_mille > 0 {
            command
                .args(["--stalled-per-mille", &habits.stalled_per_mille.to_string()])
                .args(["--slow-per-mille", &habits.slow_per_mille.to_string()])
                .args(["--slow-bytes-per-s", &habits.slow_bytes_per_s.to_string()]);
        }
        if manners.is_binary {
            command.arg("--binary");
        }
        // Without whole messages in frames, the timestamp is a message's end.
        if manners.joins_messages {
            command.args(["--boundary", "timestamp"]);
        }
        if let Some(protocol) = &manners.protocol {
            command.args(["--protocol", protocol]);
        }
        if let Some(rate) = scenario.connect_rate {
            command.args(["--connect-rate", &rate.to_string()]);
        }
        if !cpus.is_empty() {
            let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
            command.args(["--cpus", &cpus.join(",")]);
        }
        fanblade_measure::sys::tie(&mut command, cpus)?;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start the swarm")?;
        let stdin = child.stdin.take();
        let events = BufReader::new(child.stdout.take().context("the swarm has no standard output")?).lines();
        Ok(Load { child, stdin, events })
    }

    /// Waits for the next event, which must be of this name.
    pub(crate) fn event(&mut self, name: &str) -> anyhow::Result<Value> {
        let line = self.events.next().with_context(|| format!("the swarm has ended before its event `{name}`"))??;
        let event: Value = serde_json::from_str(&line)?;
        ensure!(event["event"] == name, "the swarm printed {line} instead of its event `{name}`");
        Ok(event)
    }

    /// Lets the clients go, and waits until they have gone.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.stdin = None;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// More threads than this share more than they gain.
const THREADS_MAX: usize = 64;
/// Seconds that the opening of a million connections may take.
const PATIENCE_S: &str = "900";
