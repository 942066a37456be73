//! The connections, from the opening to the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fanblade_dial::{CONNECT_MAX, OpenError};
use fanblade_feed::UnixNs;
use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::checker::{Checker, Control, Frame};
use crate::plan::{Mode, Plan};
use crate::totals::{Quantiles, Totals};

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is invalid.
    #[error("{url}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        #[source]
        error: tungstenite::Error,
    },
    /// The connection cannot be opened.
    #[error("cannot connect to {url}")]
    Open {
        /// The URL.
        url: String,
        /// Why not.
        #[source]
        error: OpenError,
    },
    /// The connection broke before the subscription was sent.
    #[error("cannot subscribe at {url}")]
    Request {
        /// The URL.
        url: String,
        /// What broke.
        #[source]
        error: tungstenite::Error,
    },
    /// The blade refused the subscription.
    #[error("the blade refused: {message} ({code})")]
    Refused {
        /// The blade's message.
        message: String,
        /// The error code; docs/PROTOCOL.md lists all.
        code: String,
    },
    /// The output cannot be printed.
    #[error("cannot print the frames")]
    Print(#[source] io::Error),
    /// A connection's task has panicked.
    #[error("a connection's task failed")]
    Task(#[source] JoinError),
}

/// One connection's part of the result.
struct Seen {
    totals: Totals,
    ages: Histogram<u64>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Runs all connections to their end (count, time, idleness, the server's close, Ctrl-C) and adds up the totals.
///
/// # Errors
/// The first connection that could not be opened, or was refused.
pub async fn run(plan: Arc<Plan>, connections: u32) -> Result<Totals, ClientError> {
    let (stop, stopped) = watch::channel(false);
    let frames = Arc::new(AtomicU64::new(0));
    let opening = Arc::new(Semaphore::new(OPENING_MAX));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (plan, frames, opening, stopped) =
            (Arc::clone(&plan), Arc::clone(&frames), Arc::clone(&opening), stopped.clone());
        tasks.spawn(async move { connection(&plan, &frames, &opening, stopped).await });
    }
    let mut totals = Totals::default();
    let mut ages = histogram();
    let (mut first, mut last) = (None::<Instant>, None::<Instant>);
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    let mut counted = 0;
    let rates = plan.outlet.rates;
    ticker.tick().await;
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                None => break,
                Some(seen) => {
                    // The first connection that fails gives the reason; the rest would repeat it.
                    let seen = seen.map_err(ClientError::Task)??;
                    totals.merge(seen.totals);
                    // Both histograms resize themselves, so this cannot fail.
                    let _ = ages.add(&seen.ages);
                    first = [first, seen.first].into_iter().flatten().min();
                    last = [last, seen.last].into_iter().flatten().max();
                }
            },
            _ = ticker.tick(), if rates.is_some() => {
                let now = frames.load(Relaxed);
                if let Some(tell) = rates {
                    tell(format_args!("{} frames a second on {} connections", now - counted, tasks.len()));
                }
                counted = now;
            }
            _ = tokio::signal::ctrl_c() => { let _ = stop.send(true); }
        }
    }
    totals.seconds = first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    totals.age_ns = Quantiles::of(&ages);
    Ok(totals)
}

async fn connection(
    plan: &Plan,
    frames: &AtomicU64,
    opening: &Semaphore,
    mut stopped: watch::Receiver<bool>,
) -> Result<Seen, ClientError> {
    // Limit the connections that open at the same time. The semaphore is never closed.
    let mut permit = opening.acquire().await.ok();
    let url = || plan.url.clone();
    let opening = plan.url.as_str().into_client_request().map_err(|error| ClientError::Url { url: url(), error })?;
    let opened = fanblade_dial::websocket(opening, plan.tls.clone(), CONNECT_MAX).await;
    let (mut socket, _) = opened.map_err(|error| ClientError::Open { url: url(), error })?;
    let sent = socket.send(Message::text(request(plan))).await;
    sent.map_err(|error| ClientError::Request { url: url(), error })?;
    let mut seen =
        Seen { totals: Totals { connections: 1, ..Totals::default() }, ages: histogram(), first: None, last: None };
    let mut checker = Checker::new(plan.mode);
    let deadline = plan.deadline.map(|after| Instant::now() + after);
    let mut idle = plan.idle.map(|_| Instant::now() + FIRST_FRAME_MAX);
    loop {
        let wake = [deadline, idle].into_iter().flatten().min();
        let message = tokio::select! {
            message = socket.next() => message,
            () = sleep_until(wake.unwrap_or_else(far)), if wake.is_some() => break,
            _ = stopped.changed() => break,
        };
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(frame))) => {
                let code = frame.as_ref().map_or(1005, |frame| u16::from(frame.code));
                *seen.totals.closes.entry(code).or_default() += 1;
                if let Some((frame, tell)) = frame.zip(plan.outlet.closes) {
                    tell(format_args!("closed by the blade: {} {}", frame.code, frame.reason));
                }
                break;
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => {
                seen.totals.violation(format!("the connection broke: {error}"));
                break;
            }
            None => break,
        };
        if let Some(print) = plan.outlet.messages {
            print(&text).map_err(ClientError::Print)?;
        }
        if is_data(&text) {
            let now = Instant::now();
            seen.first.get_or_insert(now);
            seen.last = Some(now);
            idle = plan.idle.map(|after| now + after);
            data(plan, &text, &mut checker, &mut seen);
            frames.fetch_add(1, Relaxed);
            if plan.count.is_some_and(|count| seen.totals.frames >= count) {
                break;
            }
        } else {
            permit.take();
            control(&text, &mut checker, &mut seen.totals)?;
        }
    }
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    // The server may have closed first, and a close that fails changes nothing.
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(Some(close))).await;
    seen.totals.subjects = checker.subjects();
    Ok(seen)
}

fn data(plan: &Plan, text: &str, checker: &mut Checker, seen: &mut Seen) {
    seen.totals.frames += 1;
    seen.totals.bytes += text.len() as u64;
    if plan.outlet.messages.is_some() && !plan.check {
        return;
    }
    match serde_json::from_str::<Frame<'_>>(text) {
        Ok(frame) => {
            let known = checker.subjects();
            if let Err(violation) = checker.frame(&frame, &mut seen.totals) {
                seen.totals.violation(violation);
            }
            let is_snapshot = checker.subjects() > known;
            if let (false, Ok(then)) = (is_snapshot, frame.t.parse::<u64>()) {
                // The times of a recorded feed are of another day, and say nothing about the latency here.
                if let Some(age) = UnixNs::now().0.checked_sub(then).filter(|age| *age < AGE_NS_MAX) {
                    // The histogram resizes itself, so that every age below `AGE_NS_MAX` fits.
                    let _ = seen.ages.record(age);
                }
            }
        }
        Err(error) => seen.totals.violation(format!("not a data frame ({error}): {text:.120}")),
    }
}

fn control(text: &str, checker: &mut Checker, totals: &mut Totals) -> Result<(), ClientError> {
    let control: Control<'_> = match serde_json::from_str(text) {
        Ok(control) => control,
        Err(error) => {
            totals.violation(format!("not a message of the protocol ({error}): {text:.120}"));
            return Ok(());
        }
    };
    match control.op {
        "subscribed" if !control.more => totals.subscribed = 1,
        "error" => {
            return Err(ClientError::Refused {
                message: control.message.as_deref().unwrap_or("without a message").to_owned(),
                code: control.code.unwrap_or("without a code").to_owned(),
            });
        }
        "notice" => {
            let kind = control.kind.unwrap_or("?");
            match kind {
                "gap" => checker.gap(control.subject.as_deref()),
                "epoch" => checker.epoch(),
                _ => {}
            }
            totals.dropped += control.dropped.unwrap_or(0);
            *totals.notices.entry(kind.to_owned()).or_default() += 1;
        }
        _ => {}
    }
    Ok(())
}

fn request(plan: &Plan) -> String {
    let mode = match plan.mode {
        Mode::All => "all",
        Mode::Conflate => "conflate",
    };
    serde_json::json!({ "op": "subscribe", "id": 1, "subjects": plan.subjects, "mode": mode, "snapshot": true })
        .to_string()
}

/// Data frames begin with their subject, everything else with `op`.
fn is_data(text: &str) -> bool {
    text.starts_with("{\"s\":")
}

fn histogram() -> Histogram<u64> {
    Histogram::new(2).expect("two significant digits are allowed")
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// Connections that are opened at the same time: a listener's backlog is finite.
const OPENING_MAX: usize = 256;
/// How long `--idle` waits for the first frame.
const FIRST_FRAME_MAX: Duration = Duration::from_secs(60);
/// A greater age means that the feed is recorded.
const AGE_NS_MAX: u64 = 60_000_000_000;
