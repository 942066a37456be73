//! Files that begin in the middle of a day: their books are marked incomplete.

mod common;

use std::path::Path;

use common::exchange::file_messages;
use common::{expected_frames, real_data, simulated_file};
use fanblade_testkit::Blade;
use serde_json::Value;

/// Plays a file; returns all its frames and the log.
fn play(file: &Path) -> (Vec<String>, String) {
    let count = expected_frames(file).len().to_string();
    let blade = Blade::start(&["--workers", "1", "--wait-for", "1", "--feed", &format!("file:{}", file.display())]);
    let output = blade.subscribe(&["/NASDAQ/**", "--mode", "all", "--count", &count, "--for", "50"]);
    let text = String::from_utf8(output.stdout).unwrap();
    blade.until_logged("the feed has ended after");
    (text.lines().filter(|line| line.starts_with("{\"s\":")).map(str::to_owned).collect(), blade.log())
}

/// How many quotes and books are marked incomplete, and how many there are.
fn marks(frames: &[String]) -> (usize, usize) {
    let (mut marked, mut all) = (0, 0);
    for frame in frames {
        let value: Value = serde_json::from_str(frame).unwrap();
        let subject = value["s"].as_str().unwrap();
        let is_marked = value["d"]["incomplete"] == true;
        if subject.ends_with("/bbo") || subject.ends_with("/book") {
            (marked, all) = (marked + usize::from(is_marked), all + 1);
        } else {
            assert!(!is_marked, "{frame}");
        }
    }
    (marked, all)
}

const TOLD: &str = "message 1 is not the day's first: quotes and books are incomplete";

#[test]
fn a_file_that_begins_in_the_midst_of_a_day_marks_its_books() {
    let directory = tempfile::tempdir().unwrap();
    let whole = simulated_file(&directory, 4_000);
    let (frames, log) = play(&whole);
    let (marked, all) = marks(&frames);
    assert!(marked == 0 && all > 1_000 && !log.contains(TOLD), "{marked} of {all}");

    // The same file from the middle on; from after the message that opens the system; from the second message on; and
    // from the message that opens the system on.
    let messages = file_messages(&whole);
    let opens = messages.iter().position(|(_, bytes)| bytes[0] == b'S' && bytes.last() == Some(&b'S')).unwrap();
    for (first, is_incomplete) in [(3_000, true), (opens + 1, true), (1, false), (opens, false)] {
        let path = directory.path().join(format!("12302019.from{first}"));
        let framed = messages
            .iter()
            .skip(first)
            .flat_map(|(_, bytes)| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat());
        std::fs::write(&path, framed.collect::<Vec<u8>>()).unwrap();
        let (frames, log) = play(&path);
        let (marked, all) = marks(&frames);
        assert!(all > 100 && marked == if is_incomplete { all } else { 0 }, "{marked} of {all} from message {first}");
        assert!(log.contains(TOLD), "{log}");
        assert_eq!(frames, expected_frames(&path));
    }
}

#[test]
fn a_real_open_marks_its_books() {
    let Some(file) = real_data("12302019_open_1000msgs.NASDAQ_ITCH50") else { return };
    let (frames, log) = play(&file);
    let (marked, all) = marks(&frames);
    assert!(all > 100 && marked == all && log.contains(TOLD), "{marked} of {all}");
}
