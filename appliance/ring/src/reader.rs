//! A reader: looks things up, uses them, and asks afterwards whether they were still there.

use std::os::fd::BorrowedFd;

use crate::epoch::Epochs;
use crate::lap::Lap;
use crate::layout::{Layout, header};
use crate::mapping::{Access, Mapping, read_layout};
use crate::news::{Currency, News, Unplaced};
use crate::sync::load_acquire;
use crate::table::{Subject, SubjectTable};
use crate::words::{load_bytes, load_record};
use crate::{Descriptor, Lane, LanePosition, Lapped, RingError, RingIndex, SubjectId};

/// The reading side of a ring: a read-only mapping.
#[derive(Debug)]
pub struct Reader {
    mapping: Mapping,
    layout: Layout,
}

impl Reader {
    /// Maps the ring in `fd` (a memfd of a [`Writer`](crate::Writer), or /proc/PID/fd/N of one). Magic, version,
    /// capacities, size and seals are checked. The descriptor is not needed afterwards.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, RingError> {
        let layout = read_layout(fd)?;
        let mapping = Mapping::new(fd, &layout, Access::ReadOnly)?;
        Ok(Self { mapping, layout })
    }

    /// The ring index that the next frame will have.
    #[must_use]
    pub fn tail(&self) -> RingIndex {
        self.lap().tail()
    }

    /// The oldest index to begin with. The writer overwrites an eighth of the ring before it comes here, and every
    /// subject's newest frame lies at or after it.
    #[must_use]
    pub fn oldest(&self) -> RingIndex {
        self.lap().oldest()
    }

    /// Has the writer retired this frame, so that it may be overwritten while the kernel copies it? Not a validation,
    /// which only [`is_intact`](Self::is_intact) after use can give; a reason not to begin.
    #[must_use]
    pub fn near_edge(&self, index: RingIndex) -> bool {
        index < self.oldest()
    }

    /// After use: was all that was read of frame `index` (descriptor and bytes, in any lane) still that frame?
    #[must_use]
    pub fn is_intact(&self, index: RingIndex) -> bool {
        self.lap().is_intact(index)
    }

    /// Index after the frame that the writer works on; `tail() + 1` for good means that it died within a publish.
    #[must_use]
    pub fn tail_intent(&self) -> RingIndex {
        self.lap().tail_intent()
    }

    /// A validated copy of a frame's descriptor. [`Lapped`] if it is overwritten or not yet written.
    pub fn descriptor(&self, index: RingIndex) -> Result<Descriptor, Lapped> {
        let (fields, stamp) = self.layout.slot(self.mapping.words(), index);
        if load_acquire(stamp) != index.stamp() {
            return Err(Lapped);
        }
        let descriptor = Descriptor::from_record(index, &load_record(fields));
        if self.is_intact(index) { Ok(descriptor) } else { Err(Lapped) }
    }

    /// Address of a lane's byte `position`; a whole lane's length from there is mapped and never wraps. Reading it
    /// races with the writer: leave that to the kernel (or [`copy_frame`](Self::copy_frame)), and ask
    /// [`is_intact`](Self::is_intact) afterwards. Valid as long as the reader. Null for a lane that was not made.
    #[must_use]
    pub fn frame_ptr(&self, lane: Lane, position: LanePosition) -> *const u8 {
        self.mapping.lane_ptr(lane, position)
    }

    /// Bytes in a lane; 0 if it was not made.
    #[must_use]
    pub fn lane_capacity(&self, lane: Lane) -> usize {
        self.mapping.lane_len(lane)
    }

    /// Descriptors in the index.
    #[must_use]
    pub fn index_capacity(&self) -> usize {
        self.layout.index_len
    }

    /// Places in the subject table.
    #[must_use]
    pub fn subjects_capacity(&self) -> u32 {
        self.layout.subjects_max
    }

    /// Do descriptors hold checksums?
    #[must_use]
    pub fn has_checksums(&self) -> bool {
        self.layout.checksums
    }

    /// Appends a frame's bytes to `out`, whole or (lapped) not at all.
    pub fn copy_frame(&self, descriptor: &Descriptor, lane: Lane, out: &mut Vec<u8>) -> Result<(), Lapped> {
        self.copy_frame_from(descriptor, lane, 0, out)
    }

    /// The same without the frame's first `skip` bytes: what a partial write has left.
    pub fn copy_frame_from(
        &self,
        descriptor: &Descriptor,
        lane: Lane,
        skip: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Lapped> {
        let frame = descriptor.lanes[lane as usize];
        let len = (frame.length as usize).saturating_sub(skip);
        if len == 0 {
            return Ok(());
        }
        // Before any byte is copied: a descriptor of another ring must not make us index outside of this one's lanes.
        if len > self.lane_capacity(lane) {
            return Err(Lapped);
        }
        let start = out.len();
        let from = LanePosition(frame.position.0.wrapping_add(skip as u64));
        load_bytes(self.mapping.lane(lane), from, len, out);
        if self.is_intact(descriptor.index) {
            Ok(())
        } else {
            out.truncate(start);
            Err(Lapped)
        }
    }

    /// Are `bytes` what the writer put into this lane? True where the ring has no checksums, or the lane no frame.
    #[must_use]
    pub fn checksum_agrees(&self, descriptor: &Descriptor, lane: Lane, bytes: &[u8]) -> bool {
        let frame = descriptor.lanes[lane as usize];
        !self.has_checksums() || frame.length == 0 || crc32fast::hash(bytes) == frame.crc
    }

    /// Subjects in the table; ids are below it.
    #[must_use]
    pub fn subject_count(&self) -> u32 {
        self.table().count()
    }

    /// A subject by its id.
    #[must_use]
    pub fn subject(&self, id: SubjectId) -> Option<Subject> {
        self.table().read(id.0)
    }

    /// Ring index of a subject's newest frame, without copying its name. If its descriptor is lapped, ask again.
    #[must_use]
    pub fn newest(&self, id: SubjectId) -> Option<RingIndex> {
        self.table().newest(id.0)
    }

    /// The epoch's generation (1 for the first) and name. A pass compares [`generation`](Self::generation) first.
    #[must_use]
    pub fn epoch(&self) -> (u32, String) {
        let epoch = self.epochs().read();
        (epoch.generation, epoch.name)
    }

    /// Grows with each epoch.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.epochs().generation()
    }

    /// Ring index of the current epoch's first frame. A refreshed copy belongs to its `origin`'s epoch.
    #[must_use]
    pub fn epoch_start(&self) -> RingIndex {
        self.epochs().read().start
    }

    /// The current epoch's history is whole for numbers above this one.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.epochs().read().floor
    }

    /// Changes whenever [`currency`](Self::currency), [`refused_count`](Self::refused_count) or
    /// [`unplaced`](Self::unplaced) does, so that one word is enough to look at.
    #[must_use]
    pub fn news(&self) -> u64 {
        self.beside().count()
    }

    /// Is what is published the present?
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.beside().currency()
    }

    /// How many updates the writer has been told to note as refused.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.beside().refused()
    }

    /// The number of a subject's newest update that was refused in this epoch; 0 if none was. Above the number of its
    /// newest frame, that frame is not the newest value.
    #[must_use]
    pub fn refused(&self, id: SubjectId) -> u64 {
        self.table().refused(id.0)
    }

    /// Updates of subjects that the table has no place for.
    #[must_use]
    pub fn unplaced(&self) -> Unplaced {
        self.beside().unplaced()
    }

    /// Ring index of the first frame of the current epoch with a higher number than `seq`, among those not retired;
    /// `None` if there is none. Refreshed copies, which repeat old numbers, are stepped over.
    #[must_use]
    pub fn seek_seq(&self, seq: u64) -> Option<RingIndex> {
        let (mut low, mut high) = (self.epoch_start().max(self.oldest()), self.tail());
        let mut found = None;
        // Invariant: ordinary frames before `low` are not above `seq` (or gone), those from `high` on are, and `found`
        // is the first of these.
        while low < high {
            let middle = low.plus(high.since(low) / 2);
            match self.first_original(middle, high) {
                None => high = middle,
                Some(original) if original.seq > seq => {
                    found = Some(original.index);
                    high = middle;
                }
                Some(original) => low = original.index.next(),
            }
        }
        found
    }

    /// The lowest number of the current epoch that is not retired.
    #[must_use]
    pub fn oldest_seq(&self) -> Option<u64> {
        let from = self.epoch_start().max(self.oldest());
        Some(self.first_original(from, self.tail())?.seq)
    }

    /// The first descriptor in `from..to` that is no refreshed copy. What is lapped meanwhile does not count.
    fn first_original(&self, from: RingIndex, to: RingIndex) -> Option<Descriptor> {
        from.until(to).filter_map(|index| self.descriptor(index).ok()).find(|descriptor| !descriptor.is_refresh())
    }

    fn beside(&self) -> News<'_> {
        header::news(self.mapping.words())
    }

    fn epochs(&self) -> Epochs<'_> {
        header::epochs(self.mapping.words())
    }

    fn table(&self) -> SubjectTable<'_> {
        SubjectTable::new(self.mapping.words(), &self.layout)
    }

    fn lap(&self) -> Lap<'_> {
        header::lap(self.mapping.words())
    }
}
