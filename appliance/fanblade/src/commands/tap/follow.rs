//! `fanblade tap follow`: frames as they are published.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fanblade_ring::limits::FRAME_LEN_MAX_BYTES;
use fanblade_ring::{Descriptor, Lane, Reader, RingIndex, SubjectId};
use fanblade_wire::client::ServerFrames;

use super::find::Tapped;
use super::shared::{ended, pattern};
use super::walk::Walk;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What: /NASDAQ/AAPL/bbo, /NASDAQ/*/trade, /NASDAQ/**
    #[arg(value_parser = pattern)]
    subject: String,
    /// JSON frames as they are, or binary frames in hexadecimal after subject and number
    #[arg(long, value_enum, default_value_t = Encoding::Json)]
    lane: Encoding,
    /// Begin with what the ring still holds, not with what comes next
    #[arg(long)]
    history: bool,
    /// Stop after this many frames
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    limit: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Encoding {
    Json,
    Binary,
}

pub(super) fn main(args: &Args, mut tapped: Tapped) -> anyhow::Result<ExitCode> {
    let lane = match args.lane {
        Encoding::Json => Lane::Json,
        Encoding::Binary => Lane::Binary,
    };
    if tapped.reader.lane_capacity(lane) == 0 {
        bail!("this ring has no lane {}", lane.name());
    }
    let interrupt = Interrupt::watch().context("signals")?;
    let deadline = args.limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut out = io::BufWriter::new(out::stdout());
    let mut follower = Follower::new(&tapped.reader, args, lane);
    out::tell(format_args!(
        "following {} from index {}, epoch {}",
        args.subject,
        follower.walk.next(),
        tapped.reader.epoch().1
    ));
    let mut is_over = false;
    let code = loop {
        follower.pass(&tapped.reader, &mut out)?;
        out.flush()?;
        if follower.is_full() || interrupt.has_come() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break ExitCode::SUCCESS;
        }
        if is_over {
            break ended(&tapped);
        }
        // One more pass after the blade has ended: what it published last is still in the ring.
        is_over = tapped.life.is_over();
        std::thread::sleep(STEP);
    };
    out::tell(format_args!("{}", follower.counts));
    Ok(if follower.counts.damaged > 0 { ExitCode::FAILURE } else { code })
}

/// Picks the frames of the wanted subjects, each once and in order.
struct Follower {
    pattern: String,
    lane: Lane,
    count: Option<u64>,
    walk: Walk,
    /// Frames first published before this index are not shown.
    from: RingIndex,
    generation: u32,
    /// Indexed by subject id, for as many subjects as the table has shown.
    subjects: Vec<Followed>,
    counts: Counts,
    frame: Vec<u8>,
}

/// What is known of a subject.
#[derive(Debug, Default, Clone, Copy)]
struct Followed {
    is_wanted: Option<bool>,
    /// The index after the one at which its last frame was first published; 0: none yet.
    shown_to: RingIndex,
    /// The number of its last frame.
    seq: u64,
}

/// The counts that are printed at the end.
#[derive(Debug, Default)]
struct Counts {
    frames: u64,
    overtaken: u64,
    gaps: u64,
    damaged: u64,
}

impl Follower {
    fn new(reader: &Reader, args: &Args, lane: Lane) -> Follower {
        let tail = reader.tail();
        // Without this hint a user who mistyped the name would wait in vain.
        let known = |id| reader.subject(SubjectId(id)).is_some_and(|known| *known.name == args.subject);
        if !fanblade_ring::subject::is_pattern(&args.subject) && !(0..reader.subject_count()).any(known) {
            out::tell(format_args!("{} does not exist yet; `fanblade tap subjects` lists what does", args.subject));
        }
        Follower {
            pattern: args.subject.clone(),
            lane,
            count: args.count,
            walk: Walk::from(if args.history { reader.oldest() } else { tail }),
            from: if args.history { RingIndex::default() } else { tail },
            generation: reader.generation(),
            subjects: Vec::new(),
            counts: Counts::default(),
            frame: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.count.is_some_and(|count| self.counts.frames >= count)
    }

    fn pass(&mut self, reader: &Reader, out: &mut impl Write) -> anyhow::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        if reader.generation() != self.generation {
            let (generation, epoch) = reader.epoch();
            out::tell(format_args!("a new epoch: {epoch}, from index {}", reader.epoch_start()));
            self.generation = generation;
        }
        let mut walk = self.walk;
        let mut result = Ok(());
        let overtaken = walk.pass(reader, |descriptor| {
            result = self.take(reader, descriptor, out);
            if result.is_err() || self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.walk = walk;
        self.overtaken(overtaken);
        result
    }

    fn overtaken(&mut self, entries: u64) {
        if entries > 0 {
            self.counts.overtaken += entries;
            out::tell(format_args!(
                "overtaken by the writer: {entries} entries of the ring, of any subjects, were not read"
            ));
        }
    }

    fn take(&mut self, reader: &Reader, descriptor: &Descriptor, out: &mut impl Write) -> anyhow::Result<()> {
        let id = descriptor.subject.0 as usize;
        if id >= reader.subjects_capacity() as usize {
            return Ok(());
        }
        if id >= self.subjects.len() {
            self.subjects.resize(id + 1, Followed::default());
        }
        let Some(followed) = self.subjects.get_mut(id) else { return Ok(()) };
        // The writer carries a copy of a quiet subject's newest frame along. The copy is shown only if the frame itself
        // was not: in the history, or after this reader was overtaken.
        let is_news = descriptor.origin >= self.from.max(followed.shown_to);
        if !is_news || !followed.is_wanted(reader, descriptor.subject, &self.pattern) {
            return Ok(());
        }
        self.frame.clear();
        if reader.copy_frame(descriptor, self.lane, &mut self.frame).is_err() {
            self.overtaken(1);
            return Ok(());
        }
        let is_gap =
            followed.shown_to > RingIndex::default() && descriptor.prev != 0 && descriptor.prev != followed.seq;
        let last_seq = followed.seq;
        (followed.shown_to, followed.seq) = (descriptor.origin.next(), descriptor.seq);
        let Some(subject) = reader.subject(descriptor.subject) else { return Ok(()) };
        let Descriptor { seq, prev, index, .. } = descriptor;
        if is_gap {
            self.counts.gaps += 1;
            out::tell(format_args!("{}: a gap between {last_seq} and {prev}, the number before {seq}", subject.name));
        }
        if !reader.checksum_agrees(descriptor, self.lane, &self.frame) {
            self.counts.damaged += 1;
            out::tell(format_args!(
                "{}: the frame with number {seq} at index {index} is damaged: its checksum does not agree",
                subject.name
            ));
        }
        if self.frame.is_empty() {
            return Ok(());
        }
        self.counts.frames += 1;
        match self.print(&subject.name, *seq, out)? {
            true => Ok(()),
            false => {
                self.counts.damaged += 1;
                out::tell(format_args!(
                    "{}: the entry with number {seq} at index {index} is not a WebSocket frame",
                    subject.name
                ));
                Ok(())
            }
        }
    }

    /// Prints the frame's payload as a line. False: it is no WebSocket frame.
    fn print(&self, subject: &str, seq: u64, out: &mut impl Write) -> anyhow::Result<bool> {
        let mut frames = ServerFrames::new(FRAME_LEN_MAX_BYTES);
        let mut written = Ok(());
        let is_frame = frames.push(&self.frame, |_, payload| {
            written = match self.lane {
                Lane::Binary => {
                    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                    writeln!(out, "{subject} {seq} {hex}")
                }
                _ => out.write_all(payload).and_then(|()| out.write_all(b"\n")),
            };
        });
        written?;
        Ok(is_frame.is_ok() && frames.is_between_frames())
    }
}

impl Followed {
    fn is_wanted(&mut self, reader: &Reader, id: SubjectId, pattern: &str) -> bool {
        let matches =
            || reader.subject(id).is_some_and(|subject| fanblade_ring::subject::matches(pattern, &subject.name));
        *self.is_wanted.get_or_insert_with(matches)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { frames, overtaken, gaps, damaged } = self;
        write!(f, "{frames} frames, {gaps} gaps, {overtaken} entries of the ring not read")?;
        if *damaged > 0 {
            write!(f, ", {damaged} damaged")?;
        }
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// Interval between two reads of the ring's end.
const STEP: Duration = Duration::from_millis(1);
