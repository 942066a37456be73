//! How a queue is made.

use crate::limits::{QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX};
use crate::{Condition, Session};

/// How to make a queue. The limits are for the batch being filled; the other is at most as large.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// The feed's name, as [`Feed::name`](crate::Feed::name) gives it.
    pub name: &'static str,
    /// The session that the feed begins with.
    pub session: Session,
    /// The number of the first update, from 1. Above 1 the feed says that earlier ones were before its time.
    pub first_seq: u64,
    /// What [`Feed::condition`](crate::Feed::condition) is until it is set.
    pub condition: Condition,
    /// Records of all kinds that may wait.
    pub records_max: usize,
    /// Bytes of subjects, values and texts that may wait. One record that is longer is taken when nothing else waits.
    pub bytes_max: usize,
}

impl QueueConfig {
    /// A queue with the usual limits, numbered from 1, live.
    #[must_use]
    pub fn new(name: &'static str, session: Session) -> Self {
        Self {
            name,
            session,
            first_seq: 1,
            condition: Condition::Live,
            records_max: QUEUE_RECORDS_MAX,
            bytes_max: QUEUE_BYTES_MAX,
        }
    }
}
