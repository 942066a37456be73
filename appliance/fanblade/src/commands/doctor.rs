//! `fanblade doctor`: what this machine lacks for serving well, what that costs, and the command that fixes it.

mod appliance;
mod clock;
mod features;
mod finding;
mod kernel_limits;
mod tuning;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::tune::Host;
use crate::terminal::out;
use finding::{Finding, State};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Exit with code 1 for a warning too, not only for a missing feature
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// The blade's configuration, which names the feed's interfaces [default on the appliance: its own]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let mut findings = features::findings();
    findings.extend(kernel_limits::findings()?);
    let host = Host::here();
    let own = Some(Path::new(super::appliance::CONFIG)).filter(|_| appliance::is_here(&host));
    findings.extend(tuning::findings(&host, args.config.as_deref().or(own)));
    findings.push(clock::finding(&host));
    findings.extend(appliance::findings(&host));
    let worst = findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok);
    if args.json {
        out::say(serde_json::to_string_pretty(&findings)?)?;
    } else {
        out::print(Table(&findings))?;
    }
    let failed = worst == State::Missing || (args.strict && worst == State::Warn);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Table<'a>(&'a [Finding]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for Finding { state, check, found, wanted, cost, fix } in self.0 {
            let word = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Missing => "missing",
            };
            write!(f, "{word:<8} {check:<width$}  {found}")?;
            if !wanted.is_empty() && *state != State::Ok {
                write!(f, "; wanted: {wanted}")?;
            }
            writeln!(f)?;
            for (name, text) in [("costs", cost), ("fix", fix)] {
                if !text.is_empty() {
                    writeln!(f, "{:<8} {:<width$}  {name}: {text}", "", "")?;
                }
            }
        }
        let count = |state| self.0.iter().filter(|finding| finding.state == state).count();
        let (ok, warn, missing) = (count(State::Ok), count(State::Warn), count(State::Missing));
        writeln!(f, "\n{ok} ok, {warn} warn, {missing} missing")
    }
}
