//! Relative links and anchors in Markdown lead to a file or heading that exists.

use super::finding::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(&[".md"]) {
        for (line, target) in targets(text) {
            if let Some(message) = fault(tree, path, &target) {
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    findings
}

fn fault(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(path) = path.filter(|path| tree.has(path)) else {
        return Some(format!("the link to {target} leads nowhere"));
    };
    let text = tree.file(&path).and_then(|file| file.text()).unwrap_or_default();
    let has_anchor = |anchor: &str| !path.ends_with(".md") || headings(text).any(|heading| heading == anchor);
    anchor.filter(|anchor| !has_anchor(anchor)).map(|anchor| format!("{path} has no heading #{anchor}"))
}

/// `a/b.md` + `../c` → `c`; `None` if the link leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Targets of `[text](target)`, `![text](target "title")` and `[name]: target`, with their lines. Code is skipped.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content = without_code(content);
        for (at, _) in content.match_indices("](") {
            let rest = &content[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            found.push((line, target.trim_matches(['<', '>']).to_owned()));
        }
        if let Some((name, target)) = content.split_once("]: ")
            && name.starts_with('[')
        {
            found.push((line, target.trim().to_owned()));
        }
    }
    found
}

/// Lines outside fenced code, counted from 1.
pub(super) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((at + 1, line))
    })
}

fn without_code(line: &str) -> String {
    // Every second piece between backticks is code.
    let pieces = line.split('`').enumerate().filter(|(at, _)| at % 2 == 0);
    pieces.map(|(_, piece)| piece).collect::<Vec<_>>().join("`")
}

/// Anchors of a document's headings, as GitHub makes them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree;
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let tree = tree(&[
            ("docs/a.md", text),
            ("docs/ring.md", "# The ring, drawn\n```\n# not a heading\n```\n"),
            ("README.md", ""),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_resolve_pass() {
        let good = "# Top\n[a](ring.md) [b](../README.md) ![c](../docs) [d](#top) [e](ring.md#the-ring-drawn) [f](https://x.y)\n\
                    `[code](nowhere)`\n```\n[code](nowhere)\n```\n[g]: ring.md\n";
        assert_eq!(messages(good), [""; 0]);
    }

    #[test]
    fn broken_links_are_found() {
        for bad in [
            "[a](nowhere.md)",
            "[a](../docs/b.md)",
            "[a](../../x)",
            "![i](i.png)",
            "[a](#no)",
            "[a](ring.md#not-a-heading)",
            "[g]: none.md",
        ] {
            assert_eq!(messages(&format!("# Top\n{bad}\n")).len(), 1, "{bad}");
        }
        assert_eq!(messages("x\n[a](b.md)\n"), ["docs/a.md:2: the link to b.md leads nowhere"]);
    }
}
