//! A mistake in a configuration file, shown so that it can be fixed without the manual: where it is, what is wrong, and
//! what was meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fanblade_net::names::nearest;

/// One mistake, with its place. It displays in several lines:
///
/// ```text
/// fanblade.toml:3:1: unknown field `lisen`
///   3 | lisen = "127.0.0.1:7400"
///     | ^^^^^
///   hint: did you mean `listen`?
/// ```
#[derive(Debug)]
pub(crate) struct ConfigError {
    file: PathBuf,
    /// None: the mistake concerns the file as a whole.
    place: Option<Place>,
    message: String,
    hint: Option<String>,
}

#[derive(Debug)]
struct Place {
    /// Counted from 1, like the column.
    line: usize,
    column: usize,
    /// The part of the line that is shown: a line may be as long as the file.
    text: Box<str>,
    /// Characters of `text` before the marked ones.
    indent: usize,
    /// Number of marked characters.
    width: usize,
}

impl ConfigError {
    /// The file could not be read at all.
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                Some("an example is docs/fanblade.example.toml; `fanblade run` needs no file at all".to_owned())
            }
            std::io::ErrorKind::PermissionDenied => Some(format!("to see who may read it: ls -l {}", file.display())),
            std::io::ErrorKind::IsADirectory => Some("name the file in it".to_owned()),
            _ => None,
        };
        ConfigError {
            file: file.to_owned(),
            place: None,
            message: format!("cannot read the configuration: {error}"),
            hint,
        }
    }

    /// An error of the TOML parser, or of a value's own parser.
    pub(crate) fn from_toml(file: &Path, source: &str, error: &toml::de::Error) -> Self {
        let message = error.message().lines().next().unwrap_or("not valid TOML").to_owned();
        let hint = suggestion(&message);
        // The hint is made from the list of alternatives; repeating all of it buries the point.
        let shown = match (&hint, message.find(", expected ")) {
            (Some(_), Some(cut)) => message[..cut].to_owned(),
            _ => message,
        };
        ConfigError {
            file: file.to_owned(),
            place: error.span().map(|span| place(source, &span)),
            message: shown,
            hint,
        }
    }

    /// Two files that make sense each, but not together.
    pub(crate) fn together(file: &Path, other: &Path, message: String, hint: Option<String>) -> Self {
        let file = PathBuf::from(format!("{} with {}", file.display(), other.display()));
        ConfigError { file, place: None, message, hint }
    }

    /// A value that parses but makes no sense.
    pub(crate) fn at(file: &Path, source: &str, span: &Range<usize>, message: String, hint: Option<String>) -> Self {
        ConfigError { file: file.to_owned(), place: Some(place(source, span)), message, hint }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.place {
            None => write!(f, "{file}: {}", self.message)?,
            Some(Place { line, column, text, indent, width }) => {
                let gutter = line.to_string().len() + 2;
                write!(f, "{file}:{line}:{column}: {}", self.message)?;
                write!(f, "\n{line:>gutter$} | {text}\n{:>gutter$} | {:indent$}{:^<width$}", "", "", "")?;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

fn place(source: &str, span: &Range<usize>) -> Place {
    // A parser may point at the very end, where there is no character.
    let start = floor(source, span.start);
    let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let text = source[line_start..].lines().next().unwrap_or("");
    let end = floor(source, span.end.max(start)).min(line_start + text.len()).max(start);
    let before = source[line_start..start].chars().count();
    // Of a long line, show what is around the beginning of the marked part.
    let cut = if before < SHOWN_CHARS_MAX { 0 } else { before - SHOWN_CHARS_MAX / 4 };
    let shown: String = text.chars().skip(cut).take(SHOWN_CHARS_MAX).collect();
    let (ahead, behind) =
        (if cut > 0 { "…" } else { "" }, if text.chars().count() > cut + SHOWN_CHARS_MAX { "…" } else { "" });
    Place {
        line: source[..line_start].matches('\n').count() + 1,
        column: before + 1,
        text: format!("{ahead}{}{behind}", shown.replace('\t', " ")).into(),
        indent: before - cut + ahead.chars().count(),
        width: source[start..end].chars().count().clamp(1, SHOWN_CHARS_MAX - (before - cut)),
    }
}

/// Characters of a line that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// The last character boundary at or before `at`.
fn floor(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0)
}

/// Turns "unknown field `lisen`, expected one of `listen`, `workers`" into "did you mean `listen`?".
fn suggestion(message: &str) -> Option<String> {
    if message == "invalid socket address syntax" {
        return Some(format!("write {}", super::checks::ADDRESS_HINT));
    }
    let mut names = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown ") {
        return None;
    }
    let wrong = names.next()?;
    let known: Vec<&str> = names.collect();
    match nearest(wrong, known.iter().copied()) {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if known.is_empty() => None,
        None => Some(format!("known here: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_odd_spans() {
        let source = "a = 1\nb = \"ü\"\n";
        assert_eq!(place(source, &(12..13)).column, 6, "inside a character: its start");
        assert_eq!(place(source, &(99..120)).line, 3, "past the end: the end");
        assert_eq!(place("", &(0..0)).line, 1);
    }

    #[test]
    fn of_a_line_without_end_the_place_is_shown() {
        let long = "x".repeat(100_000);
        for (before, after) in [("", ""), ("ü = ", ""), (&*long, ""), ("", &*long), (&*long, &*long)] {
            let source = format!("a = 1\n{before}HERE{after}\n");
            let start = 6 + before.len();
            for span in [start..start + 4, start..source.len(), start..start] {
                let error = ConfigError::at(Path::new("f"), &source, &span, "wrong".to_owned(), None).to_string();
                let lines: Vec<&str> = error.lines().collect();
                assert_eq!(lines[0], format!("f:2:{}: wrong", before.chars().count() + 1));
                let carets = lines[2].chars().position(|char| char == '^').unwrap();
                let under: String = lines[1].chars().skip(carets).take(4).collect();
                assert_eq!(under, "HERE");
                assert!(lines[1..].iter().all(|line| line.chars().count() < 210), "{error}");
            }
        }
    }
}
