//! firmware-config/monitoring: the alert rules and the dashboard use only metrics and labels that a blade has.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use fanblade_testkit::Blade;
use serde_json::Value;

/// The families of metrics, each with its labels and the values that these have.
struct Families(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Families {
    /// Those of a blade with a simulated market, and of one with lines.
    fn of_blades() -> Families {
        let mut families = BTreeMap::<String, BTreeMap<String, BTreeSet<String>>>::new();
        for feed in ["sim", "moldudp64:239.255.7.1:27401@lo"] {
            let blade = Blade::start(&["--workers", "2", "--feed", feed]);
            // The sequencer reports its lines a moment after it has begun.
            blade.until("lines", |status| feed == "sim" || status["feed"]["lines"][0].is_object());
            for line in blade.get("/metrics").1.lines() {
                if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                    let names = match kind {
                        "histogram" => ["_bucket", "_sum", "_count"].map(|ending| format!("{name}{ending}")).to_vec(),
                        _ => vec![name.to_owned()],
                    };
                    for name in names {
                        families.entry(name).or_default();
                    }
                } else if !line.starts_with('#') {
                    let (series, _) = line.rsplit_once(' ').unwrap();
                    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                    let family = families.get_mut(name).unwrap_or_else(|| panic!("{name} has no type"));
                    for (label, value) in pairs(labels.trim_end_matches('}')) {
                        family.entry(label).or_default().insert(value);
                    }
                }
            }
        }
        // A line has this series once it has had a packet.
        let line = families["fanblade_feed_line_packets_total"].clone();
        assert!(line.contains_key("line"), "{line:?}");
        families.get_mut("fanblade_feed_line_silent_seconds").unwrap().extend(line);
        // Prometheus makes this one.
        families.insert("up".to_owned(), BTreeMap::new());
        Families(families)
    }

    /// What is wrong with an expression of PromQL, or a label in a text about its result.
    fn faults(&self, expr: &str, texts: &[&str]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut known: BTreeSet<&str> = ADDED_LABELS.into_iter().collect();
        let mut count = 0;
        for (name, rest) in words(expr) {
            if !(name == "up" || name.starts_with("fanblade_") || name.starts_with("process_")) {
                continue;
            }
            count += 1;
            let Some(labels) = self.0.get(name) else {
                faults.push(format!("there is no metric {name}"));
                continue;
            };
            known.extend(labels.keys().map(String::as_str));
            let Some(matchers) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else { continue };
            for (label, value) in pairs(matchers.0) {
                let label = label.trim_end_matches(['!', '~']);
                let is_exact =
                    !matchers.0.contains(&format!("{label}=~")) && !matchers.0.contains(&format!("{label}!"));
                match labels.get(label) {
                    _ if ADDED_LABELS.contains(&label) => {}
                    None => faults.push(format!("{name} has no label {label}")),
                    Some(values) if is_exact && !values.contains(&value) => {
                        faults.push(format!("{name} has no {label}=\"{value}\""));
                    }
                    Some(_) => {}
                }
            }
        }
        if count == 0 {
            faults.push("no metric of a blade".to_owned());
        }
        let grouped = expr.split("by (").skip(1).filter_map(|rest| rest.split_once(')'));
        let mut used: Vec<&str> = grouped.flat_map(|(labels, _)| labels.split(',').map(str::trim)).collect();
        for text in texts {
            let holes = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
            let names = holes.map(|(hole, _)| hole.trim());
            used.extend(
                names.filter(|hole| !hole.starts_with("$value")).map(|hole| hole.trim_start_matches("$labels.")),
            );
        }
        faults.extend(used.into_iter().filter(|label| !known.contains(label)).map(|label| format!("no label {label}")));
        faults
    }
}

/// Labels that Prometheus adds when it scrapes.
const ADDED_LABELS: [&str; 2] = ["job", "instance"];

/// The names in an expression that are not within quotes, each with what follows it.
fn words(expr: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut starts = Vec::new();
    let (mut is_quoted, mut before) = (false, ' ');
    for (at, char) in expr.char_indices() {
        is_quoted ^= char == '"';
        if !is_quoted && is_part(char) && !is_part(before) {
            starts.push(at);
        }
        before = char;
    }
    starts.into_iter().map(move |start| {
        let end = expr[start..].find(|char| !is_part(char)).map_or(expr.len(), |len| start + len);
        (&expr[start..end], &expr[end..])
    })
}

/// Names and quoted values: `a="b",c=~"d"`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = text.split('"').collect();
    let pair = |pair: &[&str]| {
        let label = pair[0].trim_matches([',', ' ', '=', '~', '!']);
        (label.to_owned(), pair[1].to_owned())
    };
    parts.chunks_exact(2).map(pair).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../firmware-config/monitoring")
}

/// The value of `key: value` in a line, without quotes.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ")?;
    Some(value.trim_matches('"'))
}

#[test]
fn rules_and_dashboard_use_what_a_blade_has() {
    let families = Families::of_blades();
    assert!(families.0.len() > 90, "{}", families.0.len());

    let rules = std::fs::read_to_string(folder().join("fanblade.rules.yml")).unwrap();
    let mut names = BTreeSet::new();
    for rule in rules.split("      - alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        assert!(names.insert(name), "{name} twice");
        let get = |key| rule.lines().find_map(|line| value(line, key)).unwrap_or_else(|| panic!("{name} has no {key}"));
        let (expr, severity) = (get("expr"), get("severity"));
        let texts = [get("summary"), get("description")];
        assert!(["page", "ticket", "note"].contains(&severity), "{name}: {severity}");
        assert!(texts.iter().all(|text| text.len() > 20), "{name} says too little");
        assert_eq!(families.faults(expr, &texts), Vec::<String>::new(), "{name}: {expr}");
    }
    assert!(names.len() > 25, "{names:?}");

    let dashboard = std::fs::read_to_string(folder().join("fanblade-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut ids = BTreeSet::new();
    let mut targets = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            targets += 1;
            let (expr, legend) = (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            assert_eq!(families.faults(expr, &[legend]), Vec::<String>::new(), "{title}: {expr}");
            assert!(expr.contains("$instance"), "{title} does not go by the chosen blade: {expr}");
        }
    }
    assert!(targets > 40, "{targets}");
    for query in ["/annotations/list/0/expr", "/templating/list/1/definition"] {
        let expr = dashboard.pointer(query).unwrap().as_str().unwrap();
        assert_eq!(families.faults(expr, &[]), Vec::<String>::new(), "{expr}");
    }

    // The check itself finds what is wrong.
    for (expr, text, fault) in [
        ("fanblade_log_last_total > 0", "", "there is no metric fanblade_log_last_total"),
        ("fanblade_feed_state{sate=\"stale\"} == 1", "", "fanblade_feed_state has no label sate"),
        ("fanblade_feed_state{state=\"old\"} == 1", "", "fanblade_feed_state has no state=\"old\""),
        ("sum by (thread) (fanblade_worker_sessions)", "", "no label thread"),
        ("fanblade_ready == 0", "{{ $labels.worker }}", "no label worker"),
        ("vector(1)", "", "no metric of a blade"),
    ] {
        assert_eq!(families.faults(expr, &[text]), [fault], "{expr}");
    }
}

#[test]
fn promtool_takes_the_rules_and_they_fire_when_they_should() {
    for args in [["check", "rules", "fanblade.rules.yml"], ["test", "rules", "fanblade.rules.test.yml"]] {
        let Ok(output) = Command::new("promtool").args(args).current_dir(folder()).output() else {
            println!("skipped: no promtool on this machine");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
    }
}
