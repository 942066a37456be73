//! The records to publish: lines of standard input, or made-up values.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanblade_feed::publisher::{Record, Request, Value};
use fanblade_upstream::publisher::json;
use tokio::sync::mpsc;

use crate::terminal::out;

/// Records as frames, one after the other.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Where records come from.
pub(super) enum Source {
    Lines { chunks: mpsc::Receiver<Chunk>, unreadable: Arc<AtomicU64> },
    Generator(Generator),
}

/// Made-up values with a counter.
pub(super) struct Generator {
    subjects: u32,
    len: usize,
    count: u64,
}

impl Chunk {
    /// The number of records in it.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of `records` of them.
    pub(super) fn part(&self, first: usize, records: usize) -> &[u8] {
        let start = first.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get((first + records).saturating_sub(1)).copied().unwrap_or(start);
        &self.bytes[start..end]
    }

    fn push(&mut self, record: Record<'_>) {
        Request::Record(record).write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_LEN
    }
}

impl Source {
    /// Standard input, read by a thread of its own; lines that arrive together are sent together.
    pub(super) fn lines(subject: Option<String>, opaque: bool) -> Source {
        let (send, chunks) = mpsc::channel(CHUNKS_MAX);
        let unreadable = Arc::new(AtomicU64::new(0));
        let wrong = Arc::clone(&unreadable);
        std::thread::spawn(move || {
            // The reader's buffer shows whether more lines have arrived already.
            let mut input = BufReader::with_capacity(CHUNK_LEN, std::io::stdin().lock());
            let (mut line, mut number, mut chunk) = (Vec::new(), 0_u64, Chunk::default());
            loop {
                line.clear();
                match input.read_until(b'\n', &mut line) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        out::tell(format_args!("fanblade: cannot read standard input: {error}"));
                        wrong.fetch_add(1, Relaxed);
                        break;
                    }
                }
                number += 1;
                let text = line.trim_ascii_end();
                if !text.is_empty()
                    && let Err(fault) = push_line(&mut chunk, text, subject.as_deref(), opaque)
                {
                    out::tell(format_args!("fanblade: line {number}: {fault}"));
                    wrong.fetch_add(1, Relaxed);
                }
                let is_last_for_now = !input.buffer().contains(&b'\n');
                if (is_last_for_now || chunk.is_full())
                    && chunk.len() > 0
                    && send.blocking_send(std::mem::take(&mut chunk)).is_err()
                {
                    return;
                }
            }
            let _ = send.blocking_send(chunk);
        });
        Source::Lines { chunks, unreadable }
    }

    /// The next records; none at the end.
    pub(super) async fn next(&mut self) -> Option<Chunk> {
        match self {
            Source::Lines { chunks, .. } => chunks.recv().await,
            Source::Generator(generator) => Some(generator.next()),
        }
    }

    /// Lines that could not be read.
    pub(super) fn unreadable(&self) -> u64 {
        match self {
            Source::Lines { unreadable, .. } => unreadable.load(Relaxed),
            Source::Generator(_) => 0,
        }
    }
}

fn push_line(chunk: &mut Chunk, text: &[u8], subject: Option<&str>, opaque: bool) -> Result<(), String> {
    if let Some(subject) = subject {
        let value = if opaque { Value::Opaque(text) } else { Value::Json(text) };
        chunk.push(Record { ts_ns: None, subject, value });
        return Ok(());
    }
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let entry = json::entry(text, 0).map_err(|fault| fault.to_string())?;
    let ts_ns = entry.ts_ns().map_err(|error| error.to_string())?;
    let decoded;
    let value = match (entry.d, &entry.b) {
        (Some(value), None) => Value::Json(value.get().as_bytes()),
        (None, Some(text)) => {
            decoded = STANDARD.decode(text.as_bytes()).map_err(|error| format!("`b` is not base64: {error}"))?;
            Value::Opaque(&decoded)
        }
        _ => return Err("a record has either `d` or `b`".to_owned()),
    };
    chunk.push(Record { ts_ns, subject: &entry.s, value });
    Ok(())
}

impl Generator {
    /// `len`: bytes of each value's JSON, at least 30.
    pub(super) fn new(subjects: u32, len: usize) -> Self {
        Self { subjects, len, count: 0 }
    }

    fn next(&mut self) -> Chunk {
        let mut chunk = Chunk::default();
        while !chunk.is_full() {
            let subject = format!("/test/{}/value", self.count % u64::from(self.subjects));
            let mut value = format!("{{\"n\":{},\"x\":\"", self.count);
            value.extend(std::iter::repeat_n('x', self.len.saturating_sub(value.len() + 2)));
            value.push_str("\"}");
            chunk.push(Record { ts_ns: None, subject: &subject, value: Value::Json(value.as_bytes()) });
            self.count += 1;
        }
        chunk
    }
}

const CHUNK_LEN: usize = 32 << 10;
const CHUNKS_MAX: usize = 4;
