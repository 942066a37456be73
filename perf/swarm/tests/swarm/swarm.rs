//! The swarm program as a child, and what it says.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{ChildStdout, Command, Stdio};

use fanblade_testkit::Child;
use serde_json::Value;

pub(crate) struct Swarm {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Swarm {
    /// The window is one second, after two tenths of a second of warm-up; `args` override that.
    pub(crate) fn start(url: &str, connections: usize, args: &[&str]) -> Swarm {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanblade-swarm"));
        command.args(["--json", "--url", url, "--connections", &connections.to_string(), "--warmup", "0.2"]);
        if !args.contains(&"--duration") {
            command.args(["--duration", "1"]);
        }
        let mut child = Child::spawn(command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Swarm { child, events }
    }

    /// Waits until all are subscribed, and returns the time from which messages count.
    pub(crate) fn window(&mut self) -> u64 {
        self.event("window")["from_ns"].as_u64().unwrap()
    }

    /// The report, and whether the swarm has no complaints.
    pub(crate) fn finish(mut self) -> (Value, bool) {
        let report = self.event("report");
        let is_ok = self.child.wait().unwrap().success();
        assert_eq!(is_ok, report["verdict"] == "ok", "{report}");
        (report, is_ok)
    }

    /// What the swarm says when it fails.
    pub(crate) fn fail(mut self) -> String {
        assert_eq!(self.events.by_ref().filter(|line| line.as_ref().unwrap().contains("report")).count(), 0);
        assert!(!self.child.wait().unwrap().success());
        self.said()
    }

    fn event(&mut self, name: &str) -> Value {
        for line in self.events.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["event"] == name {
                return event;
            }
        }
        panic!("no {name}: {}", self.said())
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

/// Whether io_uring is missing; prints it if so.
pub(crate) fn is_uring_missing() -> bool {
    if let Err(error) = fanblade_net::uring_probe() {
        println!("skipped: the swarm needs io_uring: {error}");
        return true;
    }
    false
}
