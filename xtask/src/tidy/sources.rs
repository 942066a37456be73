//! Checks of source files: a module doc first, lines and files of readable length, nothing unfinished, no paths of the
//! machine that built them.

use super::exceptions::Exceptions;
use super::finding::Finding;
use super::tree::{File, Tree};

const CODE: [&str; 6] = [".rs", ".js", ".css", ".html", ".sh", ".py"];

pub(super) fn check(tree: &Tree, exceptions: &Exceptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(&[".rs"]) {
        findings.extend(module_doc(path, text));
        findings.extend(width(path, text));
        findings.extend(module_style(path));
    }
    for (path, text) in tree.texts(&CODE) {
        findings.extend(length(path, text, exceptions));
    }
    if let Some(lines) = tree.file("README.md").and_then(File::text).map(|text| text.lines().count())
        && lines > README_LINES_MAX
    {
        let message = format!("{lines} lines: what does not fit {README_LINES_MAX} belongs in docs/");
        findings.push(Finding::new("README.md", 0, message));
    }
    for exception in &exceptions.long {
        let is_long =
            tree.file(&exception.file).and_then(File::text).is_some_and(|text| text.lines().count() > LINES_MAX);
        if !is_long {
            let message = format!("{} has no more than {LINES_MAX} lines", exception.file);
            findings.push(Finding::new(Exceptions::PATH, 0, message));
        }
    }
    for file in &tree.files {
        findings.extend(unfinished(file));
        findings.extend(machine_path(file));
    }
    findings
}

fn module_doc(path: &str, text: &str) -> Option<Finding> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
    let has_doc = first.is_some_and(|line| line.starts_with("//! ") && line.len() > 6);
    (!has_doc).then(|| Finding::new(path, 1, "must begin with a module doc (`//! …`)"))
}

/// A module's file has the module's name, except in `tests/`: there, cargo would take `tests/NAME.rs` for a test.
fn module_style(path: &str) -> Option<Finding> {
    let folder = path.strip_suffix("/mod.rs")?;
    let is_shared_by_tests = folder.rsplit('/').nth(1) == Some("tests");
    (!is_shared_by_tests).then(|| Finding::new(path, 0, format!("call it {folder}.rs (one style of modules)")))
}

/// Checks the width of comments only: rustfmt breaks code, and strings may be wide. Tables, drawings and lines with a
/// web address are exempt.
fn width(path: &str, text: &str) -> Vec<Finding> {
    let is_wide = |line: &str| {
        let is_prose =
            line.trim_start().starts_with("//") && !["://", "│", " | "].iter().any(|sign| line.contains(sign));
        is_prose && line.chars().count() > COLUMNS_MAX
    };
    let wide = text.lines().enumerate().filter(|(_, line)| is_wide(line));
    wide.map(|(at, _)| Finding::new(path, at + 1, format!("a comment wider than {COLUMNS_MAX} columns"))).collect()
}

fn length(path: &str, text: &str, exceptions: &Exceptions) -> Option<Finding> {
    let lines = text.lines().count();
    let is_excepted = exceptions.long.iter().any(|exception| exception.file == path);
    (lines > LINES_MAX && !is_excepted).then(|| {
        let message =
            format!("{lines} lines: split it by role, or give {} a reason (at most {LINES_MAX})", Exceptions::PATH);
        Finding::new(path, 0, message)
    })
}

fn unfinished(file: &File) -> Vec<Finding> {
    let Some(text) = file.text() else { return Vec::new() };
    let is_noted = |line: &str| UNFINISHED.iter().any(|word| super::code::has_word(line, word));
    let lines = text.lines().enumerate().filter(|(_, line)| is_noted(line));
    lines.map(|(at, _)| Finding::new(&file.path, at + 1, "a note of unfinished work: do it, or file it")).collect()
}

/// Searches binary files too: debug information often holds the directories of the machine that built them.
fn machine_path(file: &File) -> Option<Finding> {
    let places = if file.text().is_some() { &MACHINE_PATHS[..3] } else { &MACHINE_PATHS[..] };
    let place = places.iter().find_map(|place| {
        let at = file.bytes.windows(place.len()).position(|window| window == place.as_bytes())?;
        Some((place, at))
    });
    place.map(|(place, at)| {
        let line = file.bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Finding::new(&file.path, line, format!("a path of the machine that it was made on ({place}…)"))
    })
}

const LINES_MAX: usize = 700;

/// The line limit of README.md, which a newcomer reads before the first try.
const README_LINES_MAX: usize = 150;
const COLUMNS_MAX: usize = 120;

/// The words are split, so that the check does not find them in this file.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// The last one is a fault in binary files only; a text may mention it.
const MACHINE_PATHS: [&str; 4] = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), "/tmp/"];

#[cfg(test)]
mod tests {
    use super::super::exceptions::Exception;
    use super::super::tree::tree;
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&tree(&[(path, text)]), &Exceptions::default()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_passes() {
        assert_eq!(messages("a.rs", "#![no_std]\n//! A doc.\n\nfn f() {}\n"), [""; 0]);
    }

    #[test]
    fn a_missing_module_doc_is_found() {
        for text in ["use x;\n", "", "// Doc.\n", "/// Doc.\n", "//!\n", "use x;\n//! Late.\n"] {
            assert!(messages("a.rs", text)[0].contains("module doc"), "{text:?}");
        }
    }

    #[test]
    fn modules_are_files_of_their_name_but_for_what_tests_share() {
        for (path, count) in [
            ("a/src/b/mod.rs", 1),
            ("a/tests/common/mod.rs", 0),
            ("a/tests/common/b/mod.rs", 1),
            ("a/src/tests/mod.rs", 1),
            ("a/src/mod.rs", 1),
            ("a/src/b.rs", 0),
        ] {
            assert_eq!(messages(path, "//! A doc.\n").len(), count, "{path}");
        }
    }

    #[test]
    fn wide_comments_are_found() {
        let wide = format!("//! Doc.\n// {}\n", "ä".repeat(118));
        assert_eq!(messages("a.rs", &wide), ["a.rs:2: a comment wider than 120 columns"]);
        assert_eq!(messages("a.rs", &wide.replacen('ä', "", 1)), [""; 0]);
        assert_eq!(messages("a.rs", &wide.replacen('ä', "https://", 1)), [""; 0]);
    }

    #[test]
    fn strings_and_tables_may_be_wide() {
        let text = "x".repeat(120);
        assert_eq!(messages("a.rs", &format!("//! Doc.\n//! | {text} | 2 |\n// │ {text}\nf(\"{text}\");\n")), [""; 0]);
    }

    #[test]
    fn long_files_are_found_unless_excepted_and_exceptions_unless_needed() {
        let long = format!("//! Doc.\n{}", "\n".repeat(700));
        assert!(messages("a.rs", &long)[0].starts_with("a.rs: 701 lines"));
        let excepted = Exceptions { long: vec![Exception::for_file("a.rs")], ..Exceptions::default() };
        assert_eq!(check(&tree(&[("a.rs", &long)]), &excepted), []);
        assert_eq!(check(&tree(&[("a.rs", "//! Doc.\n")]), &excepted).len(), 1);
    }

    #[test]
    fn a_readme_that_outgrows_its_room_is_found() {
        assert_eq!(messages("README.md", &"a\n".repeat(README_LINES_MAX)), [""; 0]);
        let found = messages("README.md", &"a\n".repeat(README_LINES_MAX + 1));
        assert_eq!(found, ["README.md: 151 lines: what does not fit 150 belongs in docs/"]);
        assert_eq!(messages("docs/README.md", &"a\n".repeat(README_LINES_MAX + 1)), [""; 0]);
    }

    #[test]
    fn notes_of_unfinished_work_are_found_in_any_text() {
        for word in UNFINISHED {
            assert_eq!(messages("README.md", &format!("fine\n{word}: later\n")).len(), 1, "{word}");
        }
        assert_eq!(messages("README.md", &format!("{}S\n", UNFINISHED[0])), [""; 0]);
    }

    #[test]
    fn paths_of_a_machine_are_found_in_text_and_in_binaries() {
        for place in &MACHINE_PATHS[..3] {
            assert!(messages("x.md", &format!("a\nsee {place}me\n"))[0].starts_with("x.md:2: a path"), "{place}");
        }
        assert_eq!(messages("x.md", "in /tmp/x\n"), [""; 0]);
        assert_eq!(messages("x.o", "\0/tmp/x\n").len(), 1);
    }
}
