//! The two formats of `/metrics`, and the choice between them. The encoder writes OpenMetrics 1.0. The older text
//! format, which is the default, is made from that: the two differ in few lines.

use std::collections::HashSet;

use axum::http::{HeaderMap, header};

/// The format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The Prometheus text format, 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that a request accepts (RFC 9110, 12.5.1). A client gets OpenMetrics only if it names it and prefers
    /// nothing to it. A client that accepts neither gets text: a scraper shows more with text than with a refusal.
    pub(crate) fn wanted(headers: &HeaderMap) -> Format {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let (mut open, mut text) = (0, None::<(u8, u16)>);
        for range in lines.flat_map(|line| line.split(',')).take(RANGES_MAX) {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let parameter = |wanted: &str| {
                parameters.split(';').find_map(|parameter| {
                    let (name, value) = parameter.split_once('=')?;
                    name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
                })
            };
            let quality = parameter("q").map_or(1_000, thousandths);
            let name = name.trim().to_ascii_lowercase();
            let version = parameter("version");
            match name.as_str() {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0" | "0.0.1")) => {
                    open = quality.max(open);
                }
                // The most specific range counts.
                "text/plain" if matches!(version, None | Some("0.0.4")) => text = text.max(Some((2, quality))),
                "text/*" => text = text.max(Some((1, quality))),
                "*/*" => text = text.max(Some((0, quality))),
                _ => {}
            }
        }
        let text = text.map_or(0, |(_, quality)| quality);
        if open > 0 && open >= text { Format::OpenMetrics } else { Format::Text }
    }

    /// Converts `text`, which is OpenMetrics, to this format.
    pub(crate) fn of(self, text: String) -> String {
        match self {
            Format::OpenMetrics => text,
            Format::Text => older(&text),
        }
    }
}

/// A quality value in thousandths; an invalid one counts as 0.
fn thousandths(text: &str) -> u16 {
    let quality = text.parse::<f32>().ok().filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 1,000")]
    let whole = (quality * 1_000.0).round() as u16;
    whole
}

/// Converts to the older format: its comments have the full names of counters, it has no unit lines and no end line,
/// and help texts do not escape quotation marks.
fn older(text: &str) -> String {
    let is_counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    let counters: HashSet<String> = text.lines().filter_map(is_counter).collect();
    let mut older = String::with_capacity(text.len());
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            older.push_str(line);
            older.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(keyword @ ("HELP" | "TYPE")), Some(name), rest) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let suffix = if counters.contains(name) { "_total" } else { "" };
        let rest = match (keyword, rest.unwrap_or_default()) {
            ("TYPE", "unknown") => "untyped".to_owned(),
            (_, rest) => rest.replace("\\\"", "\""),
        };
        older.push_str(&format!("# {keyword} {name}{suffix} {rest}\n"));
    }
    older
}

/// Media ranges of one request that are read: scrapers send five.
const RANGES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_wanted_follows_from_accept_and_its_qualities() {
        let wanted = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, HeaderValue::from_static(line));
            }
            Format::wanted(&headers)
        };
        for text in [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["application/json"],
            &["application/openmetrics-text;q=0.5,text/plain;q=0.9"],
            &["application/openmetrics-text;q=0,*/*"],
            &["application/openmetrics-text;q=rather"],
            &["application/openmetrics-text; version=2.0.0"],
            &["application/openmetrics-text;q=0.4, text/*;q=0.5"],
        ] {
            assert_eq!(wanted(text), Format::Text, "{text:?}");
        }
        for open in [
            &["application/openmetrics-text"][..],
            &["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"],
            &["application/openmetrics-text;version=\"0.0.1\""],
            // What Prometheus 2 and 3 send.
            &[
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
            &[
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.1",
            ],
            &["text/plain;q=0.5", "application/openmetrics-text;q=0.7"],
            &["text/plain;q=0.2,*/*;q=0.9,application/openmetrics-text;q=0.3"],
        ] {
            assert_eq!(wanted(open), Format::OpenMetrics, "{open:?}");
        }
    }

    #[test]
    fn the_older_format_differs_where_it_must() {
        let open = "# HELP a_seconds \\\"A\\\".\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{b=\"\\\"\"} 1\n\
                    # HELP c C.\n# TYPE c unknown\nc 2\n# TYPE d gauge\nd 3\n# EOF\n";
        let text = "# HELP a_seconds_total \"A\".\n# TYPE a_seconds_total counter\na_seconds_total{b=\"\\\"\"} 1\n\
                    # HELP c C.\n# TYPE c untyped\nc 2\n# TYPE d gauge\nd 3\n";
        assert_eq!(Format::Text.of(open.to_owned()), text);
        assert_eq!(Format::OpenMetrics.of(open.to_owned()), open);
    }
}
