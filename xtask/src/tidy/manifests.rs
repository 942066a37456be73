//! Crates depend only in the direction of the data path; versions and lints stand once, in the workspace.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::finding::Finding;
use super::tree::Tree;

/// Which of our crates a crate may depend on (ARCHITECTURE: Layout). A new crate must be entered here.
const DIRECTION: &[(&str, &[&str])] = &[
    ("fanblade-abi", &[]),
    (TESTKIT, &[]),
    ("fanblade-wire", &[]),
    ("fanblade-feed", &["fanblade-net", "fanblade-wire"]),
    ("fanblade-market", &["fanblade-feed", "fanblade-ring"]),
    ("fanblade-ring", &["fanblade-wire"]),
    ("fanblade-net", &["fanblade-abi"]),
    ("fanblade-worker", &["fanblade-ring", "fanblade-net", "fanblade-wire"]),
    ("fanblade-steer", &["fanblade-abi"]),
    ("fanblade-ebpf", &["fanblade-abi"]),
    ("fanblade-lanes-ebpf", &["fanblade-abi"]),
    ("fanblade-swarm-abi", &[]),
    ("fanblade-swarm-ebpf", &["fanblade-abi", "fanblade-swarm-abi"]),
    ("fanblade-dial", &["fanblade-net"]),
    ("fanblade-upstream", &["fanblade-dial", "fanblade-feed", "fanblade-net", "fanblade-ring", "fanblade-wire"]),
    ("fanblade-client", &["fanblade-dial", "fanblade-feed"]),
    (
        "fanblade-blade",
        &[
            "fanblade-abi",
            "fanblade-feed",
            "fanblade-market",
            "fanblade-net",
            "fanblade-ring",
            "fanblade-sandbox",
            "fanblade-steer",
            "fanblade-wire",
            "fanblade-worker",
        ],
    ),
    (
        "fanblade-admin",
        &[
            "fanblade-abi",
            "fanblade-blade",
            "fanblade-feed",
            "fanblade-market",
            "fanblade-ring",
            "fanblade-sandbox",
            "fanblade-upstream",
            "fanblade-worker",
        ],
    ),
    ("fanblade-sandbox", &[]),
    ("fanblade-exchange", &["fanblade-feed", "fanblade-net", "fanblade-wire"]),
    (
        "fanblade",
        &[
            "fanblade-abi",
            "fanblade-wire",
            "fanblade-admin",
            "fanblade-blade",
            "fanblade-client",
            "fanblade-dial",
            "fanblade-exchange",
            "fanblade-upstream",
            "fanblade-feed",
            "fanblade-market",
            "fanblade-ring",
            "fanblade-net",
            "fanblade-worker",
            "fanblade-steer",
        ],
    ),
    // Nothing depends on it: packetdrill loads it.
    ("fanblade-drill", &["fanblade-abi", "fanblade-net"]),
    // Nothing depends on it.
    (
        "fanblade-fuzz",
        &["fanblade", "fanblade-feed", "fanblade-market", "fanblade-upstream", "fanblade-wire", "fanblade-worker"],
    ),
    ("fanblade-measure", &["fanblade-net", "fanblade-wire"]),
    (
        "fanblade-swarm",
        &[
            "fanblade-measure",
            "fanblade-net",
            "fanblade-swarm-abi",
            "fanblade-wire",
            // For its tests: a blade's data path.
            "fanblade-ring",
            "fanblade-worker",
        ],
    ),
    (
        "fanblade-perf",
        &[
            "fanblade-feed",
            "fanblade-market",
            "fanblade-measure",
            "fanblade-net",
            "fanblade-ring",
            "fanblade-sandbox",
            "fanblade-swarm",
            "fanblade-wire",
            "fanblade-worker",
        ],
    ),
    // `vm test` is a test itself.
    ("xtask", &["fanblade-testkit"]),
];

/// The crate that tests share: the tests of every crate may use it, but nothing that is shipped may.
const TESTKIT: &str = "fanblade-testkit";

/// The serving core: all crates that a blade is made of, except its command line.
const CORE: &[&str] = &[
    "fanblade-abi",
    "fanblade-admin",
    "fanblade-blade",
    "fanblade-dial",
    "fanblade-feed",
    "fanblade-market",
    "fanblade-net",
    "fanblade-ring",
    "fanblade-sandbox",
    "fanblade-steer",
    "fanblade-upstream",
    "fanblade-wire",
    "fanblade-worker",
];

/// Libraries for terminals and command lines.
const TERMINAL: &[&str] = &["clap", "crossterm", "ratatui", "vt100"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let manifests: Vec<(&str, &str)> = tree.texts(&["Cargo.toml"]).collect();
    let mut findings: Vec<Finding> = manifests.iter().flat_map(|(path, text)| check_manifest(path, text)).collect();
    findings.extend(check_core(CORE, &manifests));
    findings
}

/// Checks that the core links no terminal library, either directly or through another of our crates.
fn check_core(core: &[&str], manifests: &[(&str, &str)]) -> Vec<Finding> {
    let crates: BTreeMap<String, (&str, Vec<String>)> =
        manifests.iter().filter_map(|(path, text)| linked(text).map(|(name, to)| (name, (*path, to)))).collect();
    let mut findings = Vec::new();
    for name in core {
        let Some((path, _)) = crates.get(*name) else {
            findings.push(Finding::new(
                "xtask/src/tidy/manifests.rs",
                0,
                format!("{name} is not a crate of the workspace"),
            ));
            continue;
        };
        // The list grows while it is walked.
        let mut reached = vec![(*name).to_owned()];
        let mut at = 0;
        while let Some(of) = reached.get(at).cloned() {
            at += 1;
            for dependency in crates.get(&of).map_or(&[][..], |(_, dependencies)| dependencies) {
                if TERMINAL.contains(&dependency.as_str()) {
                    let message = format!("{name} is of the serving core: {of} must not bring {dependency} into it");
                    findings.push(Finding::new(path, 0, message));
                } else if !reached.contains(dependency) {
                    reached.push(dependency.clone());
                }
            }
        }
    }
    findings
}

/// A crate's name, and the names of the crates that it links.
fn linked(manifest: &str) -> Option<(String, Vec<String>)> {
    let manifest: Table = manifest.parse().ok()?;
    let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
    let linked = dependencies(&manifest).into_iter().filter(|(kind, _, _)| *kind == "dependencies");
    let original =
        |name: String, value: &Value| value.get("package").and_then(Value::as_str).map_or(name, str::to_owned);
    Some((name, linked.map(|(_, name, value)| original(name, &value)).collect()))
}

fn check_manifest(path: &str, text: &str) -> Vec<Finding> {
    let finding = |message: String| Finding::new(path, 0, message);
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![finding(format!("not TOML: {error}"))],
    };
    // The manifest of a workspace has no package.
    let Some(package) = manifest.get("package").and_then(Value::as_table) else { return Vec::new() };
    let name = package.get("name").and_then(Value::as_str).unwrap_or_default();
    let Some((_, allowed)) = DIRECTION.iter().find(|(crate_name, _)| *crate_name == name) else {
        return vec![finding(format!("{name} is not in the table of directions (xtask/src/tidy/manifests.rs)"))];
    };
    let mut findings = Vec::new();
    for (kind, dependency, value) in dependencies(&manifest) {
        let renamed = value.get("package").and_then(Value::as_str);
        let dependency = renamed.unwrap_or(&dependency);
        let is_ours = dependency.starts_with("fanblade") || dependency == "xtask";
        let is_for_tests = dependency == TESTKIT && kind == "dev-dependencies";
        if is_ours && !is_for_tests && !allowed.contains(&dependency) {
            findings.push(finding(format!("{name} must not depend on {dependency} ([{kind}])")));
        }
        let is_inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
        if !path.starts_with("ebpf/") && !is_inherited {
            findings.push(finding(format!("{dependency}: its version belongs in the workspace's Cargo.toml")));
        }
    }
    let inherits_lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
    if !path.starts_with("ebpf/") && inherits_lints != Some(true) {
        findings.push(finding("must take over the workspace's lints ([lints] workspace = true)".to_owned()));
    }
    findings
}

/// (kind, name, specification) of all dependencies, target-specific ones too.
fn dependencies(manifest: &Table) -> Vec<(&'static str, String, Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = [manifest].into_iter().chain(targets.into_iter().flat_map(|t| t.values()).filter_map(Value::as_table));
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let listed = table.get(kind).and_then(Value::as_table);
            for (name, value) in listed.into_iter().flatten() {
                found.push((kind, name.clone(), value.clone()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(manifest: &str) -> Vec<String> {
        check_manifest("x/Cargo.toml", manifest).into_iter().map(|finding| finding.message).collect()
    }

    const LINTS: &str = "\n[lints]\nworkspace = true\n";

    #[test]
    fn the_right_direction_passes() {
        let good = "[package]\nname = \"fanblade-ring\"\n[dependencies]\nfanblade-wire.workspace = true\n";
        assert_eq!(messages(&format!("{good}{LINTS}")), [""; 0]);
        assert_eq!(messages("[workspace]\nmembers = []\n"), [""; 0]);
    }

    #[test]
    fn the_wrong_direction_is_found_in_every_kind_of_dependency() {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(loom)'.dependencies"] {
            let bad = format!("[package]\nname = \"fanblade-wire\"\n[{kind}]\nfanblade.workspace = true\n{LINTS}");
            assert!(messages(&bad)[0].starts_with("fanblade-wire must not depend on fanblade "), "{kind}");
        }
        let renamed =
            "[package]\nname = \"fanblade-wire\"\n[dependencies]\nx = { package = \"fanblade\", workspace = true }\n";
        assert_eq!(messages(&format!("{renamed}{LINTS}")).len(), 1);
    }

    #[test]
    fn the_testkit_is_for_tests_alone() {
        let manifest = |kind: &str| {
            format!("[package]\nname = \"fanblade-wire\"\n[{kind}]\nfanblade-testkit.workspace = true\n{LINTS}")
        };
        assert_eq!(messages(&manifest("dev-dependencies")), [""; 0]);
        for kind in ["dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            let found = messages(&manifest(kind));
            assert!(found[0].starts_with("fanblade-wire must not depend on fanblade-testkit "), "{kind}: {found:?}");
        }
    }

    #[test]
    fn the_core_links_no_terminal_library_not_even_by_another_crate() {
        let manifest = |name: &str, more: &str| format!("[package]\nname = \"{name}\"\n{more}");
        let found = |ring: &str, wire: &str| {
            let (ring, wire) = (manifest("fanblade-ring", ring), manifest("fanblade-wire", wire));
            let findings = check_core(&["fanblade-ring"], &[("ring", &ring), ("wire", &wire)]);
            findings.into_iter().map(|finding| finding.message).collect::<Vec<_>>()
        };
        let needs = |what: &str| format!("[dependencies]\n{what}.workspace = true\n");
        assert_eq!(found(&needs("fanblade-wire"), &needs("serde")), [""; 0]);
        assert_eq!(found("[dev-dependencies]\nclap.workspace = true\n", &needs("clap")), [""; 0], "not linked");
        let told = "fanblade-ring is of the serving core: fanblade-ring must not bring clap into it";
        assert_eq!(found(&needs("clap"), ""), [told]);
        let renamed = "[target.'cfg(unix)'.dependencies]\nx = { package = \"clap\", workspace = true }\n";
        assert_eq!(found(renamed, ""), [told]);
        let told = "fanblade-ring is of the serving core: fanblade-wire must not bring ratatui into it";
        assert_eq!(found(&needs("fanblade-wire"), &needs("ratatui")), [told]);
        assert_eq!(check_core(&["fanblade-lost"], &[])[0].message, "fanblade-lost is not a crate of the workspace");
    }

    #[test]
    fn own_versions_lost_lints_and_unknown_crates_are_found() {
        let version = format!("[package]\nname = \"fanblade-wire\"\n[dependencies]\nhttparse = \"1\"\n{LINTS}");
        assert!(messages(&version)[0].contains("version belongs"));
        assert!(messages("[package]\nname = \"fanblade-wire\"\n")[0].contains("lints"));
        assert!(messages("[package]\nname = \"fanblade-new\"\n")[0].contains("not in the table"));
        assert!(messages("[package")[0].contains("not TOML"));
    }
}
