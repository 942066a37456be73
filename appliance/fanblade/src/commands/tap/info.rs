//! `fanblade tap info`: the ring itself.

use std::io;
use std::process::ExitCode;

use fanblade_ring::{Descriptor, LANES, Lane, Reader, SubjectId};
use serde::Serialize;

use super::find::Tapped;
use super::shared::{age_ns, print_json};
use super::subjects;
use crate::terminal::{figures, out};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Info {
    pid: u32,
    command: String,
    path: String,
    epoch: String,
    /// 1 for the ring's first epoch.
    generation: u32,
    epoch_start_index: u64,
    index_capacity: usize,
    /// Frames at which readers may begin.
    index_kept: u64,
    oldest: Option<Entry>,
    newest: Option<Entry>,
    subjects: u32,
    subjects_capacity: u32,
    frames_published: u64,
    checksums: bool,
    /// The writer is in the middle of a publish. If this stays, it died there.
    publishing: bool,
    lanes: Vec<LaneInfo>,
}

#[derive(Debug, Serialize)]
struct Entry {
    index: u64,
    seq: u64,
    age_ns: u64,
}

#[derive(Debug, Serialize)]
struct LaneInfo {
    lane: &'static str,
    capacity_bytes: usize,
    /// Bytes of the frames at which readers may begin.
    kept_bytes: u64,
    /// Bytes of the newest frames of all subjects.
    live_bytes: u64,
}

pub(super) fn main(args: &Args, tapped: &Tapped) -> anyhow::Result<ExitCode> {
    let info = Info::of(tapped);
    let mut out = out::stdout();
    if args.json {
        print_json(&mut out, &info)?;
    } else {
        print(&mut out, &info)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Info {
    fn of(tapped: &Tapped) -> Info {
        let reader = &tapped.reader;
        let (generation, epoch) = reader.epoch();
        let (oldest_at, tail) = (reader.oldest(), reader.tail());
        let oldest = oldest_at.until(tail).find_map(|index| reader.descriptor(index).ok());
        let newest = oldest_at.until(tail).rev().find_map(|index| reader.descriptor(index).ok());
        let mut live = [0; LANES];
        let mut frames_published = 0;
        for id in (0..reader.subject_count()).map(SubjectId) {
            frames_published += reader.subject(id).map_or(0, |subject| subject.frames);
            let newest = subjects::newest(reader, id);
            for (live, frame) in live.iter_mut().zip(newest.iter().flat_map(|newest| &newest.lanes)) {
                *live += u64::from(frame.length);
            }
        }
        Info {
            pid: tapped.pid,
            command: tapped.command.clone(),
            path: tapped.path.display().to_string(),
            epoch,
            generation,
            epoch_start_index: reader.epoch_start().0,
            index_capacity: reader.index_capacity(),
            index_kept: tail.since(oldest_at),
            oldest: oldest.as_ref().map(Entry::of),
            newest: newest.as_ref().map(Entry::of),
            subjects: reader.subject_count(),
            subjects_capacity: reader.subjects_capacity(),
            frames_published,
            checksums: reader.has_checksums(),
            publishing: reader.tail_intent() > reader.tail(),
            lanes: lanes(reader, oldest.as_ref().zip(newest.as_ref()), live),
        }
    }
}

impl Entry {
    fn of(descriptor: &Descriptor) -> Entry {
        Entry { index: descriptor.index.0, seq: descriptor.seq, age_ns: age_ns(descriptor.ts_publish_ns) }
    }
}

/// The lanes that the ring has.
fn lanes(reader: &Reader, ends: Option<(&Descriptor, &Descriptor)>, live: [u64; LANES]) -> Vec<LaneInfo> {
    let mut lanes = Vec::new();
    for (lane, live_bytes) in Lane::ALL.into_iter().zip(live) {
        let capacity_bytes = reader.lane_capacity(lane);
        if capacity_bytes == 0 {
            continue;
        }
        let kept_bytes = ends.map_or(0, |(oldest, newest)| {
            let [from, last] = [oldest, newest].map(|descriptor| descriptor.lanes[lane as usize]);
            last.end().since(from.position)
        });
        lanes.push(LaneInfo { lane: lane.name(), capacity_bytes, kept_bytes, live_bytes });
    }
    lanes
}

fn print(out: &mut impl io::Write, info: &Info) -> io::Result<()> {
    let entry = |entry: &Option<Entry>| match entry {
        None => "none".to_owned(),
        Some(Entry { index, seq, age_ns }) => {
            format!("index {index}, seq {seq}, published {} ago", figures::nanoseconds(*age_ns))
        }
    };
    writeln!(out, "process      {}: {}", info.pid, info.command)?;
    writeln!(out, "ring         {}", info.path)?;
    writeln!(
        out,
        "epoch        {}, number {} of this ring, from index {}",
        info.epoch, info.generation, info.epoch_start_index
    )?;
    writeln!(out, "index        {} of {} descriptors kept", info.index_kept, info.index_capacity)?;
    writeln!(out, "oldest       {}", entry(&info.oldest))?;
    writeln!(out, "newest       {}", entry(&info.newest))?;
    writeln!(out, "subjects     {} of {}", info.subjects, info.subjects_capacity)?;
    writeln!(out, "frames       {} published", info.frames_published)?;
    for LaneInfo { lane, capacity_bytes, kept_bytes, live_bytes } in &info.lanes {
        let [capacity, kept, live] =
            [*capacity_bytes as f64, *kept_bytes as f64, *live_bytes as f64].map(figures::bytes);
        writeln!(
            out,
            "{:<12} {capacity}: {kept} kept, of which the newest of all subjects take {live}",
            format!("lane {lane}")
        )?;
    }
    writeln!(out, "checksums    {}", if info.checksums { "yes" } else { "no" })
}
