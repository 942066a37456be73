//! One publisher, from its first byte to its last.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanblade_feed::UnixNs;
use fanblade_feed::publisher::{FrameTooLong, Frames, Record, Request, Value, split};
use fanblade_wire::close;
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::greeting::{Declined, Greeted, Protocol, Refused, frame_len_max, greet};
use super::intake::{Ended, Intake, Refusal};
use super::json;
use super::limits::{FAREWELL_MS_MAX, MESSAGE_LEN_MAX, REPLIES_MAX};
use super::listener::{Accepted, Stream};
use super::open_ended::OpenEnded;
use super::replies::{Out, Replies, ReplyError};
use super::shared::{Shared, until_stop};

type Messages = SplitStream<WebSocketStream<Stream>>;

/// Serves one connection. `greeting` is released as soon as the publisher is known.
pub(super) async fn serve(
    accepted: Accepted,
    shared: Arc<Shared>,
    greeting: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) {
    let Accepted { mut stream, transport, peer } = accepted;
    let greeted = tokio::select! {
        greeted = timeout(shared.settings.greeting_max, greet(&mut stream, transport, &shared)) => greeted,
        () = until_stop(&mut stopped) => return,
    };
    drop(greeting);
    match greeted {
        Ok(Ok(greeted)) => {
            let name = greeted.seat.name.clone();
            tracing::info!("publisher {name} ({peer}) has connected");
            match publish(stream, greeted, &shared, stopped).await {
                Ok(()) | Err(ReplyError::Closed) => tracing::info!("publisher {name} ({peer}) has gone"),
                Err(ReplyError::Broken(error)) => tracing::info!("publisher {name} ({peer}) has gone: {error}"),
                Err(error @ ReplyError::NotReading) => {
                    shared
                        .tell("not_reading", &format!("publisher {name} ({peer}): {error}; it is disconnected"))
                        .await;
                }
            }
        }
        Ok(Err(Declined::Gone)) => tracing::debug!("{peer} has gone before its hello"),
        Ok(Err(Declined::Refused(Refused { code, message, answer }))) => {
            shared.tell(code, &format!("{peer} may not publish: {message}")).await;
            if stream.write_all(&answer).await.is_ok() && stream.shutdown().await.is_ok() {
                linger(&mut stream).await;
            }
        }
        Err(_) => {
            let ms = shared.settings.greeting_max.as_millis();
            shared.tell("no_hello", &format!("{peer} has sent no hello within {ms} ms; it is disconnected")).await;
        }
    }
}

/// Runs the reading and the writing half until both are done.
async fn publish(
    stream: Stream,
    greeted: Greeted,
    shared: &Arc<Shared>,
    stopped: watch::Receiver<bool>,
) -> Result<(), ReplyError> {
    let Greeted { seat, wants_acks, protocol } = greeted;
    let (outgoing, replies) = mpsc::channel(REPLIES_MAX);
    let in_flight = Arc::new(Semaphore::new(shared.settings.in_flight_max));
    let (sender, receipts) = shared.sender.with_receipts();
    let mut intake = Intake::new(Arc::clone(shared), sender, seat, outgoing, Arc::clone(&in_flight));
    let writing = |out| Replies { out, sender: shared.sender.clone(), receipts, in_flight, wants_acks };
    match protocol {
        Protocol::Frames(frames) => {
            let (mut read, write) = tokio::io::split(stream);
            let mut writing = writing(Out::Frames { write, buffer: Vec::new() });
            let reading = async {
                until_stopped(&mut intake, stopped, async |intake| frames_in(&mut read, frames, intake).await).await;
                drop(intake);
                // Closing with unread bytes sends a reset, which would destroy replies that are on their way.
                linger(&mut read).await;
            };
            both(reading, writing.run(replies)).await
        }
        Protocol::Messages(rest) => {
            let message_len_max = MESSAGE_LEN_MAX.max(2 * frame_len_max(&shared.settings));
            let config = WebSocketConfig::default()
                .max_message_size(Some(message_len_max))
                .max_frame_size(Some(message_len_max));
            let (stream, mut ended) = OpenEnded::new(stream);
            let stream: Stream = Box::new(stream);
            let socket = WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await;
            let (sink, mut messages) = socket.split();
            let mut writing = writing(Out::Messages(sink));
            let data_len_max = u32::try_from(shared.settings.data_len_max).unwrap_or(u32::MAX);
            let welcome = fanblade_feed::publisher::Reply::Welcome { data_len_max, epoch: &shared.epoch };
            writing.out.write(&welcome).await?;
            let reading = async {
                until_stopped(&mut intake, stopped, async |intake| {
                    messages_in(&mut messages, &mut ended, intake).await
                })
                .await;
                drop(intake);
                let rest = async { while let Some(Ok(_)) = next_message(&mut messages, &mut ended).await {} };
                let _ = timeout(Duration::from_millis(FAREWELL_MS_MAX), rest).await;
            };
            both(reading, writing.run(replies)).await
        }
    }
}

/// A connection is over when reading has ended and all replies are written, or when replies cannot be written.
async fn both(
    reading: impl Future<Output = ()>,
    writing: impl Future<Output = Result<(), ReplyError>>,
) -> Result<(), ReplyError> {
    let (mut reading, mut writing) = (std::pin::pin!(reading), std::pin::pin!(writing));
    tokio::select! {
        () = &mut reading => writing.await,
        written = &mut writing => {
            if written.is_ok() {
                reading.await;
            }
            written
        }
    }
}

/// Reads to the end of the connection, or until the blade stops.
async fn until_stopped(
    intake: &mut Intake,
    mut stopped: watch::Receiver<bool>,
    read: impl AsyncFnOnce(&mut Intake) -> Result<(), Ended>,
) {
    tokio::select! {
        _ = read(intake) => {}
        () = until_stop(&mut stopped) => {}
    }
    if *stopped.borrow() {
        let message = "the blade stops; what was not acknowledged was not published".to_owned();
        intake.end("stopping", message, close::GOING_AWAY).await;
    } else {
        let _ = intake.flush().await;
    }
}

async fn frames_in(read: &mut ReadHalf<Stream>, mut frames: Frames, intake: &mut Intake) -> Result<(), Ended> {
    intake.received_ns = UnixNs::now();
    loop {
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => frame_in(frame, intake).await?,
                Ok(None) => break,
                Err(error) => return Err(too_long(&error, intake).await),
            }
        }
        intake.flush().await?;
        // Let the tasks of other connections read first.
        tokio::task::yield_now().await;
        match read.read(frames.space()).await {
            Ok(0) if frames.rest().is_empty() => return Ok(()),
            Ok(0) => {
                let message = format!("the connection ends {} bytes into a frame", frames.rest().len());
                return Err(intake.fail(Refusal { code: "cut_frame", message }, close::PROTOCOL_ERROR).await);
            }
            // Both halves see a broken connection, and the writing half reports it.
            Err(_) => return Ok(()),
            Ok(len) => frames.note_filled(len),
        }
        intake.received_ns = UnixNs::now();
    }
}

async fn frame_in(frame: &[u8], intake: &mut Intake) -> Result<(), Ended> {
    let fault = match Request::parse(frame) {
        Ok(Request::Record(record)) => return intake.take(&record).await,
        Ok(Request::Hello(_)) => "a second hello".to_owned(),
        Err(fault) if fault.spares_connection() => {
            return intake.refuse(Refusal { code: "bad_frame", message: fault.to_string() }).await;
        }
        Err(fault) => fault.to_string(),
    };
    Err(intake.fail(Refusal { code: "bad_frame", message: fault }, close::PROTOCOL_ERROR).await)
}

async fn too_long(error: &FrameTooLong, intake: &mut Intake) -> Ended {
    let data_len_max = intake.settings().data_len_max;
    let message = format!("{error} (`data_len_max` is {data_len_max})");
    intake.fail(Refusal { code: "too_long", message }, close::TOO_BIG).await
}

/// The next message; `None` at the end of the stream, after all messages.
async fn next_message(
    messages: &mut Messages,
    ended: &mut watch::Receiver<bool>,
) -> Option<tungstenite::Result<Message>> {
    tokio::select! {
        biased;
        message = messages.next() => message,
        _ = ended.wait_for(|ended| *ended) => None,
    }
}

async fn messages_in(
    messages: &mut Messages,
    ended: &mut watch::Receiver<bool>,
    intake: &mut Intake,
) -> Result<(), Ended> {
    loop {
        let message = next_message(messages, ended).await;
        intake.received_ns = UnixNs::now();
        match message {
            Some(Ok(Message::Text(text))) => text_in(&text, intake).await?,
            // A binary message holds whole frames, one or more.
            Some(Ok(Message::Binary(bytes))) => {
                let mut rest: &[u8] = &bytes;
                while !rest.is_empty() {
                    match split(rest, frame_len_max(intake.settings())) {
                        Ok(Some((frame, behind))) => {
                            frame_in(frame, intake).await?;
                            rest = behind;
                        }
                        Ok(None) => {
                            let message = format!("a message ends {} bytes into a frame", rest.len());
                            let refusal = Refusal { code: "cut_frame", message };
                            return Err(intake.fail(refusal, close::INVALID_DATA).await);
                        }
                        Err(error) => return Err(too_long(&error, intake).await),
                    }
                }
            }
            // The end of the connection. Other messages are pings and pongs, which tungstenite answers.
            Some(Ok(Message::Close(_))) | None => return Ok(()),
            Some(Ok(_)) => continue,
            // Reply to faults of the publisher; the writing half reports a broken connection.
            Some(Err(tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, max_size }))) => {
                let message = format!("a message of {size} bytes; at most {max_size} are taken");
                return Err(intake.fail(Refusal { code: "too_long", message }, close::TOO_BIG).await);
            }
            Some(Err(tungstenite::Error::Utf8(_))) => {
                let message = "a text message that is not UTF-8".to_owned();
                return Err(intake.fail(Refusal { code: "bad_json", message }, close::INVALID_DATA).await);
            }
            Some(Err(tungstenite::Error::Protocol(error))) => {
                let message = format!("no WebSocket: {error}");
                return Err(intake.fail(Refusal { code: "bad_frame", message }, close::PROTOCOL_ERROR).await);
            }
            Some(Err(_)) => return Ok(()),
        }
        intake.flush().await?;
        tokio::task::yield_now().await;
    }
}

/// A text message: a record, or an array of records. A message that cannot be parsed counts as one record.
async fn text_in(text: &str, intake: &mut Intake) -> Result<(), Ended> {
    let elements = match json::elements(text) {
        Ok(elements) => elements,
        Err(fault) => return intake.refuse(Refusal { code: "bad_json", message: fault.to_string() }).await,
    };
    for (offset, element) in elements {
        let refusal = match json::entry(element, offset) {
            Ok(entry) => match entry_in(&entry, intake).await {
                Ok(taken) => {
                    taken?;
                    continue;
                }
                Err(refusal) => refusal,
            },
            Err(fault) => Refusal { code: "bad_json", message: fault.to_string() },
        };
        intake.refuse(refusal).await?;
    }
    Ok(())
}

/// Takes one record of a text message. The outer error: the entry is no record.
async fn entry_in(entry: &json::Entry<'_>, intake: &mut Intake) -> Result<Result<(), Ended>, Refusal> {
    let subject: &str = &entry.s;
    let refusal = |message: String| Refusal { code: "bad_record", message };
    let Ok(ts_ns) = entry.ts_ns() else {
        return Err(refusal(format!("{subject:.140}: `t` is nanoseconds since 1970, as a number or in quotes")));
    };
    let decoded;
    let value = match (entry.d, &entry.b) {
        (Some(value), None) => Value::Json(value.get().as_bytes()),
        (None, Some(text)) => {
            decoded = STANDARD
                .decode(text.as_bytes())
                .map_err(|error| refusal(format!("{subject:.140}: `b` is not base64: {error}")))?;
            Value::Opaque(&decoded)
        }
        _ => return Err(refusal(format!("{subject:.140}: a record has either `d` or `b`"))),
    };
    Ok(intake.take(&Record { ts_ns, subject, value }).await)
}

/// Reads and discards what the publisher still sends, for a while.
async fn linger(read: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut scrap = vec![0; SCRAP_LEN];
    let rest = async { while matches!(read.read(&mut scrap).await, Ok(1..)) {} };
    let _ = timeout(Duration::from_millis(FAREWELL_MS_MAX), rest).await;
}

const SCRAP_LEN: usize = 16 << 10;
