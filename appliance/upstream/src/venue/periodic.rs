//! Texts that a venue must receive at intervals, or it closes the connection: its own kind of ping.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::PeriodicText;

/// The texts of a connection, and when each is due.
#[derive(Debug)]
pub(super) struct Periodic(Vec<Text>);

#[derive(Debug)]
struct Text {
    text: String,
    interval: Duration,
    due: Instant,
    /// How often the text was sent.
    count: u64,
}

impl Periodic {
    pub(super) fn new(texts: &[PeriodicText], now: Instant) -> Periodic {
        let text = |PeriodicText { text, interval }: &PeriodicText| Text {
            text: text.clone(),
            interval: *interval,
            due: now + *interval,
            count: 0,
        };
        Periodic(texts.iter().map(text).collect())
    }

    /// When the next text is due, if there are any texts.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().map(|text| text.due).min()
    }

    /// A text that is due, if there is one. It is due again a whole interval later, however late it is now.
    pub(super) fn take(&mut self, now: Instant, unix_ms: u64) -> Option<String> {
        let text = self.0.iter_mut().find(|text| text.due <= now)?;
        text.due = now + text.interval;
        text.count += 1;
        let filled = text.text.replace("{count}", &text.count.to_string());
        Some(filled.replace("{unix_ms}", &unix_ms.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_own_time_and_count() {
        let send = |text: &str, ms| PeriodicText { text: text.to_owned(), interval: Duration::from_millis(ms) };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut texts = Periodic::new(&[send("ping", 20), send(r#"{"id":"{unix_ms}","n":{count},"x":{}}"#, 30)], start);
        assert_eq!(texts.due(), Some(at(20)));
        assert_eq!(texts.take(at(19), 7), None);
        assert_eq!(texts.take(at(30), 7).as_deref(), Some("ping"));
        assert_eq!(texts.take(at(30), 7).as_deref(), Some(r#"{"id":"7","n":1,"x":{}}"#));
        assert_eq!((texts.take(at(30), 7), texts.due()), (None, Some(at(50))));
        // A late text is sent once, not as often as it was missed.
        assert_eq!(texts.take(at(1_000), 8).as_deref(), Some("ping"));
        assert_eq!(texts.take(at(1_000), 8).as_deref(), Some(r#"{"id":"8","n":2,"x":{}}"#));
        assert_eq!((texts.take(at(1_000), 8), texts.due()), (None, Some(at(1_020))));
        assert_eq!(Periodic::new(&[], start).due(), None);
    }
}
