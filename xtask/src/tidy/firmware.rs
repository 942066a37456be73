//! firmware-config: the sysctl file holds what `fanblade doctor` checks, and each check explains itself.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::finding::Finding;
use super::tree::{File, Tree};

const CHECKS: &str = "firmware-config/checks.toml";
const SYSCTLS: &str = "firmware-config/sysctl.d/60-fanblade.conf";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let text = |path| tree.file(path).and_then(File::text);
    let (Some(checks), Some(sysctls)) = (text(CHECKS), text(SYSCTLS)) else {
        return vec![Finding::new(CHECKS, 0, format!("this or {SYSCTLS} is missing"))];
    };
    let checks: Table = match checks.parse() {
        Ok(checks) => checks,
        Err(error) => return vec![Finding::new(CHECKS, 0, format!("not TOML: {error}"))],
    };
    let mut faults = Vec::new();
    let mut wanted = BTreeMap::new();
    for entry in entries(&checks, "sysctl").chain(entries(&checks, "limit")) {
        faults.extend(incomplete(entry).map(|message| Finding::new(CHECKS, 0, message)));
    }
    for entry in entries(&checks, "sysctl") {
        let (name, value) = (string(entry, "name"), value(entry));
        let fix = string(entry, "fix").replace('\'', "");
        if fix != format!("sysctl -w {name}={value}") {
            faults.push(Finding::new(CHECKS, 0, format!("{name}: the fix must set {value}")));
        }
        let dash = if entry.get("optional").and_then(Value::as_bool) == Some(true) { "-" } else { "" };
        wanted.insert(format!("{dash}{name}"), value);
    }
    for (at, line) in sysctls.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.split_once(" = ").unwrap_or((line, ""));
        match wanted.remove(name) {
            Some(wanted) if wanted == value => {}
            Some(wanted) => faults.push(Finding::new(SYSCTLS, at + 1, format!("{name}: {CHECKS} says {wanted}"))),
            None => {
                faults.push(Finding::new(SYSCTLS, at + 1, format!("{name} is not in {CHECKS}, or is here twice")));
            }
        }
    }
    faults.extend(wanted.into_keys().map(|name| Finding::new(SYSCTLS, 0, format!("lacks {name}"))));
    faults
}

fn entries<'t>(checks: &'t Table, kind: &str) -> impl Iterator<Item = &'t Table> {
    checks.get(kind).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

fn string<'t>(entry: &'t Table, field: &str) -> &'t str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn incomplete(entry: &Table) -> Option<String> {
    let missing = ["name", "unit", "why", "cost", "fix"].into_iter().find(|field| string(entry, field).is_empty());
    let conditions = ["at_least", "equals"].iter().filter(|field| entry.contains_key(**field)).count();
    let name = string(entry, "name");
    match missing {
        Some(field) => Some(format!("{name}: no {field}")),
        None => (conditions != 1).then(|| format!("{name}: exactly one of at_least and equals")),
    }
}

/// The value as sysctl writes it.
fn value(entry: &Table) -> String {
    match entry.get("at_least").or_else(|| entry.get("equals")) {
        Some(Value::Array(values)) => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree;
    use super::*;

    const GOOD: &str = "[[sysctl]]\nname = \"a.b\"\nat_least = [1, 2]\noptional = true\nunit = \"u\"\nwhy = \"w\"\n\
                        cost = \"c\"\nfix = \"sysctl -w a.b='1 2'\"\n";

    fn messages(checks: &str, sysctls: &str) -> Vec<String> {
        check(&tree(&[(CHECKS, checks), (SYSCTLS, sysctls)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn files_that_agree_pass() {
        assert_eq!(messages(GOOD, "# comment\n\n-a.b = 1 2\n"), [""; 0]);
    }

    #[test]
    fn each_fault_is_found() {
        let found = |checks: &str, sysctls: &str| messages(checks, sysctls).join("\n");
        assert!(found(GOOD, "-a.b = 1 3\n").contains("says 1 2"));
        assert!(found(GOOD, "").contains("lacks -a.b"));
        assert!(found(GOOD, "-a.b = 1 2\nc.d = 1\n").contains("c.d is not in"));
        assert!(found(GOOD, "-a.b = 1 2\n-a.b = 1 2\n").contains("twice"));
        assert!(found(&GOOD.replace("='1 2'", "=1"), "-a.b = 1 2\n").contains("the fix must set 1 2"));
        assert!(found(&GOOD.replace("why = \"w\"\n", ""), "-a.b = 1 2\n").contains("no why"));
        assert!(found(&format!("{GOOD}equals = 1\n"), "-a.b = 1 2\n").contains("exactly one"));
        assert!(found("[", "").contains("not TOML"));
        assert_eq!(check(&tree(&[])).len(), 1);
    }
}
