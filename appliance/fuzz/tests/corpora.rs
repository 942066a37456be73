//! Runs every input of the corpora through the fuzz targets: without a fuzzer, in a moment, on every machine.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fanblade_fuzz::{CANARY, CANARY_INPUT, TARGETS, Target};

/// Inputs stay small, because people read them and the repository keeps them for ever.
const INPUT_LEN_MAX: usize = 4 << 10;
const INPUTS_MIN: usize = 10;
const INPUTS_MAX: usize = 100;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = corpora().join(target.name);
    let files = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let files = files.map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn what_must_hold_of_all_inputs_holds_of_the_corpora() {
    let mut failed = Vec::new();
    for target in &TARGETS {
        let inputs = inputs(target);
        assert!((INPUTS_MIN..=INPUTS_MAX).contains(&inputs.len()), "{}: {} inputs", target.name, inputs.len());
        for (name, bytes) in inputs {
            assert!(bytes.len() <= INPUT_LEN_MAX, "{}/{name}: {} bytes", target.name, bytes.len());
            if catch_unwind(|| (target.run)(&bytes)).is_err() {
                failed.push(format!("{}/{name}", target.name));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn each_corpus_has_its_target() {
    let names = |target: &Target| target.name.to_owned();
    let targets: BTreeSet<String> = TARGETS.iter().chain([&CANARY]).map(names).collect();
    let directories = std::fs::read_dir(corpora()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    assert_eq!(directories.collect::<BTreeSet<String>>(), targets);
}

/// The cheapest fuzzer: no input that is cut or changed makes a target panic. It tries some places of each input, and
/// other places in each.
#[test]
fn what_must_hold_holds_of_what_is_cut_or_changed() {
    for target in &TARGETS {
        for (number, (name, bytes)) in inputs(target).into_iter().enumerate() {
            for at in (number % 7..bytes.len()).step_by(bytes.len() / 16 + 1) {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                for input in [&bytes[..at], &changed] {
                    let held = catch_unwind(|| (target.run)(input));
                    assert!(held.is_ok(), "{}/{name}, cut or changed at {at}: {input:?}", target.name);
                }
            }
        }
    }
}

#[test]
fn the_canary_fails_by_what_was_planted_and_by_nothing_in_its_corpus() {
    inputs(&CANARY).iter().for_each(|(_, bytes)| (CANARY.run)(bytes));
    assert!(catch_unwind(|| (CANARY.run)(CANARY_INPUT)).is_err());
}
