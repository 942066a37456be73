//! Targets for text from people and their programs: requests, addresses, records, the configuration.

use fanblade_feed::publisher::{Frames, Request};
use fanblade_upstream::publisher::json;
use serde_json::Value;

use crate::streams::{cut, pieces};

/// A request of a subscriber: an accepted one must be JSON, and a refusal must be JSON, too.
pub(crate) fn requests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match fanblade_worker::fuzzing::request(text) {
        Ok(()) => {
            let value: Value = serde_json::from_str(text).expect("what was taken is JSON");
            let op = value["op"].as_str().expect("with an `op`");
            assert!(["subscribe", "unsubscribe", "list", "ping"].contains(&op), "{op}");
        }
        Err(reply) => is_refusal(&reply),
    }
}

/// The query of an address.
pub(crate) fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(Err(reply)) = fanblade_worker::fuzzing::query(text) {
        is_refusal(&reply);
    }
}

fn is_refusal(reply: &str) {
    let value: Value = serde_json::from_str(reply).expect("a refusal is JSON");
    assert_eq!(value["op"], "error");
    assert!(value["code"].is_string() && value["message"].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
}

/// A publisher's frames, cut anywhere; and its text messages.
pub(crate) fn publisher(input: &[u8]) {
    let (lengths, bytes) = cut(input);
    let mut frames = Frames::new(LEN_MAX);
    'all: for piece in pieces(bytes, lengths) {
        frames.space()[..piece.len()].copy_from_slice(piece);
        frames.note_filled(piece.len());
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => request(frame),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.len as usize > LEN_MAX && !error.to_string().is_empty());
                    break 'all;
                }
            }
        }
    }
    // The same bytes as one frame, without a length field, which the fuzzer would have to guess.
    request(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        match records(text) {
            Ok(_) => drop(serde_json::from_str::<Value>(text).expect("what was taken is JSON")),
            Err(told) => assert!(!told.is_empty()),
        }
    }
}

/// Splits a publisher's text message into records, and each record into its fields.
fn records(text: &str) -> Result<usize, String> {
    let mut records = 0;
    for (offset, element) in json::elements(text).map_err(|fault| fault.to_string())? {
        let entry = json::entry(element, offset).map_err(|fault| fault.to_string())?;
        entry.ts_ns().map_err(|error| error.to_string())?;
        if let Some(value) = entry.d {
            json::check(value.get().as_bytes(), &mut String::new()).map_err(|fault| fault.to_string())?;
        }
        records += 1;
    }
    Ok(records)
}

fn request(frame: &[u8]) {
    match Request::parse(frame) {
        Ok(request) => {
            let mut written = Vec::new();
            request.write(&mut written);
            let again = Request::parse(&written[4..]).expect("what was read is written so that it can be read");
            assert_eq!(format!("{again:?}"), format!("{request:?}"));
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

/// A configuration file.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(told) = fanblade::fuzzing::config(text) {
        assert!(told.contains("fuzzed.toml"), "it says where: {told}");
    }
}

const LEN_MAX: usize = 1_024;
