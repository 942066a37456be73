//! Rates per subject, counted by walking the ring's index.

use std::ops::ControlFlow;
use std::time::Instant;

use fanblade_ring::{Lane, Reader, SubjectId, UnixNs};
use serde::Serialize;

use super::shared::age_ns;
use super::walk::Walk;

/// Counts what is published.
#[derive(Debug)]
pub(crate) struct Meter {
    walk: Walk,
    since: Instant,
    /// Indexed by subject id. It grows with the subject table, which has a limit.
    tallies: Vec<Tally>,
    overtaken: u64,
}

/// One subject since the last [`Meter::take`].
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    frames: u64,
    bytes: u64,
    seq: u64,
    published_ns: UnixNs,
}

/// What was published over some time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rates {
    pub(crate) epoch: String,
    /// The measured time.
    pub(crate) seconds: f64,
    pub(crate) frames_per_s: f64,
    /// Bytes of JSON frames as sent to subscribers.
    pub(crate) bytes_per_s: f64,
    /// Subjects in the table.
    pub(crate) subjects: u32,
    /// Subjects that had a frame in this time.
    pub(crate) subjects_busy: usize,
    /// Entries of the ring that were overwritten before they were counted: the rates are too low by that many.
    pub(crate) overtaken: u64,
    /// The busiest first.
    pub(crate) busiest: Vec<SubjectRate>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SubjectRate {
    pub(crate) subject: String,
    pub(crate) frames_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// The number of its newest frame.
    pub(crate) seq: u64,
    pub(crate) age_ns: u64,
}

impl Meter {
    /// Counts from now on.
    pub(crate) fn new(reader: &Reader) -> Meter {
        Meter { walk: Walk::from(reader.tail()), since: Instant::now(), tallies: Vec::new(), overtaken: 0 }
    }

    /// Counts what has been published since the last pass. Call it often enough that the writer does not go round the
    /// ring in between.
    pub(crate) fn pass(&mut self, reader: &Reader) {
        let Self { walk, tallies, .. } = self;
        self.overtaken += walk.pass(reader, |descriptor| {
            let id = descriptor.subject.0 as usize;
            if descriptor.is_refresh() || id >= reader.subjects_capacity() as usize {
                return ControlFlow::Continue(());
            }
            if id >= tallies.len() {
                tallies.resize(id + 1, Tally::default());
            }
            if let Some(tally) = tallies.get_mut(id) {
                tally.frames += 1;
                tally.bytes += u64::from(descriptor.lanes[Lane::Json as usize].length);
                tally.seq = descriptor.seq;
                tally.published_ns = descriptor.ts_publish_ns;
            }
            ControlFlow::Continue(())
        });
    }

    /// The rates since the last call, of the `limit` busiest subjects; then counts from zero again.
    pub(crate) fn take(&mut self, reader: &Reader, limit: usize) -> Rates {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        self.since = Instant::now();
        let mut busy: Vec<(u32, Tally)> =
            (0..).zip(self.tallies.iter_mut().map(std::mem::take)).filter(|(_, tally)| tally.frames > 0).collect();
        let (frames, bytes) = busy.iter().fold((0, 0), |sum, (_, tally)| (sum.0 + tally.frames, sum.1 + tally.bytes));
        // Equally busy ones stay in the order of the table, so that they do not swap places.
        busy.sort_by_key(|(id, tally)| (std::cmp::Reverse(tally.frames), *id));
        let rate = |count: u64| count as f64 / seconds;
        Rates {
            epoch: reader.epoch().1,
            seconds,
            frames_per_s: rate(frames),
            bytes_per_s: rate(bytes),
            subjects: reader.subject_count(),
            subjects_busy: busy.len(),
            overtaken: std::mem::take(&mut self.overtaken),
            busiest: busy
                .iter()
                .take(limit)
                .map(|(id, tally)| SubjectRate {
                    subject: name(reader, *id),
                    frames_per_s: rate(tally.frames),
                    bytes_per_s: rate(tally.bytes),
                    seq: tally.seq,
                    age_ns: age_ns(tally.published_ns),
                })
                .collect(),
        }
    }
}

fn name(reader: &Reader, id: u32) -> String {
    reader.subject(SubjectId(id)).map_or_else(|| format!("subject {id}"), |subject| subject.name.to_string())
}
