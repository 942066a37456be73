//! The result files under perf/results/.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// A result, and its file's name.
pub(super) struct ResultFile {
    pub(super) file: String,
    pub(super) result: Value,
}

impl ResultFile {
    pub(super) fn text(&self, name: &str) -> &str {
        self.result[name].as_str().unwrap_or_default()
    }

    pub(super) fn number(&self, pointer: &str) -> Option<f64> {
        self.result.pointer(pointer)?.as_f64()
    }
}

/// The newest result for each scenario, server and number of subscribers, sorted in that order.
pub(super) fn load(directory: &Path) -> anyhow::Result<Vec<ResultFile>> {
    let mut results = read(directory, "scenario")?;
    let key = |it: &ResultFile| {
        let subscribers = it.result["subscribers"].as_u64();
        (it.text("scenario").to_owned(), subscribers, it.text("server").to_owned())
    };
    results.sort_by_cached_key(|it| (key(it), it.text("date").to_owned(), it.file.clone()));
    results.reverse();
    results.dedup_by_key(|it| key(it));
    results.reverse();
    Ok(results)
}

/// All results of a measurement.
pub(super) fn read(directory: &Path, measurement: &str) -> anyhow::Result<Vec<ResultFile>> {
    let mut results: Vec<ResultFile> = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let result: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        if result["measurement"] == measurement {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            results.push(ResultFile { file, result });
        }
    }
    Ok(results)
}
