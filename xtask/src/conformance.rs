//! `cargo xtask conformance`: the Autobahn cases, run by kosoku against an echo server on our engines.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::{child, repository};

/// Run the Autobahn WebSocket cases against the wire code, over each engine
///
/// Runs all 301 cases without compression (sections 1 to 7, 9 and 10) and judges the report itself: every case must be
/// OK with a clean close. Three are INFORMATIONAL in the suite, and two may be NON-STRICT, because a server may read
/// UTF-8 to the end of a frame before it judges (6.4.3, 6.4.4). Reports: target/conformance/ENGINE/index.html.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Test this engine only
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Run only cases that match, such as `9.*`; may be repeated. The number of cases is then not checked
    #[arg(long, value_name = "CASE")]
    case: Vec<String>,
    /// Build the echo server in release mode
    #[arg(long)]
    release: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Engine {
    Uring,
    Epoll,
}

impl Engine {
    pub(crate) const ALL: [Engine; 2] = [Engine::Uring, Engine::Epoll];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Uring => "uring",
            Engine::Epoll => "epoll",
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = repository::root()?;
    let kosoku = kosoku(&root).context("kosoku is not installed: run `cargo xtask setup`")?;
    let echo = build_echo(&root, args.release)?;
    let mut good = true;
    for engine in args.engine.map_or(Engine::ALL.to_vec(), |engine| vec![engine]) {
        let verdict = verdict(&root, &kosoku, &echo, engine, &args.case)?;
        println!("{verdict}");
        good &= verdict.is_good();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The suite's runner, if it is installed.
pub(crate) fn kosoku(root: &Path) -> Option<PathBuf> {
    Some(repository::venv(root).join("bin/kosoku")).filter(|kosoku| repository::is_executable(kosoku))
}

/// Builds the echo server.
pub(crate) fn build_echo(root: &Path, release: bool) -> anyhow::Result<PathBuf> {
    let mut build = repository::cargo(root);
    build.args(["build", "--package", "fanblade-perf", "--bin", "fanblade-echo"]);
    if release {
        build.arg("--release");
    }
    child::succeed(&mut build)?;
    let profile = if release { "release" } else { "debug" };
    Ok(repository::build_dir(root).join(profile).join("fanblade-echo"))
}

/// Runs the suite over one engine.
pub(crate) fn verdict(
    root: &Path,
    kosoku: &Path,
    echo: &Path,
    engine: Engine,
    cases: &[String],
) -> anyhow::Result<Verdict> {
    let (_server, address) = start_echo(echo, engine)?;
    let reports = repository::build_dir(root).join("conformance").join(engine.name());
    if reports.exists() {
        fs::remove_dir_all(&reports)?;
    }
    let mut suite = Command::new(kosoku);
    suite.args(["-p", CASES_AT_ONCE, "-x", "12.*", "-x", "13.*", "-o"]).arg(&reports);
    for case in cases {
        suite.args(["-i", case]);
    }
    // Its exit code counts NON-STRICT as success and does not show the number of cases: the report decides.
    child::watched(suite.arg(address), SUITE_TIME_MAX, |_, _| {})?;
    let index = reports.join("index.json");
    let report = fs::read_to_string(&index).with_context(|| format!("reading {}", index.display()))?;
    Verdict::of(engine, &report, cases.is_empty()).with_context(|| format!("reading {}", index.display()))
}

/// Starts the echo server on a port that the kernel chooses and the server prints.
fn start_echo(echo: &Path, engine: Engine) -> anyhow::Result<(child::Server, String)> {
    let mut command = Command::new(echo);
    command.args(["--engine", engine.name(), "--listen", "127.0.0.1:0"]);
    eprintln!("$ {}", child::line(&command));
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut server = child::Server(started.with_context(|| format!("starting {}", echo.display()))?);
    let mut output = BufReader::new(server.0.stdout.take().context("the echo server has no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let address = line.split_whitespace().find_map(|word| word.parse::<std::net::SocketAddr>().ok());
    let Some(address) = address else { bail!("the echo server did not print its address, but {line:?}") };
    // The rest of its output is read too, so that a full pipe never blocks it.
    thread::spawn(move || output.read_to_end(&mut Vec::new()));
    Ok((server, address.to_string()))
}

/// The report's results for one engine.
#[derive(Debug)]
pub(crate) struct Verdict {
    engine: &'static str,
    counts: BTreeMap<String, usize>,
    /// One line for each fault.
    faults: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    behavior: String,
    behavior_close: String,
}

impl Verdict {
    /// Reads kosoku's index.json: agent → case → outcome.
    fn of(engine: Engine, report: &str, is_whole_suite: bool) -> anyhow::Result<Verdict> {
        let agents: BTreeMap<String, BTreeMap<String, Case>> = serde_json::from_str(report)?;
        let cases: Vec<(String, Case)> = agents.into_values().flatten().collect();
        let mut verdict = Verdict { engine: engine.name(), counts: BTreeMap::new(), faults: Vec::new() };
        if is_whole_suite && cases.len() != CASES {
            verdict.faults.push(format!("{} cases ran instead of {CASES}", cases.len()));
        }
        if cases.is_empty() {
            verdict.faults.push("no case ran".to_owned());
        }
        for (id, case) in cases {
            let (behavior, close) = (case.behavior.as_str(), case.behavior_close.as_str());
            let is_good = match behavior {
                "OK" => close == "OK",
                "INFORMATIONAL" => INFORMATIONAL.contains(&id.as_str()) && matches!(close, "OK" | "INFORMATIONAL"),
                "NON-STRICT" => NON_STRICT.contains(&id.as_str()) && close == "OK",
                _ => false,
            };
            if !is_good {
                verdict.faults.push(format!("case {id}: {behavior}, close {close}"));
            }
            *verdict.counts.entry(case.behavior).or_default() += 1;
        }
        Ok(verdict)
    }

    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<String> = self.counts.iter().map(|(behavior, count)| format!("{count} {behavior}")).collect();
        let word = if self.is_good() { "conforms" } else { "DOES NOT CONFORM" };
        write!(f, "conformance, {}: {word}: {}", self.engine, counts.join(", "))?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// Cases of sections 1 to 7, 9 and 10 in Autobahn 25.10 and kosoku 0.1.0.
const CASES: usize = 301;

/// In these cases the suite only records what the server does; no answer is wrong.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

/// Invalid UTF-8 at the beginning of a frame whose end arrives late: a server may fail at the end of the frame.
const NON_STRICT: [&str; 2] = ["6.4.3", "6.4.4"];

const CASES_AT_ONCE: &str = "8";

/// The suite takes a few seconds; each case that the server does not answer takes 100 seconds.
const SUITE_TIME_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(cases: &str, is_whole_suite: bool) -> Vec<String> {
        Verdict::of(Engine::Epoll, &format!("{{\"echo\":{{{cases}}}}}"), is_whole_suite).unwrap().faults
    }

    fn case(id: &str, behavior: &str, close: &str) -> String {
        format!(
            "\"{id}\":{{\"behavior\":\"{behavior}\",\"behaviorClose\":\"{close}\",\"duration\":1,\"reportfile\":\"\"}}"
        )
    }

    #[test]
    fn a_whole_good_suite_conforms() {
        let mut cases: Vec<String> = (0..CASES - 2).map(|n| case(&format!("1.1.{n}"), "OK", "OK")).collect();
        cases.push(case("6.4.3", "NON-STRICT", "OK"));
        cases.push(case("7.1.6", "INFORMATIONAL", "INFORMATIONAL"));
        assert_eq!(faults(&cases.join(","), true), [""; 0]);
        assert_eq!(faults(&cases[1..].join(","), true), ["300 cases ran instead of 301"]);
    }

    #[test]
    fn each_way_to_fail_is_seen() {
        for (id, behavior, close) in [
            ("1.1.1", "FAILED", "OK"),
            ("1.1.1", "OK", "WRONG CODE"),
            ("1.1.1", "OK", "UNCLEAN"),
            ("6.4.1", "NON-STRICT", "OK"),
            ("5.1", "INFORMATIONAL", "OK"),
            ("5.1", "UNIMPLEMENTED", "OK"),
        ] {
            assert_eq!(faults(&case(id, behavior, close), false), [format!("case {id}: {behavior}, close {close}")]);
        }
        assert_eq!(faults("", false), ["no case ran"]);
        assert!(Verdict::of(Engine::Uring, "[]", true).is_err());
    }
}
