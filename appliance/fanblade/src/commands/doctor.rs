//! `fanblade doctor`: what this machine lacks for serving well, what that costs, and the command that mends it.

mod features;
mod kernel_limits;

use std::fmt;
use std::process::ExitCode;

use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Exit with 1 at warnings too, not only when a feature is missing
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// The blade serves, less well.
    Warn,
    /// A feature cannot be used.
    Missing,
}

/// One line of the table.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Finding {
    pub(crate) state: State,
    pub(crate) check: String,
    pub(crate) found: String,
    pub(crate) wanted: String,
    /// What goes wrong, and the command against it; empty when all is well.
    pub(crate) cost: String,
    pub(crate) fix: String,
}

impl Finding {
    pub(crate) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        let (cost, fix) = (String::new(), String::new());
        Finding { state: State::Ok, check: check.into(), found: found.into(), wanted: String::new(), cost, fix }
    }

    pub(crate) fn not_ok(
        state: State,
        check: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        cost: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding {
            state,
            check: check.into(),
            found: found.into(),
            wanted: wanted.into(),
            cost: cost.into(),
            fix: fix.into(),
        }
    }
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let mut findings = features::findings();
    findings.extend(kernel_limits::findings()?);
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
            for (name, text) in [("costs", cost), ("mend", fix)] {
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
