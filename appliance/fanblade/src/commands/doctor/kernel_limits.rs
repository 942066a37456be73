//! Sysctls and resource limits, compared with firmware-config/checks.toml, which is compiled in and gives the reasons.

use anyhow::Context as _;
use serde::Deserialize;

use super::finding::{Finding, State};

/// The file's format; the comment at its top describes the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checks {
    sysctl: Vec<Check>,
    limit: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    name: String,
    at_least: Option<Numbers>,
    equals: Option<u64>,
    #[serde(default)]
    optional: bool,
    unit: String,
    #[serde(rename = "why")]
    _why: String,
    cost: String,
    fix: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(u64),
    Several(Vec<u64>),
}

pub(super) fn findings() -> anyhow::Result<Vec<Finding>> {
    let checks: Checks = toml::from_str(CHECKS).context("firmware-config/checks.toml")?;
    let sysctls = checks.sysctl.iter().filter_map(|check| judge(check, sysctl(&check.name)));
    let limits = checks.limit.iter().filter_map(|check| judge(check, limit(&check.name)));
    Ok(sysctls.chain(limits).collect())
}

/// None: the setting is absent, and that is better.
fn judge(check: &Check, found: Option<String>) -> Option<Finding> {
    let Check { name, unit, cost, fix, .. } = check;
    let wanted = match (&check.at_least, check.equals) {
        (Some(Numbers::One(least)), _) => format!("at least {least} {unit}"),
        (Some(Numbers::Several(least)), _) => format!("at least {} {unit}", join(least)),
        (None, equals) => format!("{} ({unit})", equals.unwrap_or_default()),
    };
    let Some(found) = found else {
        let absent = || Finding::not_ok(State::Warn, name, "not readable here", wanted, cost, fix);
        return (!check.optional).then(absent);
    };
    let numbers: Vec<u64> = found.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let is_enough = match (&check.at_least, check.equals) {
        (Some(Numbers::One(least)), _) => numbers.first().is_some_and(|number| number >= least),
        (Some(Numbers::Several(least)), _) => {
            numbers.len() == least.len() && numbers.iter().zip(least).all(|(number, least)| number >= least)
        }
        (None, equals) => numbers.first().copied() == equals,
    };
    let shown = found.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(if is_enough {
        Finding::ok(name, shown)
    } else {
        Finding::not_ok(State::Warn, name, shown, wanted, cost, fix)
    })
}

fn sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()
}

fn limit(name: &str) -> Option<String> {
    let resource = match name {
        "RLIMIT_NOFILE" => nix::sys::resource::Resource::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => nix::sys::resource::Resource::RLIMIT_MEMLOCK,
        _ => return None,
    };
    nix::sys::resource::getrlimit(resource).ok().map(|(soft, _hard)| soft.to_string())
}

fn join(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

const CHECKS: &str = include_str!("../../../../../firmware-config/checks.toml");

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Check {
        toml::from_str(&format!("name = \"a.b\"\nunit = \"u\"\nwhy = \"w\"\ncost = \"c\"\nfix = \"f\"\n{text}"))
            .unwrap()
    }

    #[test]
    fn values_are_judged_place_by_place() {
        let state = |text: &str, found: &str| judge(&check(text), Some(found.to_owned())).unwrap().state;
        assert_eq!(state("at_least = 10", "10\n"), State::Ok);
        assert_eq!(state("at_least = 10", "9"), State::Warn);
        assert_eq!(state("at_least = [1, 2, 3]", "1\t2\t3\n"), State::Ok);
        assert_eq!(state("at_least = [1, 2, 3]", "9\t1\t9\n"), State::Warn);
        assert_eq!(state("at_least = [1, 2, 3]", "9 9"), State::Warn);
        assert_eq!(state("equals = 0", "1"), State::Warn);
        assert_eq!(state("equals = 0", "garbage"), State::Warn);
        assert!(judge(&check("equals = 0\noptional = true"), None).is_none());
        assert_eq!(judge(&check("equals = 0"), None).unwrap().state, State::Warn);
    }

    #[test]
    fn the_compiled_in_checks_read() {
        assert!(findings().unwrap().len() > 5);
        let limits: Checks = toml::from_str(CHECKS).unwrap();
        assert!(limits.limit.iter().all(|check| limit(&check.name).is_some()), "a limit that doctor cannot read");
    }
}
