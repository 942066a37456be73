//! What result files have in common.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

/// Today, as it stands in names of result files.
pub(crate) fn date() -> String {
    jiff::Zoned::now().strftime("%F").to_string()
}

/// Writes a report to `out`; `-` prints it, none means perf/results/NAME-DATE.json.
pub(crate) fn save(report: &Value, out: Option<&Path>, name: &str) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    let path = match out {
        Some(path) if path.as_os_str() == "-" => {
            print!("{text}");
            return Ok(());
        }
        Some(path) => path.to_owned(),
        None => PathBuf::from(format!("perf/results/{name}-{}.json", date())),
    };
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("written to {}", path.display());
    Ok(())
}

pub(crate) fn rounded(number: f64, digits: i32) -> Value {
    let factor = 10f64.powi(digits);
    let rounded = (number * factor).round() / factor;
    if digits == 0 { json!(rounded as u64) } else { json!(rounded) }
}
