//! `cargo xtask test`: everything that can be checked on this machine, and the names of what cannot.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::unistd::{Pid, Uid};

use crate::leftovers::{self, Before};
use crate::tally::Tally;
use crate::{child, conformance, repository, setup, tidy};

/// Check everything that can be checked on this machine, in order
///
///   setup         the venv with test peers; where CI is set and we are root, system packages too
///   format        cargo fmt --check
///   tidy          cargo xtask tidy
///   lint          cargo clippy, no warning allowed
///   tests         cargo test: units, end to end, and as root network namespaces and eBPF
///   loom          the ring's model, every interleaving
///   conformance   the Autobahn cases over both engines
///   docs          cargo doc, no warning allowed
///   leftovers     no process, namespace, interface, pin, temporary file or change in the checkout stays behind
///
/// Ends with a table of the steps, a line for each thing skipped, and `N passed, N failed, N skipped`: tests where a
/// step counts tests, else steps. Stops at the first step that fails.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Go on after a step that fails
    #[arg(long)]
    keep_going: bool,
    /// Only these steps (and leftovers); may be repeated
    #[arg(long, value_enum, value_name = "STEP")]
    only: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    Setup,
    Format,
    Tidy,
    Lint,
    Tests,
    Loom,
    Conformance,
    Docs,
    Leftovers,
}

impl Step {
    /// In the order of running: what is quick first, and what others build on.
    const ALL: [Step; 9] = [
        Step::Setup,
        Step::Format,
        Step::Tidy,
        Step::Lint,
        Step::Tests,
        Step::Loom,
        Step::Conformance,
        Step::Docs,
        Step::Leftovers,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::Setup => "setup",
            Step::Format => "format",
            Step::Tidy => "tidy",
            Step::Lint => "lint",
            Step::Tests => "tests",
            Step::Loom => "loom",
            Step::Conformance => "conformance",
            Step::Docs => "docs",
            Step::Leftovers => "leftovers",
        }
    }
}

/// What a step found.
#[derive(Default)]
struct Found {
    passed: usize,
    failed: usize,
    /// One line for each thing that was not checked, and why.
    skipped: Vec<String>,
    /// One line for each thing that is wrong. A step with none has passed.
    faults: Vec<String>,
}

impl Found {
    fn one(result: anyhow::Result<()>) -> Found {
        match result {
            Ok(()) => Found { passed: 1, ..Found::default() },
            Err(error) => Found { failed: 1, faults: vec![format!("{error:#}")], ..Found::default() },
        }
    }

    fn skipped(line: impl Into<String>) -> Found {
        Found { skipped: vec![line.into()], ..Found::default() }
    }

    fn faults(faults: Vec<String>) -> Found {
        match faults.len() {
            0 => Found { passed: 1, ..Found::default() },
            _ => Found { failed: 1, faults, ..Found::default() },
        }
    }

    fn tally(tally: Tally, result: anyhow::Result<()>) -> Found {
        let mut found = Found {
            passed: tally.passed,
            failed: tally.failed,
            skipped: tally.skipped.into_iter().collect(),
            faults: tally.failures.into_iter().map(|name| format!("test {name} failed")).collect(),
        };
        if let Err(error) = result {
            // A build that fails, or a test binary that dies, has no failed test to show for it.
            found.failed = found.failed.max(1);
            found.faults.push(format!("{error:#}"));
        }
        found
    }

    fn word(&self) -> &'static str {
        match (self.failed, self.passed) {
            (1.., _) => "FAILED",
            (0, 1..) => "passed",
            (0, 0) => "skipped",
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let run = Run { root: repository::root()?, temporary: PathBuf::new() };
    let before = Before::look(&run.root)?;
    let run = Run { temporary: before.temporary().to_owned(), ..run };
    let mut done: Vec<(Step, Found, Duration)> = Vec::new();
    let mut before = Some(before);
    for step in Step::ALL {
        let is_chosen = args.only.is_empty() || args.only.contains(&step);
        let has_failed = done.iter().any(|(_, found, _)| found.failed > 0);
        // Whatever happened before it, what is left behind is looked at and removed.
        if step != Step::Leftovers && (!is_chosen || has_failed && !args.keep_going) {
            continue;
        }
        println!("\n━━ {}", step.name());
        let started = Instant::now();
        let found = match step {
            Step::Leftovers => {
                let mut left = leftovers::processes(Pid::this(), leftovers::STOP_MAX);
                left.extend(before.take().map(Before::compare).into_iter().flatten());
                Found::faults(left)
            }
            step => run.step(step),
        };
        for fault in &found.faults {
            eprintln!("FAILED {}: {fault}", step.name());
        }
        done.push((step, found, started.elapsed()));
    }
    Ok(conclude(&done))
}

/// The table, the lines for what was skipped and what failed, and the closing line.
fn conclude(done: &[(Step, Found, Duration)]) -> ExitCode {
    println!("\n{:<12} {:>9}  {:<8} {:>7} {:>7} {:>8}", "step", "time", "result", "passed", "failed", "skipped");
    for (step, found, time) in done {
        let (passed, failed, skipped) = (found.passed, found.failed, found.skipped.len());
        let seconds = time.as_secs_f64();
        println!("{:<12} {seconds:>7.1} s  {:<8} {passed:>7} {failed:>7} {skipped:>8}", step.name(), found.word());
    }
    let seconds: f64 = done.iter().map(|(.., time)| time.as_secs_f64()).sum();
    println!("{:<12} {seconds:>7.1} s", "all");
    for (step, found, _) in done {
        for line in &found.skipped {
            println!("skipped in {}: {line}", step.name());
        }
    }
    for (step, found, _) in done {
        for line in &found.faults {
            println!("FAILED in {}: {line}", step.name());
        }
    }
    let sum = |count: fn(&Found) -> usize| done.iter().map(|(_, found, _)| count(found)).sum::<usize>();
    let (passed, failed, skipped) =
        (sum(|found| found.passed), sum(|found| found.failed), sum(|found| found.skipped.len()));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run, and where it works.
struct Run {
    root: PathBuf,
    temporary: PathBuf,
}

impl Run {
    fn step(&self, step: Step) -> Found {
        match step {
            Step::Setup => self.setup(),
            Step::Format => Found::one(self.cargo(&["fmt", "--all", "--check"], &[], BUILD_TIME_MAX)),
            Step::Tidy => tidy::findings().map_or_else(
                |error| Found::one(Err(error)),
                |findings| Found::faults(findings.iter().map(ToString::to_string).collect()),
            ),
            Step::Lint => Found::one(self.cargo(
                &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
                &[],
                BUILD_TIME_MAX,
            )),
            // The harness stops at the first test binary that fails unless told otherwise, and hides what passing tests print.
            Step::Tests => {
                self.tests(&["test", "--workspace", "--no-fail-fast", "--", "--show-output"], &[], TESTS_TIME_MAX)
            }
            Step::Loom => self.loom(),
            Step::Conformance => self.conformance(),
            Step::Docs => Found::one(self.cargo(
                &["doc", "--workspace", "--no-deps"],
                &[("RUSTDOCFLAGS", "-D warnings")],
                BUILD_TIME_MAX,
            )),
            Step::Leftovers => Found::default(),
        }
    }

    fn setup(&self) -> Found {
        // Packages of somebody's own machine are theirs to install: `cargo xtask setup`.
        let with_packages = Uid::effective().is_root() && env::var_os("CI").is_some();
        let skipped = setup::prepare(&self.root, with_packages);
        Found { passed: 1, skipped, ..Found::default() }
    }

    /// The model has its own build: RUSTFLAGS are part of every crate's identity.
    fn loom(&self) -> Found {
        let target = repository::build_dir(&self.root).join("loom");
        let target = target.to_string_lossy();
        self.tests(
            &["test", "--package", "fanblade-ring", "--release", "--target-dir", &target, "--", "--show-output"],
            &[("RUSTFLAGS", "--cfg loom")],
            TESTS_TIME_MAX,
        )
    }

    fn conformance(&self) -> Found {
        let Some(kosoku) = conformance::kosoku(&self.root) else {
            return Found::skipped("the Autobahn cases: kosoku is not installed (see setup)");
        };
        let echo = match conformance::build_echo(&self.root, false) {
            Ok(echo) => echo,
            Err(error) => return Found::one(Err(error)),
        };
        let mut found = Found::default();
        for engine in conformance::Engine::ALL {
            let verdict = conformance::verdict(&self.root, &kosoku, &echo, engine, &[]);
            let one = Found::one(verdict.and_then(|verdict| {
                println!("{verdict}");
                if verdict.is_good() { Ok(()) } else { bail!("{verdict}") }
            }));
            found.passed += one.passed;
            found.failed += one.failed;
            found.faults.extend(one.faults);
        }
        found
    }

    /// A cargo command that counts as one.
    fn cargo(&self, args: &[&str], env: &[(&str, &str)], time_max: Duration) -> anyhow::Result<()> {
        self.watched(args, env, time_max, |_, _| {})
    }

    /// A cargo command that runs tests, each of which counts.
    fn tests(&self, args: &[&str], env: &[(&str, &str)], time_max: Duration) -> Found {
        let mut tally = Tally::default();
        let mut result = self.watched(args, env, time_max, |stream, line| tally.line(stream, line));
        let tally = tally.finish();
        if result.is_ok() && tally.suites == 0 {
            result = Err(anyhow::anyhow!("no test reported a result"));
        }
        Found::tally(tally, result)
    }

    fn watched(
        &self,
        args: &[&str],
        env: &[(&str, &str)],
        time_max: Duration,
        watch: impl FnMut(child::Stream, &str),
    ) -> anyhow::Result<()> {
        let mut command = repository::cargo(&self.root);
        command.args(args).envs(env.iter().copied()).env("TMPDIR", &self.temporary);
        let status = child::watched(&mut command, time_max, watch)?;
        if !status.success() {
            bail!("`{}`: {}", child::line(&command), child::ending(status));
        }
        Ok(())
    }
}

/// A cold build on two slow cores, and some.
const BUILD_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// With the build of the tests.
const TESTS_TIME_MAX: Duration = Duration::from_secs(20 * 60);
