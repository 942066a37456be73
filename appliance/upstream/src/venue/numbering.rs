//! `q` and the epoch: whose numbers count, and when a numbering begins anew.
//!
//! The blade counts, unless `seq` says where the venue's number is. Messages that were sent between two connections may
//! be missing, so that each connection has its own numbering: a new epoch, in which subscribers cannot continue the old
//! one. A numbering goes on only if the venue's numbers outlive connections and have no holes (`epoch`), since then
//! they show what is missing.

use fanblade_feed::queue::{Record, Refused, Sender};
use fanblade_feed::{Session, UnixNs};

use super::settings::Settings;

/// The numbering of the feed.
#[derive(Debug)]
pub(super) struct Numbering {
    /// The venue's own numbering has this name.
    fixed: Option<Session>,
    is_venue_s: bool,
    /// The next update is the first of a session.
    is_new: bool,
    /// An update has been passed on in the current session.
    is_used: bool,
}

impl Numbering {
    pub(super) fn new(settings: &Settings) -> Numbering {
        Numbering {
            fixed: settings.epoch.as_ref().map(|name| padded(name)),
            is_venue_s: settings.rules.seq.is_some(),
            // The queue begins its first session itself, before the venue's numbers are known.
            is_new: settings.rules.seq.is_some(),
            is_used: false,
        }
    }

    /// The session before the first connection.
    pub(super) fn first_session(&self) -> Session {
        self.fixed.unwrap_or_else(|| of_time(UnixNs::now()))
    }

    pub(super) fn begin_connection(&mut self) {
        self.is_new |= self.is_used && self.fixed.is_none();
    }

    /// The venue counts anew.
    pub(super) fn begin_anew(&mut self) {
        self.is_new = true;
        // The name belonged to the numbering that has ended.
        self.fixed = None;
    }

    /// Prepares the number of the next record: begins a new session, or skips to the venue's number.
    pub(super) async fn before_update(
        &mut self,
        sender: &Sender,
        seq: Option<u64>,
        now_ns: UnixNs,
    ) -> Result<(), Refused> {
        if std::mem::take(&mut self.is_new) {
            let session = self.fixed.unwrap_or_else(|| of_time(now_ns));
            sender.send(&Record::Session { session, first_seq: seq.unwrap_or(1) }).await?;
        } else if let Some(seq) = seq {
            sender.skip_to(seq);
        }
        self.is_used = true;
        Ok(())
    }

    /// Messages of the connection are missing. If the blade counts, one skipped number stands for all of them, so that
    /// subscribers notice the gap.
    pub(super) async fn gap(&mut self, sender: &Sender, from: u64, to: u64) -> Result<(), Refused> {
        if self.is_venue_s {
            return sender.send(&Record::Gap { from, to }).await.map(|_| ());
        }
        let next = sender.next_seq();
        sender.send(&Record::Gap { from: next, to: next + 1 }).await?;
        sender.skip_to(next + 1);
        let text = format!("the server's messages {from} to {} are missing", to.saturating_sub(1));
        sender.send(&Record::Trouble { kind: "messages_missing", text: &text }).await.map(|_| ())
    }
}

/// A name that no session had before: the time in milliseconds, in digits from 0 to Z.
fn of_time(now_ns: UnixNs) -> Session {
    let mut name = [b' '; 10];
    let mut rest = now_ns.ms();
    let digits = std::iter::from_fn(|| {
        let digit = (rest > 0).then(|| DIGITS[(rest % 36) as usize]);
        rest /= 36;
        digit
    });
    let digits: Vec<u8> = digits.take(name.len()).collect();
    name.iter_mut().zip(digits.iter().rev()).for_each(|(place, digit)| *place = *digit);
    name
}

fn padded(name: &str) -> Session {
    let mut session = [b' '; 10];
    session.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    session
}

const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_named_by_their_time() {
        let text = |session: Session| String::from_utf8_lossy(&session).into_owned();
        assert_eq!(text(of_time(UnixNs(1_767_225_600_000_000_000))), "MJUOHS00  ");
        assert_ne!(of_time(UnixNs(1_767_225_600_000_000_000)), of_time(UnixNs(1_767_225_600_001_000_000)));
        assert_eq!(text(of_time(UnixNs(0))), " ".repeat(10));
        assert_eq!(text(padded("main")), "main      ");
    }
}
