//! `unsafe` stands only in files that xtask/tidy.toml names, and `wire` forbids it altogether.

use super::code::{has_word, only_code};
use super::exceptions::Exceptions;
use super::finding::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree, exceptions: &Exceptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for (path, text) in tree.texts(&[".rs"]).filter(|(path, _)| !path.starts_with("ebpf/")) {
        let code = only_code(text);
        let Some(line) = code.lines().position(|line| has_word(line, "unsafe")) else { continue };
        if exceptions.unsafety.iter().any(|exception| exception.file == path) {
            used.push(path);
        } else {
            let message = format!("`unsafe` in a file that {} does not name", Exceptions::PATH);
            findings.push(Finding::new(path, line + 1, message));
        }
    }
    for exception in exceptions.unsafety.iter().filter(|exception| !used.contains(&exception.file.as_str())) {
        findings.push(Finding::new(Exceptions::PATH, 0, format!("{} has no `unsafe`", exception.file)));
    }
    for path in FORBIDDING {
        if let Some(text) = tree.file(path).and_then(|file| file.text())
            && !only_code(text).contains("#![forbid(unsafe_code)]")
        {
            findings.push(Finding::new(path, 0, "must say #![forbid(unsafe_code)]"));
        }
    }
    findings
}

/// Crates that parse untrusted input: they must forbid `unsafe`.
const FORBIDDING: [&str; 1] = ["appliance/wire/src/lib.rs"];

#[cfg(test)]
mod tests {
    use super::super::exceptions::Exception;
    use super::super::tree::tree;
    use super::*;

    #[test]
    fn unsafe_outside_named_files_is_found_and_in_comments_is_not() {
        let tree = tree(&[
            ("a/src/lib.rs", "//! unsafe\nfn f() {\n    unsafe { g() }\n}\n"),
            ("a/src/sys.rs", "unsafe fn g() {}\n"),
            ("a/src/safe.rs", "// unsafe\n#![deny(unsafe_code)]\n"),
            ("ebpf/appliance/src/main.rs", "unsafe { x }\n"),
        ]);
        let named = Exceptions { unsafety: vec![Exception::for_file("a/src/sys.rs")], ..Exceptions::default() };
        let found = check(&tree, &named);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line), ("a/src/lib.rs", 3));
    }

    #[test]
    fn an_exception_without_need_is_found() {
        let tree = tree(&[("a/src/sys.rs", "fn g() {}\n")]);
        let stale = Exceptions { unsafety: vec![Exception::for_file("a/src/sys.rs")], ..Exceptions::default() };
        assert_eq!(check(&tree, &stale).len(), 1);
    }

    #[test]
    fn wire_must_forbid_unsafe() {
        let found =
            check(&tree(&[("appliance/wire/src/lib.rs", "//! #![forbid(unsafe_code)]\n")]), &Exceptions::default());
        assert_eq!(found.len(), 1, "{found:?}");
        let good = tree(&[("appliance/wire/src/lib.rs", "//! Doc.\n#![forbid(unsafe_code)]\n")]);
        assert_eq!(check(&good, &Exceptions::default()), []);
    }
}
