//! Rust source reduced to its code: just enough of a lexer to tell a keyword from a word in a comment or a string.

/// The text with comments, strings and character literals blanked; lines stay where they are.
pub(super) fn only_code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let length = if is_word(previous) { 0 } else { literal_len(rest) }.max(comment_or_string_len(rest));
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            previous = c;
        } else {
            let (blanked, after) = rest.split_at(length);
            code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
            previous = ' ';
        }
    }
    code
}

/// Whether `word` occurs in a line of code as a word of its own.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_word);
        let after = line[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of the comment or plain string that `rest` begins with, else 0.
fn comment_or_string_len(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_len(rest);
    }
    rest.strip_prefix('"').map_or(0, |body| 1 + escaped_len(body, '"'))
}

/// Length of the raw string, byte string or character literal that `rest` begins with, else 0 (also for a lifetime).
fn literal_len(rest: &str) -> usize {
    let unprefixed = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - unprefixed.len();
    if prefix > 1 {
        return 0;
    }
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let body = raw.trim_start_matches('#');
        let hashes = raw.len() - body.len();
        let Some(body) = body.strip_prefix('"') else { return 0 };
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix + 1 + hashes + 1;
        return body.find(&end).map_or(rest.len(), |at| start + at + end.len());
    }
    let mut chars = unprefixed.chars();
    if chars.next() != Some('\'') {
        return 0;
    }
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => prefix + 1 + escaped_len(&unprefixed[1..], '\''),
        (Some(c), Some('\'')) => prefix + 2 + c.len_utf8(),
        _ => 0,
    }
}

/// Bytes up to and including the closing quote; a quote behind a backslash does not close.
fn escaped_len(body: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// Length of the block comment that `rest` begins with. Block comments nest.
fn block_comment_len(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        for (text, code) in [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* unsafe */ y */ b", "a                        b"),
            (r#"f("unsafe \" // ", c)"#, r"f(               , c)"),
            ("r#\"un\"safe\"# + x", "             + x"),
            ("let c = '\"'; unsafe", "let c =    ; unsafe"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            (r"['\'', '\\', b'\x27'] unsafe", "[    ,     ,        ] unsafe"),
            ("br\"unsafe\" b\"unsafe\"", "           b        "),
            ("abc\"s\"", "abc   "),
            ("\"open", "     "),
        ] {
            assert_eq!(only_code(text), code, "{text}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("x = unsafe { y }", "unsafe"));
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
    }
}
