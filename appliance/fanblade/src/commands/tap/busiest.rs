//! `fanblade tap`: the busiest subjects.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::crossterm::terminal;

use super::find::Tapped;
use super::meter::{Meter, Rates};
use super::shared::{ended, print_json};
use crate::terminal::{figures, out};

#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Table {
    /// Measure for one second, print the rates once, and exit
    #[arg(long)]
    once: bool,
    /// Print one JSON object a second
    #[arg(long)]
    json: bool,
    /// Show this many subjects [default: what fits the terminal, else 20]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

pub(super) fn main(args: &Table, mut tapped: Tapped) -> anyhow::Result<ExitCode> {
    let mut out = out::stdout();
    let is_live = io::stdout().is_terminal() && !args.json && !args.once;
    // Repeated tables in a file would be of no use.
    let is_once = args.once || !(is_live || args.json);
    let mut meter = Meter::new(&tapped.reader);
    loop {
        let due = Instant::now() + INTERVAL;
        let mut is_over = false;
        while Instant::now() < due && !is_over {
            std::thread::sleep(STEP);
            // Checked before the pass, so that the last frames of an ended blade are counted, too.
            is_over = tapped.life.is_over();
            meter.pass(&tapped.reader);
        }
        let size = if is_live { terminal::size().ok() } else { None };
        let rows = size.map_or(ROWS_USUAL, |(_, rows)| usize::from(rows).saturating_sub(ROWS_AROUND));
        let rates = meter.take(&tapped.reader, args.top.unwrap_or(rows));
        if args.json {
            print_json(&mut out, &rates)?;
        } else {
            let text = table(&rates, tapped.pid);
            let text =
                if is_live { on_screen(&text, size.map_or(usize::MAX, |(columns, _)| columns.into())) } else { text };
            out.write_all(text.as_bytes())?;
        }
        out.flush()?;
        if is_over {
            return Ok(ended(&tapped));
        }
        if is_once {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn table(rates: &Rates, pid: u32) -> String {
    let mut text = format!(
        "process {pid}, epoch {}: {} frames/s, {}/s of JSON, {} of {} subjects busy\n",
        rates.epoch,
        figures::count(rates.frames_per_s),
        figures::bytes(rates.bytes_per_s),
        rates.subjects_busy,
        rates.subjects,
    );
    if rates.overtaken > 0 {
        text += &format!("overtaken by the writer: {} entries of the ring are not counted here\n", rates.overtaken);
    }
    let width = rates.busiest.iter().map(|rate| rate.subject.len()).max().unwrap_or(0).max("subject".len());
    text +=
        &format!("\n{:<width$}  {:>9}  {:>12}  {:>14}  {:>9}\n", "subject", "frames/s", "JSON/s", "newest seq", "age");
    for rate in &rates.busiest {
        text += &format!(
            "{:<width$}  {:>9}  {:>12}  {:>14}  {:>9}\n",
            rate.subject,
            figures::count(rate.frames_per_s),
            figures::bytes(rate.bytes_per_s),
            rate.seq,
            figures::nanoseconds(rate.age_ns),
        );
    }
    if rates.busiest.is_empty() {
        text += "nothing was published\n";
    }
    text
}

/// Prints from the top left corner; each line is cut to the terminal's width, and the rest of it is cleared.
fn on_screen(text: &str, columns: usize) -> String {
    let mut screen = "\x1b[H".to_owned();
    for line in text.lines() {
        screen.extend(line.chars().take(columns));
        screen += "\x1b[K\r\n";
    }
    screen + "\x1b[J"
}

const INTERVAL: Duration = Duration::from_secs(1);
/// Interval between two passes over the index. At a million frames a second that is 5,000 entries, of 100,000 that a
/// usual ring holds.
const STEP: Duration = Duration::from_millis(5);
/// Lines for the heading and the cursor.
const ROWS_AROUND: usize = 5;
const ROWS_USUAL: usize = 20;
