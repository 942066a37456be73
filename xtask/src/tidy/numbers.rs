//! README.md and docs/numbers.md: a measured number comes from a file under perf/results, and names that file.
//!
//! A hidden comment follows the number, with the file and the JSON pointer of the value, and a factor if the page uses
//! another unit: `5.3 µs<!-- floor.json /uring/one/cpu_ns * 0.001 -->`. The value, rounded to as many decimals as the
//! number shows, must equal the number. Every number with a unit of measurement needs a comment of this form; other
//! numbers may have one.

use serde_json::Value;

use super::finding::Finding;
use super::links::prose;
use super::tree::Tree;

const PATHS: [&str; 2] = ["README.md", "docs/numbers.md"];
const RESULTS: &str = "perf/results/";

/// Units: a number before one of these words claims to have been measured.
const UNITS: [&str; 8] = ["µs", "ns", "ms", "msg/s", "messages/s", "frames/s", "bytes per session", "B per session"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    PATHS.iter().flat_map(|path| check_page(tree, path)).collect()
}

fn check_page(tree: &Tree, path: &str) -> Vec<Finding> {
    let Some(text) = tree.file(path).and_then(|file| file.text()) else {
        return vec![Finding::new(path, 0, "is missing")];
    };
    let mut findings = Vec::new();
    for (line, content) in prose(text) {
        let mut rest = content;
        while let Some((before, after)) = rest.split_once("<!--") {
            let (comment, after) = after.split_once("-->").unwrap_or((after, ""));
            findings.extend(unsourced(before, true).map(|message| Finding::new(path, line, message)));
            if comment.trim().split(' ').next().is_some_and(|file| file.ends_with(".json"))
                && let Err(message) = compare(tree, before, comment.trim())
            {
                findings.push(Finding::new(path, line, message));
            }
            rest = after;
        }
        findings.extend(unsourced(rest, false).map(|message| Finding::new(path, line, message)));
    }
    findings
}

/// Compares the last number of `before` with the value that `comment` names.
fn compare(tree: &Tree, before: &str, comment: &str) -> Result<(), String> {
    let shown = last_number(before).ok_or_else(|| format!("no number before <!-- {comment} -->"))?;
    let mut words = comment.split_ascii_whitespace();
    let (file, pointer) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let factor = match (words.next(), words.next().map(str::parse::<f64>), words.next()) {
        (None, None, None) => 1.0,
        (Some("*"), Some(Ok(factor)), None) => factor,
        _ => return Err(format!("<!-- {comment} --> must be FILE POINTER, or FILE POINTER * FACTOR")),
    };
    let text = tree.file(&format!("{RESULTS}{file}")).and_then(|file| file.text());
    let text = text.ok_or_else(|| format!("there is no {RESULTS}{file}"))?;
    let results: Value = serde_json::from_str(text).map_err(|error| format!("{RESULTS}{file}: {error}"))?;
    let value = results.pointer(pointer).and_then(Value::as_f64);
    let value = value.ok_or_else(|| format!("{RESULTS}{file} has no number at {pointer}"))? * factor;
    let decimals = shown.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let (claimed, measured) = (shown.replace(',', ""), format!("{value:.decimals$}"));
    if claimed == measured { Ok(()) } else { Err(format!("{shown}, but {RESULTS}{file} {pointer} says {measured}")) }
}

/// Returns a complaint about the first number in `text` that has a unit but no source. The comment behind `text` may be
/// the source of its last number.
fn unsourced(text: &str, is_last_sourced: bool) -> Option<String> {
    let text = without_code(text);
    for unit in UNITS {
        for (at, _) in text.match_indices(unit) {
            let ends = text[at + unit.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric());
            let number = text[..at].trim_end();
            let is_number = number.ends_with(|c: char| c.is_ascii_digit());
            let is_sourced = is_last_sourced
                && last_number(&text) == last_number(number)
                && !text[at..].contains(|c: char| c.is_ascii_digit());
            if ends && is_number && !is_sourced {
                let number = last_number(number).unwrap_or_default();
                return Some(format!("{number} {unit}: from which result? (`<!-- FILE POINTER -->` behind it)"));
            }
        }
    }
    None
}

fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// `1,234.5` in "it takes 1,234.5 µs".
fn last_number(text: &str) -> Option<&str> {
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = text[..end]
        .rfind(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    Some(text[start..end].trim_start_matches(['.', ',']))
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree;
    use super::*;

    fn messages(readme: &str) -> Vec<String> {
        let results = "{\"uring\": {\"cpu_ns\": 5312.4, \"sessions\": 100000}, \"name\": \"x\"}";
        // Each page is checked in the same way.
        let [first, second] = PATHS.map(|path| {
            let other = PATHS.iter().find(|other| **other != path).unwrap();
            let tree = tree(&[(path, readme), (other, ""), ("perf/results/floor.json", results)]);
            check(&tree).into_iter().map(|finding| finding.message).collect::<Vec<_>>()
        });
        assert_eq!(first, second);
        first
    }

    #[test]
    fn numbers_that_agree_pass() {
        for good in [
            "| 5.3 µs<!-- floor.json /uring/cpu_ns * 0.001 --> | **5,312**<!-- floor.json /uring/cpu_ns --> ns |",
            "5.31<!-- floor.json /uring/cpu_ns * 0.001 --> of 100,000<!-- floor.json /uring/sessions --> sessions",
            "On 2 cores, port 9000, about 10 minutes; `5 ms` in code. <!-- a comment -->",
        ] {
            assert_eq!(messages(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn each_fault_is_found() {
        for (bad, message) in [
            ("5.4 µs<!-- floor.json /uring/cpu_ns * 0.001 -->", "5.4, but"),
            ("5.30<!-- floor.json /uring/cpu_ns * 0.001 -->", "says 5.31"),
            ("5.3<!-- gone.json /x -->", "there is no perf/results/gone.json"),
            ("5.3<!-- floor.json /none -->", "no number at /none"),
            ("5.3<!-- floor.json /name -->", "no number at /name"),
            ("5.3<!-- floor.json /uring/cpu_ns times 2 -->", "FILE POINTER"),
            ("fast<!-- floor.json /uring/cpu_ns -->", "no number before"),
            ("It takes 7 µs.", "7 µs: from which result?"),
            ("7 µs, then 5.3 µs<!-- floor.json /uring/cpu_ns * 0.001 -->", "7 µs: from which"),
            ("128 bytes per session", "from which result?"),
        ] {
            let found = messages(bad);
            assert!(found.len() == 1 && found[0].contains(message), "{bad}: {found:?}");
        }
        assert_eq!(check(&tree(&[])).len(), PATHS.len());
    }
}
