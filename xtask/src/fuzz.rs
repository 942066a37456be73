//! `cargo xtask fuzz`: libFuzzer over the parsers of untrusted input, with a canary first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::{child, repository};

/// Fuzz the parsers of untrusted input: frames, requests, packets, files, records, the configuration
///
///   cargo xtask fuzz                         each target for a minute
///   cargo xtask fuzz pcap query --for 10m    these two for ten minutes each
///   cargo xtask fuzz --list                  the list of targets
///   cargo xtask fuzz pcap --input FILE       run one input again, such as one that failed
///
/// The canary runs first: a target with a planted fault. If the fuzzer does not find it, no other result counts.
/// Inputs that fail go to target/fuzz/found/. Inputs that reach new code go to target/fuzz/corpus/ and are used again;
/// `cargo test` runs those of appliance/fuzz/corpus/, too. Executions go to perf/results/fuzz-DATE.json. libFuzzer
/// needs a C++ compiler; apart from that, the toolchain of the build is enough.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Targets; without a name, all of them
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long to fuzz each target: 30s, 10m, 1h
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = time)]
    duration: Duration,
    /// Only run this input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// List the targets
    #[arg(long)]
    list: bool,
    /// The file of the results; `-`: standard output. Default: perf/results/fuzz-DATE.json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = repository::root()?;
    let known = targets(&root);
    if args.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    for name in &args.targets {
        ensure!(known.contains(name), "there is no target `{name}`; there are {}", known.join(", "));
    }
    let chosen = if args.targets.is_empty() { &known } else { &args.targets };
    // One input alone: no fuzzing, no canary, no results.
    if let Some(input) = &args.input {
        let [target] = &chosen[..] else {
            bail!("--input needs exactly one target: cargo xtask fuzz TARGET --input FILE")
        };
        let fuzzer = Fuzzer::build(&root)?;
        let input = input.canonicalize().with_context(|| input.display().to_string())?;
        child::succeed(fuzzer.command(target).arg(input))?;
        return Ok(ExitCode::SUCCESS);
    }
    let fuzzer = Fuzzer::build(&root)?;
    // Without a working fuzzer, finding nothing would mean nothing.
    let canary_s = fuzzer.canary()?;
    println!("canary: its fault was found after {canary_s:.1} s");
    let mut results = BTreeMap::new();
    let mut found = Vec::new();
    for target in chosen {
        let round = fuzzer.fuzz(target, args.duration)?;
        if let Some(input) = &round.found {
            found.push(format!("{target}: {input}"));
        }
        results.insert(target.clone(), round);
    }
    println!(
        "\n{:<14} {:>12} {:>7} {:>12} {:>9} {:>8}",
        "target", "executions", "s", "executions/s", "features", "inputs"
    );
    for (target, round) in &results {
        println!(
            "{target:<14} {:>12} {:>7} {:>12} {:>9} {:>8}",
            round.executions,
            round.seconds,
            round.per_s(),
            round.features,
            round.inputs
        );
    }
    // Results are written even if inputs have failed.
    write(&root, args, canary_s, &results)?;
    found.iter().for_each(|line| println!("FOUND {line}; again: cargo xtask fuzz TARGET --input FILE"));
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each target has a corpus directory of its name; a test compares the two lists.
fn targets(root: &Path) -> Vec<String> {
    let mut names = repository::list(root.join(CORPUS));
    names.retain(|name| name != CANARY);
    names
}

fn write(root: &Path, args: &Args, canary_s: f64, results: &BTreeMap<String, Round>) -> anyhow::Result<()> {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(root).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
    };
    let date = output("date", &["-u", "+%Y-%m-%d"]).context("cannot run `date`")?;
    let targets: BTreeMap<&String, Value> = results.iter().map(|(name, round)| (name, round.json())).collect();
    let result = json!({
        "measurement": "fuzz",
        "date": date,
        "command": format!("cargo xtask fuzz{}", env::args().skip(2).map(|arg| format!(" {arg}")).collect::<String>()),
        "commit": output("git", &["rev-parse", "--short", "HEAD"]),
        "kernel": output("uname", &["-r"]),
        "cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "canary_found_after_s": canary_s,
        "executions": results.values().map(|round| round.executions).sum::<u64>(),
        "targets": targets,
    });
    let text = serde_json::to_string_pretty(&result)? + "\n";
    match &args.out {
        Some(file) if file.as_os_str() == "-" => print!("{text}"),
        Some(file) => fs::write(file, text).with_context(|| file.display().to_string())?,
        None => {
            let file = root.join(format!("perf/results/fuzz-{date}.json"));
            fs::write(&file, text)?;
            println!("written: {}", file.display());
        }
    }
    Ok(())
}

/// One target, fuzzed for some time.
struct Round {
    executions: u64,
    seconds: u64,
    features: u64,
    /// Inputs in its corpus: the committed ones and those that fuzzing has added.
    inputs: u64,
    /// An input that failed.
    found: Option<String>,
}

impl Round {
    fn per_s(&self) -> u64 {
        self.executions / self.seconds.max(1)
    }

    fn json(&self) -> Value {
        json!({
            "executions": self.executions, "seconds": self.seconds, "executions_per_s": self.per_s(),
            "features": self.features, "inputs": self.inputs, "found": self.found,
        })
    }
}

/// The program that has libFuzzer linked in.
struct Fuzzer {
    program: PathBuf,
    root: PathBuf,
    directory: PathBuf,
}

impl Fuzzer {
    fn build(root: &Path) -> anyhow::Result<Fuzzer> {
        let has_compiler = ["c++", "g++", "clang++"].iter().any(|name| repository::find_program(name).is_some());
        ensure!(has_compiler, "libFuzzer needs a C++ compiler: apt-get install g++");
        let directory = repository::build_dir(root).join("fuzz");
        let host = host()?;
        let mut build = repository::cargo(root);
        build
            .args(["build", "--package", "fanblade-fuzz", "--features", "libfuzzer", "--profile", "fuzz"])
            // With --target, the flags do not apply to build scripts, which have no libFuzzer to call.
            .args(["--target", &host, "--target-dir"])
            .arg(&directory)
            .env("RUSTFLAGS", COVERAGE);
        child::succeed(&mut build)?;
        let program = directory.join(&host).join("fuzz/fanblade-fuzz");
        Ok(Fuzzer { program, root: root.to_owned(), directory })
    }

    /// The command that runs libFuzzer over a target.
    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("FANBLADE_FUZZ_TARGET", target).current_dir(&self.directory);
        command.args(LIMITS);
        command
    }

    /// Fuzzes the canary; returns the seconds until the planted fault was found.
    fn canary(&self) -> anyhow::Result<f64> {
        let scratch = tempfile::tempdir_in(&self.directory)?;
        let mut command = self.command(CANARY);
        // From an empty corpus and with a fixed seed, so that each run is the same.
        let prefix = format!("-artifact_prefix={}/", scratch.path().display());
        command.args(["-seed=1", &format!("-max_total_time={}", CANARY_MAX.as_secs()), &prefix]).arg(scratch.path());
        let started = std::time::Instant::now();
        let mut has_sung = false;
        let status =
            child::watched(&mut command, 2 * CANARY_MAX, |_, line| has_sung |= line.contains("the canary sings"))?;
        ensure!(
            !status.success() && has_sung,
            "the canary's planted fault was not found within {} s: fuzzing finds nothing here",
            CANARY_MAX.as_secs()
        );
        Ok(started.elapsed().as_secs_f64())
    }

    fn fuzz(&self, target: &str, duration: Duration) -> anyhow::Result<Round> {
        let learned = self.directory.join("corpus").join(target);
        let found = self.directory.join("found");
        fs::create_dir_all(&learned)?;
        fs::create_dir_all(&found)?;
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={}", duration.as_secs().max(1)))
            .arg(format!("-artifact_prefix={}/{target}-", found.display()))
            .arg(&learned)
            .arg(self.root.join(CORPUS).join(target));
        let mut round = Round { executions: 0, seconds: 0, features: 0, inputs: 0, found: None };
        let started = std::time::Instant::now();
        // libFuzzer itself ends and reports an input that takes too long; this limit is for a process that hangs.
        let status = child::watched(&mut command, duration * 2 + Duration::from_secs(120), |_, line| round.line(line))?;
        round.seconds = started.elapsed().as_secs().max(1);
        ensure!(status.success() || round.found.is_some(), "{target}: {}", child::ending(status));
        Ok(round)
    }
}

impl Round {
    /// Reads libFuzzer's output: `#8192 pulse cov: 301 ft: 1203 corp: 85/4Kb …`, statistics, and inputs that failed.
    fn line(&mut self, line: &str) {
        let number = |text: &str| text.trim().parse().ok();
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:").and_then(number) {
            self.executions = count;
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.found = Some(file.trim().to_owned());
        }
        if line.starts_with('#') {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
            let first = |word: &&str| word.split('/').next().and_then(number);
            self.executions = first(&words[0].trim_start_matches('#')).unwrap_or(self.executions);
            self.features = after("ft:").and_then(first).unwrap_or(self.features);
            self.inputs = after("corp:").and_then(first).unwrap_or(self.inputs);
        }
    }
}

/// The compiler's own name for this machine.
fn host() -> anyhow::Result<String> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("`rustc -vV` names no host")
}

/// `30s`, `10m`, `1h`; a number without a unit is in seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(format!("`{text}` is not a time; write 30s, 10m or 1h")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is not a time; write 30s, 10m or 1h"))?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| format!("`{text}` is too long"))
}

const CORPUS: &str = "appliance/fuzz/corpus";
const CANARY: &str = "canary";
/// How long the canary may take. It has been seen to take one second.
const CANARY_MAX: Duration = Duration::from_secs(60);
/// Coverage for libFuzzer by stable flags: counters at every edge, and the operands of comparisons.
const COVERAGE: &str = "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares";
/// Limits for one input: bytes, seconds, and MiB of the whole program.
const LIMITS: [&str; 5] =
    ["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-use_value_profile=1"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let mut round = Round { executions: 0, seconds: 2, features: 0, inputs: 0, found: None };
        round.line("#2097152\tpulse  cov: 301 ft: 1203 corp: 85/4096b lim: 4096 exec/s: 699050 rss: 71Mb");
        assert_eq!((round.executions, round.features, round.inputs, round.found.clone()), (2_097_152, 1_203, 85, None));
        round.line("stat::number_of_executed_units: 2500000");
        round.line("artifact_prefix='x/'; Test unit written to x/pcap-crash-1");
        assert_eq!((round.per_s(), round.found.as_deref()), (1_250_000, Some("x/pcap-crash-1")));
    }

    #[test]
    fn times_have_units() {
        assert_eq!(["30s", "10m", "1h", "5"].map(|text| time(text).unwrap().as_secs()), [30, 600, 3_600, 5]);
        assert!(["", "s", "1d", "-1s", "9999999999999999999h"].iter().all(|text| time(text).is_err()));
    }
}
