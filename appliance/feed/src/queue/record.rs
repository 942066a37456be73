//! What tasks pass on.

use crate::{Data, Session, UnixNs};

/// One thing to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A subject's new value.
    Update {
        /// The whole subject, valid.
        subject: &'a str,
        /// When it happened, Unix nanoseconds.
        ts_ns: UnixNs,
        /// The value. JSON has been checked and has no line breaks.
        data: Data<'a>,
        /// When it was read from its socket, Unix nanoseconds.
        received_ns: UnixNs,
    },
    /// Values of a subject are missing, by the numbers of the subject's own sequence upstream.
    SubjectGap {
        /// The whole subject, valid.
        subject: &'a str,
        /// The first that is missing.
        from: u64,
        /// The first after the gap.
        to: u64,
    },
    /// The numbers `from..to` will not be used: messages are missing upstream.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The first after the gap.
        to: u64,
    },
    /// Numbering begins anew.
    Session {
        /// The new session.
        session: Session,
        /// The number of the next update, from 1. Above 1, earlier ones were before the feed's time.
        first_seq: u64,
    },
    /// Something is wrong upstream: [`Trouble::Told`](crate::Trouble::Told).
    Trouble {
        /// The kind that counts it.
        kind: &'static str,
        /// One line for the log.
        text: &'a str,
    },
}
