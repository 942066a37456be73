//! The names of all troubles upstream, so that each has a count from the start: an alert on an increase needs a zero to
//! start from.

use std::collections::BTreeMap;

use fanblade_feed::Trouble;

/// The count of each kind of trouble; 0 for a kind that has not happened.
#[must_use]
pub fn counts(happened: &[(&'static str, u64)]) -> BTreeMap<&'static str, u64> {
    let known = Trouble::KINDS.iter().chain(TOLD).map(|kind| (*kind, 0));
    known.chain(happened.iter().copied()).collect()
}

/// The troubles of this crate's own feeds: the feed of venues and the feed of publishers.
const TOLD: &[&str] = &[
    "accept",
    "bad_frame",
    "bad_hello",
    "bad_json",
    "bad_level",
    "bad_name",
    "bad_origin",
    "bad_record",
    "bad_subject",
    "bad_token",
    "bad_version",
    "book_snapshot",
    "book_too_long",
    "checksum",
    "cut_frame",
    "malformed",
    "malformed_book",
    "messages_missing",
    "no_hello",
    "not_reading",
    "refused",
    "ring_full",
    "ring_refused",
    "rule_silent",
    "sequence_restart",
    "state_not_written",
    "too_long",
    "too_many_channels",
    "too_many_errors",
    "too_many_publishers",
    "too_many_subjects",
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Every kind that the sources name is in the lists: a kind that is missing there has no count until it happens.
    #[test]
    fn every_kind_in_the_sources_is_known_from_the_start() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![];
        for folder in ["src", "../feed/src"] {
            sources(&root.join(folder), &mut files);
        }
        assert!(files.len() > 50, "{}", files.len());
        let known = counts(&[]);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let is_list = file.ends_with("feed/src/trouble.rs") || file.ends_with("venue/keeper.rs");
            let is_publisher = file.to_string_lossy().contains("upstream/src/publisher");
            let mut markers = vec![".trouble(", ".tell(", "Trouble { kind: ", "Told { kind: "];
            // Refusals count under their codes.
            markers.extend(is_publisher.then_some(["code: ", "refusal("]).into_iter().flatten());
            markers.extend(is_list.then_some("=> "));
            for marker in markers {
                for rest in text.split(marker).skip(1) {
                    let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
                    let kind = rest.split('"').next().unwrap();
                    if kind.contains(|letter: char| !letter.is_ascii_lowercase() && letter != '_') {
                        // This is a text for people, not a kind.
                        continue;
                    }
                    assert!(known.contains_key(kind), "{}: `{kind}` is in no list of troubles", file.display());
                }
            }
        }
    }

    fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }

    #[test]
    fn what_has_happened_counts_beside_what_has_not() {
        let counts = counts(&[("checksum", 3), ("brand_new", 1)]);
        assert_eq!((counts["checksum"], counts["brand_new"], counts["gave_up"]), (3, 1, 0));
    }
}
