//! `fanblade tap subjects`: the subject table.

use std::io::{self, Write as _};
use std::process::ExitCode;

use fanblade_ring::{Descriptor, Reader, SubjectId};
use serde::Serialize;

use super::find::Tapped;
use super::shared::{age_ns, pattern, print_json};
use crate::terminal::{figures, out};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these subjects: /NASDAQ/*/trade, /NASDAQ/**
    #[arg(value_parser = pattern)]
    pattern: Option<String>,
    /// Print one JSON object a subject
    #[arg(long)]
    json: bool,
}

/// A subject's newest frame.
#[derive(Debug, Serialize)]
struct Row {
    subject: String,
    frames: u64,
    seq: Option<u64>,
    /// Where the frame lies in the ring.
    index: Option<u64>,
    age_ns: Option<u64>,
}

pub(super) fn main(args: &Args, tapped: &Tapped) -> anyhow::Result<ExitCode> {
    let reader = &tapped.reader;
    let is_wanted =
        |name: &str| args.pattern.as_ref().is_none_or(|pattern| fanblade_ring::subject::matches(pattern, name));
    let mut rows: Vec<Row> = (0..reader.subject_count())
        .filter_map(|id| Some((id, reader.subject(SubjectId(id))?)))
        .filter(|(_, subject)| is_wanted(&subject.name))
        .map(|(id, subject)| {
            let newest = newest(reader, SubjectId(id));
            Row {
                subject: subject.name.to_string(),
                frames: subject.frames,
                seq: newest.map(|newest| newest.seq),
                index: newest.map(|newest| newest.index.0),
                age_ns: newest.map(|newest| age_ns(newest.ts_publish_ns)),
            }
        })
        .collect();
    rows.sort_by(|a, b| a.subject.cmp(&b.subject));
    let mut out = io::BufWriter::new(out::stdout());
    if args.json {
        for row in &rows {
            print_json(&mut out, row)?;
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = rows.iter().map(|row| row.subject.len()).max().unwrap_or(0).max("subject".len());
    writeln!(out, "{:<width$}  {:>12}  {:>14}  {:>12}  {:>12}", "subject", "frames", "newest seq", "index", "age")?;
    let or_none = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    for Row { subject, frames, seq, index, age_ns } in &rows {
        let age = age_ns.map_or("-".to_owned(), figures::nanoseconds);
        writeln!(out, "{subject:<width$}  {frames:>12}  {:>14}  {:>12}  {age:>12}", or_none(*seq), or_none(*index))?;
    }
    writeln!(out, "{} of {} subjects", rows.len(), reader.subject_count())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Tries to read a subject's newest frame: it is always in the ring, but may be moved during the search.
pub(super) fn newest(reader: &Reader, id: SubjectId) -> Option<Descriptor> {
    (0..NEWEST_TRIES_MAX).find_map(|_| reader.descriptor(reader.newest(id)?).ok())
}

/// Each further try means that the writer went once round the whole ring between two of our reads.
const NEWEST_TRIES_MAX: u32 = 10;
