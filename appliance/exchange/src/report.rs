//! What an exchange says at its end.

use std::fmt;

use serde::Serialize;

use super::line::LineCounters;
use super::requests::RequestCounters;
use super::soup::SoupCounts;

/// What was published and served.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) session: String,
    pub(super) messages: u64,
    pub(super) seconds: f64,
    pub(super) line_a: LineCounters,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line_b: Option<LineCounters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<RequestCounters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) soup: Option<SoupCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) glimpse: Option<SoupCounts>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "session {}: {} messages in {:.1} s", self.session, self.messages, self.seconds)?;
        for (name, line) in [("A", Some(self.line_a)), ("B", self.line_b)] {
            let Some(line) = line else { continue };
            let LineCounters { packets, dropped, reordered, duplicated, heartbeats, send_errors } = line;
            writeln!(
                f,
                "line {name}: {packets} packets sent, {dropped} dropped, {reordered} reordered, {duplicated} duplicated; \
                 {heartbeats} heartbeats and ends; {send_errors} not taken by the kernel"
            )?;
        }
        if let Some(requests) = self.requests {
            let RequestCounters { answered, messages, dropped, unavailable, unknown_session, malformed, failed } =
                requests;
            writeln!(
                f,
                "requests: {answered} answered with {messages} messages, {dropped} dropped, {unavailable} for what was \
                 not published, {unknown_session} of other sessions, {malformed} malformed, {failed} failed"
            )?;
        }
        for (name, counts) in [("SoupBinTCP", self.soup), ("GLIMPSE", self.glimpse)] {
            let Some(SoupCounts { logins, rejected, messages, completed, refused }) = counts else { continue };
            writeln!(
                f,
                "{name}: {logins} logins, {rejected} rejected, {messages} messages, {completed} clients that got \
                 everything, {refused} beyond the limit"
            )?;
        }
        Ok(())
    }
}
