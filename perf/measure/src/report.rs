//! What result files have in common.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use fanblade_wire::float::whole;

/// Today's date, as in names of result files.
pub fn date() -> String {
    jiff::Zoned::now().strftime("%F").to_string()
}

/// Writes a report to `out`; `-` prints it, none means perf/results/NAME-DATE.json.
pub fn save(report: &Value, out: Option<&Path>, name: &str) -> anyhow::Result<()> {
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

/// A figure over several runs. The median of an even number of runs is the upper one, which was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// A value that was measured.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// None if there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Spread { median: *values.get(values.len() / 2)?, least: *values.first()?, most: *values.last()? })
    }

    /// `{median_name: …, "min": …, "max": …}`
    pub fn json(self, median_name: &str, digits: i32) -> Value {
        let Spread { median, least, most } = self;
        json!({median_name: rounded(median, digits), "min": rounded(least, digits), "max": rounded(most, digits)})
    }
}

/// A number for a result file, with this many decimal places. Without any it becomes an integer, which is not negative.
pub fn rounded(number: f64, digits: i32) -> Value {
    let factor = 10f64.powi(digits);
    let rounded = (number * factor).round() / factor;
    if digits == 0 { json!(whole(rounded)) } else { json!(rounded) }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn a_spread_is_of_what_was_measured() {
        let spread = |median, least, most| Some(Spread { median, least, most });
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]), spread(4.0, 1.0, 4.0));
        assert_eq!(Spread::of([]), None);
    }
}
