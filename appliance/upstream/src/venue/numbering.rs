//! `q` and the epoch: who counts, and when counting begins anew.
//!
//! We count, unless `seq` says where the venue's number is. A new connection may lack anything that was sent between it
//! and the former one, so that it has a numbering of its own: a new epoch, in which nothing of the old one can be gone
//! on with. Only where the venue's numbers outlive connections and have no holes (`epoch`) do they go on, since then
//! they show what is missing.

use fanblade_feed::queue::{Record, Refused, Sender};
use fanblade_feed::{Session, unix_ns};

use super::settings::Settings;

/// The numbering of the feed.
#[derive(Debug)]
pub(super) struct Numbering {
    /// The venue's own, under this name.
    fixed: Option<Session>,
    is_venue_s: bool,
    /// The next update is the first of a session.
    is_new: bool,
    /// Something has been passed on in the session that is current.
    is_used: bool,
}

impl Numbering {
    pub(super) fn new(settings: &Settings) -> Numbering {
        Numbering {
            fixed: settings.epoch.as_ref().map(|name| padded(name)),
            is_venue_s: settings.rules.seq.is_some(),
            // The queue begins its first session itself. That does not know yet where the venue's numbers stand.
            is_new: settings.rules.seq.is_some(),
            is_used: false,
        }
    }

    /// The session before the first connection.
    pub(super) fn first_session(&self) -> Session {
        self.fixed.unwrap_or_else(|| of_time(unix_ns()))
    }

    pub(super) fn begin_connection(&mut self) {
        self.is_new |= self.is_used && self.fixed.is_none();
    }

    /// The venue counts anew.
    pub(super) fn begin_anew(&mut self) {
        self.is_new = true;
        // The name was that of the numbering which has ended.
        self.fixed = None;
    }

    /// Has the next record numbered as it must be.
    pub(super) async fn before_update(
        &mut self,
        sender: &Sender,
        seq: Option<u64>,
        now_ns: u64,
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

    /// Messages of the connection are missing. Where we count, one number stands for all of them: whoever has the ones
    /// before cannot go on behind it unaware.
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

/// A name that no session had before: its time in milliseconds, with digits up to Z.
fn of_time(now_ns: u64) -> Session {
    let mut name = [b' '; 10];
    let mut rest = now_ns / 1_000_000;
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
        assert_eq!(text(of_time(1_767_225_600_000_000_000)), "MJUOHS00  ");
        assert_ne!(of_time(1_767_225_600_000_000_000), of_time(1_767_225_600_001_000_000));
        assert_eq!(text(of_time(0)), " ".repeat(10));
        assert_eq!(text(padded("main")), "main      ");
    }
}
