//! The writing half of a connection: acknowledges records that have been published, and reports refused ones.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fanblade_feed::publisher::{ErrorReply, Reply};
use fanblade_feed::queue::{Receipts, Sender};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use super::limits::REPLY_MS_MAX;
use super::listener::Stream;

/// Messages from the reading half, in order.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Records up to this one are under way; they are acknowledged once they have been published.
    Flight {
        records: u64,
        seq: u64,
        /// Bytes that they hold of the connection's share of the queue.
        bytes: usize,
        runs: Vec<Run>,
    },
    /// Something was refused.
    Refused { record: u64, code: &'static str, message: String, close: Option<u16> },
}

/// Consecutive records of a connection with consecutive numbers: numbers between two runs belong to other connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// The first record.
    pub(super) record: u64,
    /// The number of the first record.
    pub(super) seq: u64,
    pub(super) len: u64,
}

/// The record that has the number `seq`; 0 if no run has it, which cannot happen.
fn record_of(runs: &[Run], seq: u64) -> u64 {
    let at = runs.partition_point(|run| run.seq <= seq);
    let run = at.checked_sub(1).and_then(|at| runs.get(at)).filter(|run| seq < run.seq + run.len);
    run.map_or(0, |run| run.record + (seq - run.seq))
}

/// The two ways of writing replies.
pub(super) enum Out {
    Frames { write: WriteHalf<Stream>, buffer: Vec<u8> },
    Messages(SplitSink<WebSocketStream<Stream>, Message>),
}

/// Why no more replies can be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// The peer's close has been answered already: there is nobody to reply to, and this is no fault.
    #[error("it has closed")]
    Closed,
    #[error("it has not read a reply for {REPLY_MS_MAX} ms")]
    NotReading,
}

/// The writing half.
pub(super) struct Replies {
    pub(super) out: Out,
    pub(super) sender: Sender,
    pub(super) receipts: Receipts,
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) wants_acks: bool,
}

impl Replies {
    /// Writes until the reading half has ended and all replies are written.
    pub(super) async fn run(&mut self, mut outgoing: mpsc::Receiver<Outgoing>) -> Result<(), ReplyError> {
        let mut next = outgoing.recv().await;
        while let Some(reply) = next.take() {
            match reply {
                Outgoing::Flight { records, seq, bytes, runs } => {
                    next = self.land(records, seq, bytes, runs, &mut outgoing).await?;
                }
                Outgoing::Refused { record, code, message, close } => {
                    let error = ErrorReply { record, closes: close.is_some(), code, message: &message };
                    self.out.write(&Reply::Error(error)).await?;
                    if let Some(code) = close {
                        return self.out.finish(code, &message).await;
                    }
                }
            }
            if next.is_none() {
                next = outgoing.recv().await;
            }
        }
        self.out.finish(fanblade_wire::close::NORMAL, "").await
    }

    /// Waits until the sequencer has taken a flight, and acknowledges it together with later flights that have been
    /// taken, too; before that, reports those of their records that were not published. Returns the next message from
    /// the reading half, if one was received.
    async fn land(
        &mut self,
        mut records: u64,
        mut seq: u64,
        bytes: usize,
        mut runs: Vec<Run>,
        outgoing: &mut mpsc::Receiver<Outgoing>,
    ) -> Result<Option<Outgoing>, ReplyError> {
        // The blade stops: records that were not published are not acknowledged, and the reading half says why.
        let Ok(taken) = self.sender.until_taken(seq).await else { return Ok(None) };
        self.in_flight.add_permits(bytes);
        let mut next = None;
        while let Ok(reply) = outgoing.try_recv() {
            match reply {
                Outgoing::Flight { records: later, seq: newest, bytes, runs: more } if newest <= taken => {
                    (records, seq) = (later, newest);
                    self.in_flight.add_permits(bytes);
                    runs.extend(more);
                }
                other => {
                    next = Some(other);
                    break;
                }
            }
        }
        for (number, because) in self.receipts.take_unpublished(seq) {
            let (record, message) = (record_of(&runs, number), because.to_string());
            let error = ErrorReply { record, closes: false, code: because.code(), message: &message };
            self.out.write(&Reply::Error(error)).await?;
        }
        if self.wants_acks {
            self.out.write(&Reply::Ack { records, seq }).await?;
        }
        Ok(next)
    }
}

impl Out {
    pub(super) async fn write(&mut self, reply: &Reply<'_>) -> Result<(), ReplyError> {
        let written = async {
            match self {
                Out::Frames { write, buffer } => {
                    buffer.clear();
                    reply.write(buffer);
                    write.write_all(buffer).await?;
                }
                Out::Messages(sink) => sink.send(Message::text(json(reply))).await?,
            }
            Ok::<(), ReplyError>(())
        };
        timeout(Duration::from_millis(REPLY_MS_MAX), written).await.map_err(|_| ReplyError::NotReading)??;
        Ok(())
    }

    /// Tells the publisher that nothing more comes.
    async fn finish(&mut self, code: u16, reason: &str) -> Result<(), ReplyError> {
        let finished = async {
            match self {
                Out::Frames { write, .. } => write.shutdown().await?,
                Out::Messages(sink) => {
                    let mut end = reason.len().min(CLOSE_REASON_LEN_MAX);
                    while !reason.is_char_boundary(end) {
                        end -= 1;
                    }
                    let frame = CloseFrame { code: code.into(), reason: reason[..end].into() };
                    sink.send(Message::Close(Some(frame))).await?;
                }
            }
            Ok::<(), ReplyError>(())
        };
        timeout(Duration::from_millis(REPLY_MS_MAX), finished).await.map_err(|_| ReplyError::NotReading)??;
        Ok(())
    }
}

/// A reply as a text message.
fn json(reply: &Reply<'_>) -> String {
    #[derive(Serialize)]
    #[serde(tag = "op", rename_all = "lowercase")]
    enum Json<'a> {
        Welcome { version: u8, epoch: &'a str, data_len_max: u32 },
        Ack { records: u64, seq: u64 },
        Error { record: u64, code: &'a str, message: &'a str, closes: bool },
    }
    let json = match *reply {
        Reply::Welcome { data_len_max, epoch } => {
            Json::Welcome { version: fanblade_feed::publisher::VERSION, epoch, data_len_max }
        }
        Reply::Ack { records, seq } => Json::Ack { records, seq },
        Reply::Error(ErrorReply { record, closes, code, message }) => Json::Error { record, code, message, closes },
    };
    // Strings and numbers can always be written.
    serde_json::to_string(&json).unwrap_or_default()
}

impl From<tungstenite::Error> for ReplyError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(error) => ReplyError::Broken(error),
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => ReplyError::Closed,
            error => ReplyError::Broken(io::Error::other(error)),
        }
    }
}

/// RFC 6455 section 5.5: control frames carry 125 bytes, two of which are the code.
const CLOSE_REASON_LEN_MAX: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_to_its_record_whatever_lies_between() {
        // Record 3 was refused at once; the numbers 12 to 14 went to records of another connection.
        let runs =
            [Run { record: 1, seq: 8, len: 2 }, Run { record: 4, seq: 10, len: 2 }, Run { record: 6, seq: 15, len: 1 }];
        let records: Vec<u64> = (7..17).map(|seq| record_of(&runs, seq)).collect();
        assert_eq!(records, [0, 1, 2, 4, 5, 0, 0, 0, 6, 0]);
        assert_eq!(record_of(&[], 1), 0);
    }
}
