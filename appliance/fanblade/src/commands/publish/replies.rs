//! What the blade answers to a publisher.

use anyhow::{Context as _, bail};
use fanblade_feed::publisher::{ErrorReply, Frames, Reply};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::terminal::out;

/// The reading half of the connection.
pub(super) enum Replies {
    Frames(Box<dyn AsyncRead + Send + Unpin>, Frames),
    Messages(SplitStream<WebSocketStream<MaybeTlsStream<TcpStream>>>),
}

/// What is known so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Records that were published or refused for certain.
    pub(super) settled: u64,
    pub(super) refused: u64,
    pub(super) seq: u64,
    /// Why the blade ended the connection, or how it broke.
    pub(super) complaint: Option<String>,
}

impl Outcome {
    /// Records that were published. The blade reports a refused record before it counts it as settled.
    pub(super) fn acknowledged(&self) -> u64 {
        self.settled.saturating_sub(self.refused)
    }
}

/// One reply, in the same form whether it came by TCP or by WebSocket.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Said {
    Welcome { epoch: String },
    Ack { records: u64, seq: u64 },
    Error { record: u64, code: String, message: String, closes: bool },
}

impl Replies {
    /// The epoch, or an error if the blade refuses us.
    pub(super) async fn welcome(&mut self) -> anyhow::Result<String> {
        match self.next().await? {
            Some(Said::Welcome { epoch }) => Ok(epoch),
            Some(Said::Error { code, message, .. }) => bail!("the blade refuses: {message} ({code})"),
            Some(Said::Ack { .. }) => bail!("the blade acknowledged a record before it admitted the publisher"),
            None => bail!("the connection was closed without a word"),
        }
    }

    /// Reads to the end of the connection, and reports each change.
    pub(super) async fn run(mut self, outcome: watch::Sender<Outcome>) {
        loop {
            match self.next().await {
                Ok(Some(Said::Ack { records, seq })) => outcome.send_modify(|outcome| {
                    (outcome.settled, outcome.seq) = (records, seq);
                }),
                Ok(Some(Said::Error { code, message, closes: true, .. })) => outcome.send_modify(|outcome| {
                    outcome.complaint = Some(format!("{message} ({code})"));
                }),
                Ok(Some(Said::Error { record, code, message, .. })) => {
                    out::tell(format_args!("fanblade: record {record}: {message} ({code})"));
                    outcome.send_modify(|outcome| outcome.refused += 1);
                }
                Ok(Some(Said::Welcome { .. })) => {}
                Ok(None) => break,
                Err(error) => {
                    outcome.send_modify(|outcome| {
                        outcome.complaint.get_or_insert_with(|| format!("{error:#}"));
                    });
                    break;
                }
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Said>> {
        match self {
            Replies::Frames(read, frames) => loop {
                if let Some(frame) = frames.next_frame()? {
                    return Reply::parse(frame).map(Said::from).map(Some).context("the answer is not a blade's");
                }
                match read.read(frames.space()).await.context("the connection broke")? {
                    0 => return Ok(None),
                    len => frames.note_filled(len),
                }
            },
            Replies::Messages(messages) => loop {
                match messages.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return serde_json::from_str(&text).map(Some).context("the answer is not a blade's");
                    }
                    Some(Ok(Message::Close(_))) | None => return Ok(None),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error).context("the connection broke"),
                }
            },
        }
    }
}

impl From<Reply<'_>> for Said {
    fn from(reply: Reply<'_>) -> Self {
        match reply {
            Reply::Welcome { epoch, .. } => Said::Welcome { epoch: epoch.to_owned() },
            Reply::Ack { records, seq } => Said::Ack { records, seq },
            Reply::Error(ErrorReply { record, closes, code, message }) => {
                Said::Error { record, code: code.to_owned(), message: message.to_owned(), closes }
            }
        }
    }
}
