//! SPECIFICATION.md: every promise names the tests that hold it, or says that it is pending.
//!
//! A promise is a paragraph (or list item) that begins with its number in bold, and ends with its tests:
//! `**R3.** A reader that was lapped knows it. Tests: \`ring::stress::no_torn_frame\`.` or `Pending: why.`
//! The words before a test's name (`ring::stress::`) are parts of its file's path.

use std::collections::BTreeSet;

use super::code::{has_word, only_code};
use super::finding::Finding;
use super::links::prose;
use super::tree::Tree;

const PATH: &str = "SPECIFICATION.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.file(PATH).and_then(|file| file.text()) else {
        return vec![Finding::new(PATH, 0, "is missing")];
    };
    let tests = tests(tree);
    let promises = promises(text);
    let mut findings = Vec::new();
    let mut numbers = BTreeSet::new();
    for promise in &promises {
        let mut fault = |message: String| findings.push(Finding::new(PATH, promise.line, message));
        if !numbers.insert(promise.number) {
            fault(format!("{} is here for the second time", promise.number));
        }
        let named = promise.tests();
        if named.is_empty() && !promise.is_pending() {
            fault(format!("{} names no test (`Tests: …`) and is not `Pending: …`", promise.number));
        }
        for name in named {
            if !tests.iter().any(|test| test.is_called(name)) {
                fault(format!("{}: there is no test {name}", promise.number));
            }
        }
    }
    if promises.is_empty() {
        findings.push(Finding::new(PATH, 0, "holds no promise (a paragraph that begins with `**N1.**`)"));
    }
    findings
}

struct Promise<'t> {
    number: &'t str,
    line: usize,
    text: String,
}

impl Promise<'_> {
    /// Names in backticks after `Test:` or `Tests:`.
    fn tests(&self) -> Vec<&str> {
        let after = ["Tests:", "Test:"].iter().find_map(|word| self.text.split_once(word));
        let Some((_, list)) = after else { return Vec::new() };
        // Every second piece between backticks is code.
        list.split('`').skip(1).step_by(2).collect()
    }

    fn is_pending(&self) -> bool {
        self.text.contains("Pending:") || self.text.contains("Pending.")
    }
}

fn promises(text: &str) -> Vec<Promise<'_>> {
    let mut promises: Vec<Promise<'_>> = Vec::new();
    let mut is_open = false;
    for (line, content) in prose(text) {
        if let Some(number) = number(content) {
            promises.push(Promise { number, line, text: content.to_owned() });
            is_open = true;
        } else if content.starts_with('#') || content.trim().is_empty() {
            is_open = false;
        } else if let Some(promise) = promises.last_mut().filter(|_| is_open) {
            promise.text.push('\n');
            promise.text.push_str(content);
        }
    }
    promises
}

/// `R3` of a line that begins with `**R3.**`, in a list or not.
fn number(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("- ");
    let (number, _) = line.strip_prefix("**")?.split_once(".**")?;
    let digits = number.trim_start_matches(|c: char| c.is_ascii_uppercase());
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

struct Test<'t> {
    path: &'t str,
    function: String,
}

impl Test<'_> {
    /// `slow::stops` and `worker::slow::tests::stops` are names of `stops` in appliance/worker/tests/slow.rs.
    fn is_called(&self, name: &str) -> bool {
        let mut parts = name.split("::").collect::<Vec<_>>();
        let is_on_path =
            |part: &&str| *part == "tests" || self.path.trim_end_matches(".rs").split('/').any(|dir| dir == *part);
        parts.pop() == Some(&self.function) && parts.iter().all(is_on_path)
    }
}

/// The functions with a test attribute in all our sources, including those within a `proptest!`.
fn tests(tree: &Tree) -> Vec<Test<'_>> {
    let mut tests = Vec::new();
    for (path, text) in tree.texts(&[".rs"]) {
        let mut is_test = false;
        for line in only_code(text).lines().map(str::trim) {
            if line.starts_with("#[") && has_word(line, "test") && !has_word(line, "cfg") {
                is_test = true;
            }
            let Some((before, after)) = line.split_once("fn ") else { continue };
            if is_test && before.chars().all(|c| c.is_alphabetic() || c == ' ') {
                let function = after.chars().take_while(|c| super::code::is_word(*c)).collect();
                tests.push(Test { path, function });
            }
            is_test = false;
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree;
    use super::*;

    fn messages(specification: &str) -> Vec<String> {
        let source = "#[test]\nfn holds() {}\n#[tokio::test]\n#[cfg(x)]\nasync fn serves() {}\n\
                      #[cfg(test)]\nfn helper() {}\n// #[test]\nfn comment() {}\n";
        let tree = tree(&[("a/src/feed.rs", source), (PATH, specification)]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn promises_with_tests_or_pending_pass() {
        let good = "# Spec\n**R1.** It holds,\nalways. Tests: `holds`,\n`a::feed::tests::serves`.\n\n- **R2.** Later. Pending: needs hardware.\n";
        assert_eq!(messages(good), [""; 0]);
    }

    #[test]
    fn each_fault_is_found() {
        let found = |text: &str| messages(text).join("\n");
        assert!(found("**R1.** A. Tests: `gone`.\n").contains("SPECIFICATION.md:1: R1: there is no test gone"));
        assert!(found("**R1.** A. Tests: `a::wire::holds`.\n").contains("no test a::wire::holds"));
        assert!(found("**R1.** A. Tests: `helper`.\n").contains("no test helper"));
        assert!(found("**R1.** A. Tests: `comment`.\n").contains("no test comment"));
        assert!(found("**R1.** A.\n\nTests: `holds`.\n").contains("R1 names no test"));
        assert!(found("**R1.** A. Test: `holds`.\n**R1.** B. Test: `holds`.\n").contains("second time"));
        assert!(found("# Spec\n").contains("holds no promise"));
        assert_eq!(check(&tree(&[])).len(), 1);
    }
}
