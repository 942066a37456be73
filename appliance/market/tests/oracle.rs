//! Trades and final quotes against an independent decoder: PyPI's itchfeed, run by the Python that FANBLADE_PYTHON
//! names.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, MIDNIGHT_UNIX_NS, binary_file, synthetic};
use fanblade_market::Market;
use fanblade_testkit::data;
use serde_json::{Value, json};

#[test]
fn agrees_on_a_real_open() {
    let (Some(python), Some(path)) = (python(), data::real("itch50/12302019_open_1000msgs.NASDAQ_ITCH50")) else {
        return;
    };
    // The orders that trade in it were all added before.
    assert_eq!(compare(&python, &path), 6);
}

#[test]
fn agrees_on_a_synthetic_day() {
    let Some(python) = python() else { return };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("synthetic.itch");
    std::fs::write(&path, synthetic(7, 20, 500, 20_000)).expect("writable");
    assert!(compare(&python, &path) > 1000);
    std::fs::remove_file(&path).expect("written above");
}

/// Number of trades, all of which agreed, as did all quotes.
fn compare(python: &Path, path: &Path) -> usize {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/decode.py");
    let output = Command::new(python).arg("-B").arg(script).arg(path).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (expected_trades, expected_quotes): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.get("px").is_some());

    let bytes = std::fs::read(path).expect("readable");
    let mut bench = Bench::of(Market::new("X", MIDNIGHT_UNIX_NS));
    let mut trades = Vec::new();
    let mut quotes = BTreeMap::new();
    for message in binary_file(&bytes) {
        for update in bench.apply(message) {
            let (_, rest) = update.subject.split_at("/X/".len());
            let (symbol, channel) = rest.split_once('/').expect("a channel");
            let mut data = update.data;
            data["symbol"] = symbol.into();
            match channel {
                "trade" => trades.push(data),
                "bbo" => drop(quotes.insert(symbol.to_owned(), data)),
                _ => {}
            }
        }
    }
    for (index, (trade, expected)) in trades.iter().zip(&expected_trades).enumerate() {
        assert_eq!(trade, expected, "trade {index}");
    }
    assert_eq!(trades.len(), expected_trades.len());
    let expected_quotes: BTreeMap<String, Value> =
        expected_quotes.into_iter().map(|line| (line["symbol"].as_str().expect("a symbol").to_owned(), line)).collect();
    for (symbol, expected) in &expected_quotes {
        assert_eq!(quotes.get(symbol), Some(expected));
    }
    assert_eq!(quotes.len(), expected_quotes.len());
    // The last image published is the book's present state.
    for instrument in bench.market.instruments() {
        let side = |level: Option<fanblade_market::Level>| level.map(|it| json!([it.price, it.shares, it.orders]));
        let bbo = instrument.bbo();
        if let Some(quote) = quotes.get(instrument.symbol()) {
            assert_eq!((&quote["bid"], &quote["ask"]), (&json!(side(bbo.bid)), &json!(side(bbo.ask))));
        }
    }
    trades.len()
}

fn python() -> Option<PathBuf> {
    let Some(python) = std::env::var_os("FANBLADE_PYTHON").map(PathBuf::from) else {
        println!("skipped: FANBLADE_PYTHON names no Python that has itchfeed");
        return None;
    };
    let probe = Command::new(&python).args(["-B", "-c", "import itch.parser"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    println!("skipped: {} cannot import itchfeed", python.display());
    None
}
