//! The one writer: appends frames, and retires old ones ahead of itself.
//!
//! The ring is a log that also is the last-value cache, so it is cleaned as log-structured stores are: before the
//! writer lets go of a frame that is still its subject's newest, it appends a copy ([`REFRESH`]). It does so an eighth
//! of the ring ahead of the bytes that it overwrites, a few frames per publish. That bounds what one publish costs,
//! leaves room for the copy without touching the original, and is the margin that readers have between "do not start
//! with this" and "it is gone".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fanblade_wire::frame::{Opcode, server_header, server_header_len};

use crate::cursor::Extent;
use crate::epoch::Epoch;
use crate::lap::Lap;
use crate::layout::{Layout, RECORD_WORDS, header};
use crate::limits::{
    APPENDED_UNTOLD_MAX, EPOCH_LEN_MAX, MARGIN_DIVISOR, RETIRE_PER_PUBLISH, SUBJECT_LEN_MAX, frame_len_max,
    live_len_hard_max, live_len_max,
};
use crate::mapping::{Access, Mapping, create_memfd, seal};
use crate::news::News;
use crate::table::SubjectTable;
use crate::wake::{Waker, publisher_fence};
use crate::words::{load_bytes, load_record, store_bytes, store_record};
use crate::{
    Descriptor, FrameRef, LANES, Lane, LanePosition, REFRESH, Reader, RingConfig, RingError, RingIndex, SubjectId,
    UnixNs,
};

/// A frame's payload in each lane. Empty: no frame in that lane.
pub type Payloads<'a> = [&'a [u8]; LANES];

/// What `publish` is told about a frame.
#[derive(Debug, Clone, Copy)]
pub struct NewFrame {
    /// The subject that the frame belongs to.
    pub subject: SubjectId,
    /// Its channel.
    pub channel: u16,
    /// Upstream's number; never smaller than the last one in this epoch.
    pub seq: u64,
    /// When the exchange says that it happened.
    pub ts_feed_ns: UnixNs,
    /// Now.
    pub ts_publish_ns: UnixNs,
}

/// What the writer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Frames published, refreshed copies not counted.
    pub published: u64,
    /// Refreshed copies appended.
    pub refreshed: u64,
    /// Publishes and new subjects refused with an error.
    pub refused: u64,
    /// Bytes written per lane, refreshed copies included.
    pub lane_bytes: [u64; LANES],
    /// Bytes that the newest frames of all subjects take per lane.
    pub live_bytes: [u64; LANES],
    /// The most frames that a single publish had to retire; beyond `RETIRE_PER_PUBLISH` it was in a hurry.
    pub retired_burst_max: u64,
}

/// The writing side of a ring. It owns the memfd.
#[derive(Debug)]
pub struct Writer {
    memfd: OwnedFd,
    mapping: Mapping,
    layout: Layout,
    index: Extent<RingIndex>,
    lanes: [Extent<LanePosition>; LANES],
    heads: Vec<Head>,
    generation: u32,
    seq: u64,
    wakers: Vec<Waker>,
    /// Frames since the last look at the sleepers.
    untold: u32,
    stats: WriterStats,
    /// Holds a frame while it is copied. Grows to the largest.
    scratch: Vec<u8>,
}

/// The writer's own notes on a subject's newest frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    index: RingIndex,
    seq: u64,
    generation: u32,
    lengths: [u32; LANES],
}

impl Writer {
    /// Makes a ring. All its memory is allocated here.
    pub fn create(config: &RingConfig, epoch: &str) -> Result<Self, RingError> {
        let layout = Layout::new(config)?;
        let memfd = create_memfd(&layout)?;
        let mapping = Mapping::new(memfd.as_fd(), &layout, Access::ReadWrite)?;
        seal(memfd.as_fd())?;
        let frame_len = layout.lane_len.iter().map(|&len| frame_len_max(len)).max().unwrap_or(0);
        let mut writer = Self {
            memfd,
            mapping,
            index: Extent::new(layout.index_len as u64),
            lanes: layout.lane_len.map(|len| Extent::new(len as u64)),
            heads: Vec::with_capacity(layout.subjects_max as usize),
            generation: 0,
            seq: 0,
            wakers: Vec::new(),
            untold: 0,
            stats: WriterStats::default(),
            scratch: Vec::with_capacity(frame_len),
            layout,
        };
        writer.set_epoch(epoch)?;
        // This comes last: who finds the magic finds everything else.
        layout.write(writer.mapping.words());
        Ok(writer)
    }

    /// A read-only mapping of its own for a thread of this process.
    pub fn open_reader(&self) -> Result<Reader, RingError> {
        Reader::open(self.memfd.as_fd())
    }

    /// The memfd. Other processes open it as /proc/PID/fd/N.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// Creates a subject. The caller knows that its name is new.
    pub fn subject(&mut self, name: &str, channel: u16) -> Result<SubjectId, RingError> {
        let created = self.create_subject(name, channel);
        self.stats.refused += u64::from(created.is_err());
        created
    }

    /// `seq` of the subject's newest frame in this epoch, which is the next frame's `prev`; 0 before the first.
    #[must_use]
    pub fn last_seq(&self, subject: SubjectId) -> u64 {
        self.heads.get(subject.0 as usize).map_or(0, |head| self.link_to(head).0)
    }

    /// Appends a frame, wakes who sleeps, and returns the frame's ring index. The payloads are copied, each with its
    /// frame header in front.
    pub fn publish(&mut self, frame: &NewFrame, payloads: &Payloads<'_>) -> Result<RingIndex, RingError> {
        let index = self.append(frame, payloads)?;
        self.wake();
        Ok(index)
    }

    /// The same, for one of several frames: readers that are awake see it at once, and those that sleep are woken by
    /// [`wake`](Self::wake), which the caller owes them after the last, or by the writer itself after
    /// [`APPENDED_UNTOLD_MAX`] frames.
    pub fn append(&mut self, frame: &NewFrame, payloads: &Payloads<'_>) -> Result<RingIndex, RingError> {
        match self.admit(frame, payloads) {
            Ok((head, lengths)) => {
                let index = self.append_frame(frame, payloads, &head, lengths);
                self.untold += 1;
                if self.untold >= APPENDED_UNTOLD_MAX {
                    self.wake();
                }
                Ok(index)
            }
            Err(error) => {
                self.stats.refused += 1;
                Err(error)
            }
        }
    }

    /// Begins a new numbering: `prev` of each subject's next frame is 0. The old frames remain until they are replaced.
    pub fn set_epoch(&mut self, epoch: &str) -> Result<(), RingError> {
        if epoch.is_empty() || epoch.len() > EPOCH_LEN_MAX {
            return Err(RingError::Epoch(epoch.len()));
        }
        self.generation += 1;
        self.seq = 0;
        for id in (0..).take(self.heads.len()) {
            self.table().set_refused(id, 0);
        }
        self.news().forget_unplaced();
        header::epochs(self.mapping.words()).begin(&Epoch {
            generation: self.generation,
            start: self.index.head(),
            name: epoch.to_owned(),
            floor: 0,
        });
        self.wake();
        Ok(())
    }

    /// Says that frames of numbers up to `seq` may be missing from this epoch's history, because their messages were
    /// lost upstream or came before this blade began: who resumes from below it has not got everything.
    pub fn set_floor(&mut self, seq: u64) {
        header::epochs(self.mapping.words()).raise_floor(seq);
    }

    /// Says whether what is published is the present. Readers that sleep are woken if that is news.
    pub fn set_stale(&mut self, is_stale: bool) {
        if self.news().set_stale(is_stale) {
            self.wake();
        }
    }

    /// Says that update `seq` of a subject could not be published, so that what the ring has of it is not the newest.
    /// Who sleeps is woken by the next [`wake`](Self::wake).
    pub fn note_refused(&mut self, subject: SubjectId, seq: u64) {
        if (subject.0 as usize) < self.heads.len() {
            self.table().set_refused(subject.0, seq);
            self.news().note_refused();
        }
    }

    /// The same of a subject that could not be created.
    pub fn note_unplaced(&mut self, seq: u64) {
        self.news().note_unplaced(seq);
    }

    /// `publish` wakes this worker from now on, if it sleeps.
    pub fn add_waker(&mut self, waker: Waker) {
        self.wakers.push(waker);
    }

    /// Wakes the workers that sleep.
    pub fn wake(&mut self) {
        self.untold = 0;
        if self.wakers.is_empty() {
            return;
        }
        publisher_fence();
        for waker in &self.wakers {
            waker.wake_after_fence();
        }
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        self.stats
    }

    fn create_subject(&mut self, name: &str, channel: u16) -> Result<SubjectId, RingError> {
        if name.is_empty() || name.len() > SUBJECT_LEN_MAX {
            return Err(RingError::SubjectName(name.len()));
        }
        let subjects_max = self.layout.subjects_max;
        let free = u32::try_from(self.heads.len()).ok().filter(|id| *id < subjects_max);
        let id = free.ok_or(RingError::SubjectTableFull(subjects_max))?;
        self.heads.push(Head { index: RingIndex::NONE, seq: 0, generation: 0, lengths: [0; LANES] });
        self.table().create(id, name, channel);
        Ok(SubjectId(id))
    }

    /// Checks all that can refuse a frame before anything changes. Returns the subject's head and the frame's lengths.
    fn admit(&self, frame: &NewFrame, payloads: &Payloads<'_>) -> Result<(Head, [u32; LANES]), RingError> {
        let subject = frame.subject.0;
        let head = *self.heads.get(subject as usize).ok_or(RingError::UnknownSubject(subject))?;
        if frame.seq < self.seq {
            return Err(RingError::SeqBackwards { seq: frame.seq, last: self.seq });
        }
        let is_new = head.index == RingIndex::NONE;
        let mut lengths = [0; LANES];
        for lane in Lane::ALL {
            let n = lane as usize;
            let lane_len = self.layout.lane_len[n];
            if lane_len == 0 || payloads[n].is_empty() {
                continue;
            }
            let len = frame_len(lane, payloads[n].len());
            let max = frame_len_max(lane_len);
            if len > max {
                return Err(RingError::FrameTooLong { lane: lane.name(), len, max });
            }
            let live = self.stats.live_bytes[n] - u64::from(head.lengths[n]) + len as u64;
            let max = (if is_new { live_len_max(lane_len) } else { live_len_hard_max(lane_len) }) as u64;
            if live > max {
                return Err(RingError::LiveBytes { lane: lane.name(), live, max });
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most FRAME_LEN_MAX_BYTES")]
            let length = len as u32;
            lengths[n] = length;
        }
        Ok((head, lengths))
    }

    fn append_frame(
        &mut self,
        frame: &NewFrame,
        payloads: &Payloads<'_>,
        head: &Head,
        lengths: [u32; LANES],
    ) -> RingIndex {
        self.make_room(&lengths);
        // Making room may have moved the subject's newest frame.
        let moved = Head { index: self.heads[frame.subject.0 as usize].index, ..*head };
        let (prev, prev_index) = self.link_to(&moved);
        let index = self.claim(&lengths);
        let lanes = std::array::from_fn(|n| self.store_frame(Lane::ALL[n], payloads[n], lengths[n]));
        let NewFrame { subject, channel, seq, ts_feed_ns, ts_publish_ns } = *frame;
        for (n, length) in lengths.iter().enumerate() {
            self.stats.live_bytes[n] += u64::from(*length);
            self.stats.live_bytes[n] -= u64::from(head.lengths[n]);
        }
        self.heads[subject.0 as usize] = Head { index, seq, generation: self.generation, lengths };
        self.seq = seq;
        self.stats.published += 1;
        self.table().count_frame(subject.0);
        self.commit(&Descriptor {
            index,
            seq,
            prev,
            prev_index,
            ts_feed_ns,
            ts_publish_ns,
            subject,
            channel,
            flags: 0,
            origin: index,
            lanes,
        });
        index
    }

    /// Retires frames until one of these lengths and a refreshed copy of any other fit, and a few more for the next
    /// publish.
    fn make_room(&mut self, lengths: &[u32; LANES]) {
        let mut retired = 0;
        while self.is_short(lengths) || (retired < RETIRE_PER_PUBLISH && self.is_low()) {
            self.retire_oldest();
            retired += 1;
        }
        self.stats.retired_burst_max = self.stats.retired_burst_max.max(u64::from(retired));
    }

    /// Is there no room for frames of these lengths and a refreshed copy of any other? Retiring frames always ends
    /// that: those that are not refreshed leave room, and the live ones leave three eighths of each lane
    /// (`live_len_hard_max`) and half of the index (`Layout::new`).
    fn is_short(&self, lengths: &[u32; LANES]) -> bool {
        let short = |n: usize| self.lanes[n].room() < self.reserve(n) + u64::from(lengths[n]);
        self.index.room() < 2 || (0..LANES).any(short)
    }

    /// Does the margin begin to be used up?
    fn is_low(&self) -> bool {
        let margin = |capacity: u64| capacity / MARGIN_DIVISOR;
        let low = |n: usize| self.lanes[n].room() < self.reserve(n) + margin(self.lanes[n].capacity());
        self.index.room() < 2 + margin(self.index.capacity()) || (0..LANES).any(low)
    }

    /// Bytes that a refreshed copy may need.
    fn reserve(&self, lane: usize) -> u64 {
        frame_len_max(self.layout.lane_len[lane]) as u64
    }

    /// Retires the oldest frame; if it is its subject's newest, after appending a copy, for which `is_short` keeps
    /// room.
    fn retire_oldest(&mut self) {
        let oldest = self.index.oldest();
        let descriptor = self.read_descriptor(oldest);
        if self.heads[descriptor.subject.0 as usize].index == oldest {
            self.refresh(&descriptor);
        }
        self.index.retire_to(oldest.next());
        for (lane, frame) in self.lanes.iter_mut().zip(&descriptor.lanes) {
            lane.retire_to(frame.end());
        }
        self.lap().retire(oldest.next());
    }

    fn refresh(&mut self, old: &Descriptor) {
        let index = self.claim(&old.lanes.map(|frame| frame.length));
        let mut lanes = old.lanes;
        for (n, frame) in lanes.iter_mut().enumerate() {
            frame.position = self.lanes[n].head();
            self.scratch.clear();
            let words = self.mapping.lane(Lane::ALL[n]);
            if frame.length > 0 {
                load_bytes(words, old.lanes[n].position, frame.length as usize, &mut self.scratch);
                store_bytes(words, frame.position, &self.scratch);
            }
            self.append_bytes(n, frame.length);
        }
        self.heads[old.subject.0 as usize].index = index;
        self.stats.refreshed += 1;
        self.commit(&Descriptor { index, flags: old.flags | REFRESH, lanes, ..*old });
    }

    /// Says in the header what the next frame will overwrite. Only after that may it be written.
    fn claim(&mut self, lengths: &[u32; LANES]) -> RingIndex {
        let index = self.index.head();
        while self.index.overwrites(1) || (0..LANES).any(|n| self.lanes[n].overwrites(u64::from(lengths[n]))) {
            let released = self.index.intact();
            let (fields, _) = self.layout.slot(self.mapping.words(), released);
            let ends = Descriptor::from_record(released, &load_record(fields)).lanes;
            self.index.release_to(released.next());
            for (lane, frame) in self.lanes.iter_mut().zip(&ends) {
                lane.release_to(frame.end());
            }
        }
        self.lap().claim(self.index.intact(), index.next());
        index
    }

    fn store_frame(&mut self, lane: Lane, payload: &[u8], length: u32) -> FrameRef {
        let n = lane as usize;
        let position = self.lanes[n].head();
        if length == 0 {
            return FrameRef { position, length, crc: 0 };
        }
        let words = self.mapping.lane(lane);
        let (header, header_len) = frame_header(lane, payload.len());
        let header = &header[..header_len];
        store_bytes(words, position, header);
        store_bytes(words, position.plus(header_len as u64), payload);
        let crc = if self.layout.checksums {
            let mut crc = crc32fast::Hasher::new();
            crc.update(header);
            crc.update(payload);
            crc.finalize()
        } else {
            0
        };
        self.append_bytes(n, length);
        FrameRef { position, length, crc }
    }

    fn append_bytes(&mut self, lane: usize, length: u32) {
        self.lanes[lane].append(u64::from(length));
        self.stats.lane_bytes[lane] += u64::from(length);
    }

    /// Makes a claimed and written frame visible: its descriptor, then the subject table, then `tail`.
    fn commit(&mut self, descriptor: &Descriptor) {
        let words = self.mapping.words();
        let (fields, stamp) = self.layout.slot(words, descriptor.index);
        store_record(fields, stamp, &descriptor.to_record(), descriptor.index.stamp());
        self.table().set_newest(descriptor.subject.0, descriptor.index);
        self.index.append(1);
        self.lap().commit(self.index.head());
    }

    /// `prev` and `prev_index` for a frame that follows this head.
    fn link_to(&self, head: &Head) -> (u64, RingIndex) {
        if head.index != RingIndex::NONE && head.generation == self.generation {
            (head.seq, head.index)
        } else {
            (0, RingIndex::NONE)
        }
    }

    fn read_descriptor(&self, index: RingIndex) -> Descriptor {
        let (fields, _) = self.layout.slot(self.mapping.words(), index);
        Descriptor::from_record(index, &load_record::<RECORD_WORDS>(fields))
    }

    fn table(&self) -> SubjectTable<'_> {
        SubjectTable::new(self.mapping.words(), &self.layout)
    }

    fn news(&self) -> News<'_> {
        header::news(self.mapping.words())
    }

    fn lap(&self) -> Lap<'_> {
        header::lap(self.mapping.words())
    }
}

fn frame_len(lane: Lane, payload_len: usize) -> usize {
    match lane {
        Lane::Json | Lane::Binary | Lane::Deflate => server_header_len(payload_len) + payload_len,
        Lane::Sse => payload_len,
    }
}

fn frame_header(lane: Lane, payload_len: usize) -> ([u8; 10], usize) {
    match lane {
        Lane::Json => server_header(Opcode::Text, payload_len),
        Lane::Binary => server_header(Opcode::Binary, payload_len),
        Lane::Deflate => {
            let (mut header, len) = server_header(Opcode::Text, payload_len);
            // RFC 7692, section 6: "set the RSV1 bit of the first frame".
            header[0] |= 0x40;
            (header, len)
        }
        Lane::Sse => ([0; 10], 0),
    }
}
