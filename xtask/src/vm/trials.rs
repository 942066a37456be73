//! What the image promises, each tried in a machine of its own.

mod bios;
mod boot;
mod configuration;
mod installer;
mod misfortune;
mod power;
mod reset;
mod serving;
mod time;
mod update;
mod verity;

use std::time::Instant;

use anyhow::ensure;

use super::machine::STALLED;
use crate::image::{Place, Scratch};

/// One trial. The text that it returns goes into the table.
struct Trial {
    name: &'static str,
    /// Belongs to `--quick`.
    is_quick: bool,
    run: fn(&Place, &Scratch) -> anyhow::Result<String>,
}

const TRIALS: [Trial; 10] = [
    Trial { name: "serving", is_quick: true, run: serving::run },
    Trial { name: "verity", is_quick: true, run: verity::run },
    Trial { name: "update", is_quick: false, run: update::run },
    Trial { name: "installer", is_quick: false, run: installer::run },
    Trial { name: "bios", is_quick: false, run: bios::run },
    Trial { name: "power", is_quick: false, run: power::run },
    Trial { name: "configuration", is_quick: false, run: configuration::run },
    Trial { name: "reset", is_quick: false, run: reset::run },
    Trial { name: "misfortune", is_quick: false, run: misfortune::run },
    Trial { name: "time", is_quick: false, run: time::run },
];

/// Runs trials, and prints a table. Returns how many passed, and a line for each that failed.
pub(super) fn run(place: &Place, names: &[String], is_quick: bool) -> anyhow::Result<(usize, Vec<String>)> {
    let known = TRIALS.map(|trial| trial.name).join(", ");
    for name in names {
        ensure!(TRIALS.iter().any(|trial| trial.name == name), "there is no trial {name:?}; there are {known}");
    }
    let is_chosen = |trial: &&Trial| {
        if names.is_empty() { trial.is_quick || !is_quick } else { names.iter().any(|name| name == trial.name) }
    };
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for trial in TRIALS.iter().filter(is_chosen) {
        eprintln!("{} …", trial.name);
        let started = Instant::now();
        let (word, text) = match attempt(trial, place) {
            Ok(text) => ("ok", text),
            Err(error) => {
                let text = format!("{error:#}");
                eprintln!("{}: {text}", trial.name);
                let first = text.lines().next().unwrap_or_default().to_owned();
                failed.push(format!("{}: {first}", trial.name));
                ("FAILED", first)
            }
        };
        let row = format!("{word:<7} {:<13} {:>6.1} s  {text}", trial.name, started.elapsed().as_secs_f64());
        eprintln!("{row}");
        rows.push(row);
    }
    let passed = rows.len() - failed.len();
    println!("{}{}\n{passed} ok, {} failed", place.summary()?, rows.join("\n"), failed.len());
    Ok((passed, failed))
}

/// Runs a trial, and again if it was the emulation that failed, not the image.
fn attempt(trial: &Trial, place: &Place) -> anyhow::Result<String> {
    let mut attempts = 1;
    loop {
        let scratch = place.scratch(trial.name)?;
        match (trial.run)(place, &scratch) {
            Err(error) if attempts < ATTEMPTS_MAX && format!("{error:#}").contains(STALLED) => {
                eprintln!("{}: {STALLED}: once more", trial.name);
                attempts += 1;
            }
            Ok(text) if attempts > 1 => return Ok(format!("{text} (attempt {attempts}: {STALLED} before)")),
            result => return result,
        }
    }
}

/// How often a trial begins if the emulation fails each time.
const ATTEMPTS_MAX: u32 = 3;
