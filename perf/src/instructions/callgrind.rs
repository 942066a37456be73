//! Reading what callgrind writes.
//!
//! ```text
//! fn=caller            the function that the next lines belong to
//! 16 400               instructions of its own, by line of source
//! cfn=callee           a function that it calls
//! calls=50 12          how often
//! 16 1200              instructions within those calls, what they call included
//! ```
//! ("Callgrind Format Specification", valgrind manual. Names are written out: `--compress-strings=no`.)

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// A command that runs this program under callgrind; the caller adds its arguments.
pub(super) fn command(out: &Path) -> std::io::Result<Command> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?);
    Ok(valgrind)
}

/// Instructions of the whole program.
pub(super) fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

/// Calls of a function, and the instructions within them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) calls: u64,
    pub(super) instructions: u64,
}

/// The cost of each function that is called, by the last part of its name.
pub(super) fn costs(text: &str) -> HashMap<&str, Cost> {
    let mut costs: HashMap<&str, Cost> = HashMap::new();
    let mut callee = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = name.rsplit("::").next().unwrap_or(name);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let number = |field: Option<&str>| field.and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            let cost = costs.entry(callee).or_default();
            cost.calls += number(calls.split(' ').next());
            cost.instructions += number(lines.next().and_then(|line| line.split(' ').nth(1)));
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_add_up_over_callers_and_own_cost_does_not_count() {
        let text = "events: Ir\nfn=perf::play\n16 400\ncfi=/a/b.rs\ncfn=perf::day::message_a\ncalls=50 12\n16 1200\n+3 7\n\
                    cfn=perf::day::message_b\ncalls=1 3\n* 9\nfn=perf::other\ncfn=perf::day::message_a\ncalls=2 12\n-1 48\n";
        let costs = costs(text);
        assert_eq!(costs["message_a"], Cost { calls: 52, instructions: 1_248 });
        assert_eq!(costs["message_b"], Cost { calls: 1, instructions: 9 });
        assert_eq!(costs.len(), 2);
        assert_eq!((total("+1 3\n\ntotals: 1234\n"), total(text)), (Some(1_234), None));
    }
}
