//! Records on their way in: checked, numbered, counted, and held back while too many are under way.

use std::sync::Arc;

use fanblade_feed::publisher::{Record, Value};
use fanblade_feed::queue::{self, Refused, Sender};
use fanblade_feed::{Data, UnixNs};
use fanblade_ring::subject;
use tokio::sync::{Semaphore, mpsc};

use super::json;
use super::limits::REFUSED_IN_A_ROW_MAX;
use super::replies::{Outgoing, Run};
use super::settings::Settings;
use super::shared::{Seat, Shared};

/// The reading half of a connection, behind its transport.
pub(super) struct Intake {
    shared: Arc<Shared>,
    /// Queues updates, with receipts for this connection.
    sender: Sender,
    seat: Seat,
    replies: mpsc::Sender<Outgoing>,
    /// The connection's share of the queue, in bytes.
    in_flight: Arc<Semaphore>,
    /// When the current records were read, in Unix nanoseconds.
    pub(super) received_ns: UnixNs,
    /// The number of records so far.
    records: u64,
    refused_in_a_row: u32,
    /// Records that are under way, and whose acknowledgement has not been requested yet.
    flight: Option<Flight>,
    /// The number of the newest accepted record.
    seq: u64,
    scratch: String,
}

#[derive(Debug, Default)]
struct Flight {
    /// The newest record of the flight.
    records: u64,
    bytes: usize,
    /// The numbers of its accepted records.
    runs: Vec<Run>,
}

impl Flight {
    fn add(&mut self, record: u64, seq: u64) {
        match self.runs.last_mut() {
            Some(run) if record == run.record + run.len && seq == run.seq + run.len => run.len += 1,
            _ => self.runs.push(Run { record, seq, len: 1 }),
        }
    }
}

/// Why a record was not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// The connection takes nothing more; the reply that says why, if there is one, is on its way.
#[derive(Debug)]
pub(super) struct Ended;

impl Intake {
    pub(super) fn new(
        shared: Arc<Shared>,
        sender: Sender,
        seat: Seat,
        replies: mpsc::Sender<Outgoing>,
        in_flight: Arc<Semaphore>,
    ) -> Self {
        Self {
            shared,
            sender,
            seat,
            replies,
            in_flight,
            received_ns: UnixNs::default(),
            records: 0,
            refused_in_a_row: 0,
            flight: None,
            seq: 0,
            scratch: String::new(),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Takes a record, or refuses it; waits while too much is under way.
    pub(super) async fn take(&mut self, record: &Record<'_>) -> Result<(), Ended> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let taken = match check(&self.shared, record, &mut scratch) {
            Ok(data) => self.pass_on(record, data).await,
            Err(refusal) => self.refuse(refusal).await,
        };
        self.scratch = scratch;
        taken
    }

    async fn pass_on(&mut self, record: &Record<'_>, data: Data<'_>) -> Result<(), Ended> {
        let len = record.subject.len() + data.len();
        self.note_record(len);
        self.refused_in_a_row = 0;
        let share = len.min(self.shared.settings.in_flight_max);
        let permits = u32::try_from(share).unwrap_or(u32::MAX);
        if self.in_flight.available_permits() < permits as usize {
            // Permits of records under way are returned only once their acknowledgement has been requested.
            self.flush().await?;
        }
        self.in_flight.acquire_many(permits).await.map_err(|_| Ended)?.forget();
        let update = queue::Record::Update {
            subject: record.subject,
            ts_ns: record.ts_ns.map_or(self.received_ns, UnixNs),
            data,
            received_ns: self.received_ns,
        };
        let sent = match self.sender.try_send(&update) {
            Err(Refused::Full) => {
                self.flush().await?;
                self.sender.send(&update).await
            }
            decided => decided,
        };
        self.seq = sent.map_err(|_| Ended)?;
        self.note_under_way(share);
        if let Some(flight) = &mut self.flight {
            flight.add(self.records, self.seq);
        }
        self.seat.line.note_accepted();
        Ok(())
    }

    /// Refuses a record that was recognised as one.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Result<(), Ended> {
        self.note_record(0);
        self.shared.note_refused();
        self.refused_in_a_row += 1;
        let Refusal { code, message } = refusal;
        self.flush().await?;
        self.shared.tell(code, &format!("publisher {}, record {}: {message}", self.seat.name, self.records)).await;
        let reply = Outgoing::Refused { record: self.records, code, message, close: None };
        self.replies.send(reply).await.map_err(|_| Ended)?;
        // A refused record is acknowledged like the others: it has been dealt with.
        self.note_under_way(0);
        if self.refused_in_a_row > REFUSED_IN_A_ROW_MAX {
            let message = format!("more than {REFUSED_IN_A_ROW_MAX} records in a row were refused");
            let refusal = Refusal { code: "too_many_errors", message };
            return Err(self.fail(refusal, fanblade_wire::close::POLICY).await);
        }
        Ok(())
    }

    /// Ends the connection because of a fault of the publisher.
    pub(super) async fn fail(&mut self, refusal: Refusal, close: u16) -> Ended {
        let Refusal { code, message } = refusal;
        self.shared.tell(code, &format!("publisher {}: {message}; it is disconnected", self.seat.name)).await;
        self.end(code, message, close).await
    }

    /// Ends the connection without a fault of the publisher.
    pub(super) async fn end(&mut self, code: &'static str, message: String, close: u16) -> Ended {
        let _ = self.flush().await;
        let _ = self.replies.send(Outgoing::Refused { record: 0, code, message, close: Some(close) }).await;
        Ended
    }

    /// Requests the acknowledgement of the records under way. Must be called whenever the transport has no more bytes.
    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        let Some(Flight { records, bytes, runs }) = self.flight.take() else { return Ok(()) };
        let flight = Outgoing::Flight { records, seq: self.seq, bytes, runs };
        self.replies.send(flight).await.map_err(|_| Ended)
    }

    fn note_under_way(&mut self, bytes: usize) {
        let flight = self.flight.get_or_insert_default();
        flight.records = self.records;
        flight.bytes += bytes;
    }

    fn note_record(&mut self, len: usize) {
        self.records += 1;
        self.shared.note_record();
        self.seat.line.note_record(len, self.received_ns);
    }
}

/// Checks the whole record, and returns its data.
fn check<'a>(shared: &Shared, record: &Record<'a>, scratch: &'a mut String) -> Result<Data<'a>, Refusal> {
    let refusal = |code, message| Refusal { code, message };
    let Record { subject, value, .. } = record;
    if let Err(error) = subject::check(subject) {
        return Err(refusal("bad_subject", format!("`{:.140}`: {error}", subject.escape_debug())));
    }
    if subject::is_pattern(subject) {
        return Err(refusal("bad_subject", format!("`{subject}` is a pattern; a value belongs to one subject")));
    }
    let (Value::Json(bytes) | Value::Opaque(bytes)) = value;
    let len_max = shared.settings.data_len_max;
    if bytes.len() > len_max {
        return Err(refusal(
            "too_long",
            format!("{subject}: {} bytes of data; at most {len_max} are taken", bytes.len()),
        ));
    }
    let data = match value {
        Value::Opaque(bytes) => Data::Opaque(bytes),
        Value::Json(bytes) => match json::check(bytes, scratch) {
            Ok(text) => Data::Json(text),
            Err(fault) => return Err(refusal("bad_json", format!("{subject}: not JSON {fault}"))),
        },
    };
    if !shared.admit_subject(subject) {
        let subjects_max = shared.settings.subjects_max;
        return Err(refusal(
            "too_many_subjects",
            format!(
                "{subject}: it would be subject number {}; `subjects_max` in [ring] is {subjects_max}",
                subjects_max + 1
            ),
        ));
    }
    Ok(data)
}
