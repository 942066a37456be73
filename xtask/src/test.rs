//! `cargo xtask test`: checks everything that can be checked on this machine, and names what cannot.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, Uid};

use crate::leftovers::{self, Before};
use crate::tally::Tally;
use crate::{child, conformance, deny, ebpf, image, repository, setup, tidy, vm};

/// Check everything that can be checked on this machine, in order
///
///   setup         the venv with test peers; where CI is set and we are root, system packages too
///   format        cargo fmt --check
///   tidy          cargo xtask tidy
///   lint          cargo clippy, no warning allowed
///   docs          cargo doc, no warning allowed
///   deny          cargo deny: licences, sources and advisories of dependencies, where it is installed
///   ebpf          ebpf/prebuilt is what ebpf/ makes, where the BPF toolchain is installed
///   tests         cargo test: units, end to end, and as root network namespaces and eBPF
///   loom          the ring's model, every interleaving
///   conformance   the Autobahn cases over both engines
///   vm            the appliance image in QEMU (cargo xtask vm test --quick), where one has been built
///   leftovers     no process, namespace, interface, pin, mount, temporary file or change in the checkout stays
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
    Docs,
    Deny,
    Ebpf,
    Tests,
    Loom,
    Conformance,
    Vm,
}

impl Step {
    /// In the order of running: quick steps first, and steps that others need.
    const ALL: [Step; 11] = [
        Step::Setup,
        Step::Format,
        Step::Tidy,
        Step::Lint,
        Step::Docs,
        Step::Deny,
        Step::Ebpf,
        Step::Tests,
        Step::Loom,
        Step::Conformance,
        Step::Vm,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::Setup => "setup",
            Step::Format => "format",
            Step::Tidy => "tidy",
            Step::Lint => "lint",
            Step::Docs => "docs",
            Step::Deny => "deny",
            Step::Ebpf => "ebpf",
            Step::Tests => "tests",
            Step::Loom => "loom",
            Step::Conformance => "conformance",
            Step::Vm => "vm",
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
            skipped: tally.skipped.into_iter().map(|(name, reason)| format!("{name}: {reason}")).collect(),
            faults: tally.failures.into_iter().map(|name| format!("test {name} failed")).collect(),
        };
        if let Err(error) = result {
            // A build that fails, or a test binary that dies, reports no failed test: count one.
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
    let root = repository::root()?;
    let before = Before::look(&root)?;
    let run = Run { root, temporary: before.temporary().to_owned() };
    let mut done: Vec<Done> = Vec::new();
    for step in Step::ALL {
        let is_chosen = args.only.is_empty() || args.only.contains(&step);
        let has_failed = done.iter().any(|done| done.found.failed > 0);
        if is_chosen && (!has_failed || args.keep_going) {
            done.push(Done::after(step.name(), || run.step(step)));
        }
    }
    // Leftovers are looked for and removed even after a failed step.
    done.push(Done::after("leftovers", || {
        let mut left = leftovers::processes(Pid::this(), leftovers::STOP_MAX);
        left.extend(before.compare());
        Found::faults(left)
    }));
    print!("{}", conclusion(&done));
    Ok(if done.iter().all(|done| done.found.failed == 0) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A step that has been run.
struct Done {
    name: &'static str,
    found: Found,
    time: Duration,
}

impl Done {
    fn after(name: &'static str, step: impl FnOnce() -> Found) -> Done {
        println!("\n━━ {name}");
        let started = Instant::now();
        let found = step();
        for fault in &found.faults {
            eprintln!("FAILED {name}: {fault}");
        }
        Done { name, found, time: started.elapsed() }
    }
}

/// The table, the lines for what was skipped and what failed, and the closing line.
fn conclusion(done: &[Done]) -> String {
    let row = |name: &str, time: Duration, word: &str, [passed, failed, skipped]: [usize; 3]| {
        let seconds = time.as_secs_f64();
        format!("{name:<12} {seconds:>7.1} s  {word:<8} {passed:>7} {failed:>7} {skipped:>8}\n")
    };
    let mut text =
        format!("\n{:<12} {:>9}  {:<8} {:>7} {:>7} {:>8}\n", "step", "time", "result", "passed", "failed", "skipped");
    let mut sums = [0; 3];
    for Done { name, found, time } in done {
        let counts = [found.passed, found.failed, found.skipped.len()];
        text += &row(name, *time, found.word(), counts);
        sums = std::array::from_fn(|at| sums[at] + counts[at]);
    }
    text += &row("all", done.iter().map(|done| done.time).sum(), "", sums);
    let lines = |word: &str, of: fn(&Found) -> &[String]| -> String {
        let mut text = String::new();
        for Done { name, found, .. } in done {
            let lines = of(found);
            text.extend(lines.iter().take(LINES_MAX).map(|line| format!("{word} in {name}: {line}\n")));
            if lines.len() > LINES_MAX {
                text += &format!("{word} in {name}: and {} more, see above\n", lines.len() - LINES_MAX);
            }
        }
        text
    };
    text += &lines("skipped", |found| &found.skipped);
    text += &lines("FAILED", |found| &found.faults);
    let [passed, failed, skipped] = sums;
    text + &format!("{passed} passed, {failed} failed, {skipped} skipped\n")
}

/// One run, and the paths that it uses.
struct Run {
    root: PathBuf,
    temporary: PathBuf,
}

impl Run {
    fn step(&self, step: Step) -> Found {
        match step {
            Step::Setup => self.setup(),
            Step::Format => Found::one(self.format()),
            Step::Tidy => tidy::findings().map_or_else(
                |error| Found::one(Err(error)),
                |findings| Found::faults(findings.iter().map(ToString::to_string).collect()),
            ),
            Step::Lint => Found::one(self.cargo(
                &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
                &[],
                BUILD_TIME_MAX,
            )),
            Step::Docs => Found::one(self.cargo(
                &["doc", "--workspace", "--no-deps"],
                &[("RUSTDOCFLAGS", "-D warnings")],
                BUILD_TIME_MAX,
            )),
            Step::Deny => {
                let report = deny::check(&self.root);
                Found {
                    passed: report.passed,
                    failed: report.faults.len(),
                    skipped: report.skipped,
                    faults: report.faults,
                }
            }
            Step::Ebpf => match ebpf::build(true) {
                Ok(ebpf::Outcome::Built | ebpf::Outcome::Unchanged) => Found::one(Ok(())),
                Ok(ebpf::Outcome::Differs(difference)) => Found::faults(vec![format!("ebpf/prebuilt: {difference}")]),
                // The first line says what is missing; `setup` prints the other lines, too.
                Ok(ebpf::Outcome::Skipped(reason)) => {
                    let reason = reason.lines().next().unwrap_or_default();
                    Found::skipped(format!("comparison of ebpf/prebuilt: {reason}"))
                }
                Err(error) => Found::one(Err(error)),
            },
            // By default cargo stops at the first test binary that fails, and the harness hides the output of passing
            // tests, which names the skipped ones.
            Step::Tests => {
                self.tests(&["test", "--workspace", "--no-fail-fast", "--", "--show-output"], &[], TESTS_TIME_MAX)
            }
            Step::Loom => self.loom(),
            Step::Conformance => self.conformance(),
            Step::Vm => Run::vm(),
        }
    }

    fn setup(&self) -> Found {
        // On a developer's own machine only `cargo xtask setup`, run on purpose, installs system packages.
        let with_packages = Uid::effective().is_root() && env::var_os("CI").is_some();
        let skipped = setup::prepare(&self.root, with_packages);
        Found { passed: 1, skipped, ..Found::default() }
    }

    fn format(&self) -> anyhow::Result<()> {
        self.cargo(&["fmt", "--all", "--check"], &[], BUILD_TIME_MAX)?;
        // ebpf/ is a workspace of its own.
        self.cargo(&["fmt", "--manifest-path", "ebpf/Cargo.toml", "--all", "--check"], &[], BUILD_TIME_MAX)
    }

    /// The model has its own target directory: a change of RUSTFLAGS rebuilds every crate.
    fn loom(&self) -> Found {
        let target = repository::build_dir(&self.root).join("loom");
        let target = target.to_string_lossy();
        self.tests(
            &["test", "--package", "fanblade-ring", "--release", "--target-dir", &target, "--lib", "loom_"],
            // Half of these tests panic on purpose.
            &[("RUSTFLAGS", "--cfg loom"), ("RUST_BACKTRACE", "0")],
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

    /// Building an image from nothing takes longer than all other steps: whoever has built one has it tested.
    fn vm() -> Found {
        if let Some(reason) = image::none_because() {
            return Found::skipped(format!("the appliance image: {reason}"));
        }
        match image::run(&image::Args::default()).and_then(|_| vm::quick()) {
            Ok((passed, faults)) => Found { passed, failed: faults.len(), faults, ..Found::default() },
            Err(error) => Found::one(Err(error)),
        }
    }

    /// Runs a cargo command that counts as one step.
    fn cargo(&self, args: &[&str], env: &[(&str, &str)], time_max: Duration) -> anyhow::Result<()> {
        self.watched(args, env, time_max, |_, _| {})
    }

    /// Runs a cargo command that runs tests, and counts each test.
    fn tests(&self, args: &[&str], env: &[(&str, &str)], time_max: Duration) -> Found {
        // A plain user's soft limit is often 1,024; tests hold thousands of connections.
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        {
            eprintln!("warning: RLIMIT_NOFILE stays at {soft} of {hard}: {error}");
        }
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
        if let Some(python) = setup::python_with_peers(&self.root) {
            command.env("FANBLADE_PYTHON", python);
        }
        let status = child::watched(&mut command, time_max, watch)?;
        if !status.success() {
            bail!("`{}`: {}", child::line(&command), child::ending(status));
        }
        Ok(())
    }
}

/// How many lines of one kind the conclusion repeats for each step.
const LINES_MAX: usize = 40;

/// For a cold build on two slow cores, with a margin.
const BUILD_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// Includes the build of the tests.
const TESTS_TIME_MAX: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn conclusion_of(found: Vec<Found>) -> String {
        conclusion(
            &found.into_iter().map(|found| Done { name: "step", found, time: Duration::ZERO }).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_last_line_sums_up_and_what_was_skipped_has_its_line() {
        let mut tally = Tally::default();
        tally.passed = 7;
        tally.skipped.insert("spread".to_owned(), "not root".to_owned());
        let text =
            conclusion_of(vec![Found::one(Ok(())), Found::tally(tally, Ok(())), Found::skipped("cases: no kosoku")]);
        assert!(text.contains("skipped in step: spread: not root\nskipped in step: cases: no kosoku\n"), "{text}");
        assert!(text.ends_with("\n8 passed, 0 failed, 2 skipped\n"), "{text}");
    }

    #[test]
    fn every_failure_is_counted_and_named() {
        let mut failed = Tally::default();
        failed.failed = 2;
        failed.failures = ["a".to_owned(), "b".to_owned()].into();
        let died = || Err(anyhow::anyhow!("killed by signal 9"));
        let text = conclusion_of(vec![
            Found::tally(failed, died()),
            Found::tally(Tally::default(), died()),
            Found::faults(vec!["process 7: sleep".to_owned()]),
        ]);
        for line in ["test a failed", "test b failed", "killed by signal 9", "process 7: sleep"] {
            assert!(text.contains(&format!("FAILED in step: {line}\n")), "{text}");
        }
        assert!(text.ends_with("\n0 passed, 4 failed, 0 skipped\n"), "{text}");
    }
}
