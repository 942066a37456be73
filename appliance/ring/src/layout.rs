//! Where everything lies in the memfd. No struct is laid over the memory: all of it is atomic words at offsets named
//! here.
//!
//! ```text
//!  byte     header page (4096 bytes)                                     written        read
//!  0x000    u64 magic │ u64 version │ u64 index_len │ u64 subjects_max   once           at open
//!  0x020    u64 lane_len × 4
//!  0x040    u64 flags (1: frames have checksums)
//!  0x080    u64 epoch generation                                         set_epoch      a pass
//!  0x0C0    2 × epoch (64 bytes), generation & 1 picks: u64 start │
//!           u64 name length │ 32 bytes of name │ u64 floor │ u64 0
//!  0x200    u64 intact │ u64 oldest │ u64 tail_intent                    each publish   after use
//!  0x280    u64 tail                                                     each publish   while waiting
//!  0x300    u64 subject count                                            new subject    now and then
//!  0x340    u64 news │ u64 changes × 2 + stale │ u64 refused │            rarely         a turn
//!           u64 newest refused without a place in the table │ u64 the number before the first of these
//!
//!  0x1000   subject table: subjects_max × 192 bytes
//!           +0    128 bytes of name
//!           +128  u64 newest (ring index + 1; 0: none) │ u32 name length, u16 channel, u16 0 │ u64 frames │ u64 refused seq │ 32 bytes 0
//!
//!  aligned  index: index_len × 128 bytes, frame n at n % index_len
//!  to 4096  +0    u64 seq │ u64 prev │ u64 prev_index │ u64 ts_feed_ns │ u64 ts_publish_ns │ u32 subject, u16 channel, u16 flags
//!           +48   4 lanes × ( u64 position │ u32 length, u32 crc )
//!           +112  u64 origin │ u64 stamp (ring index + 1; 0: never written)
//!
//!  aligned  lanes: one after the other, each lane_len bytes; position p at p % lane_len
//!  to 4096
//! ```
//! Numbers are in the host's byte order: the ring never leaves the machine.

use crate::limits::{INDEX_LEN_MAX, INDEX_LEN_MIN, LANE_LEN_MAX};
use crate::sync::{WORD_BYTES, Word};
use crate::{Descriptor, FrameRef, LANES, LanePosition, RingConfig, RingError, RingIndex, SubjectId, UnixNs};

/// "FANRING" and a zero.
pub(crate) const MAGIC: u64 = u64::from_ne_bytes(*b"FANRING\0");

/// The version of the layout drawn above. A reader opens only its own version.
pub(crate) const VERSION: u64 = 2;

pub(crate) const HEADER_LEN: usize = 4096;
pub(crate) const FLAG_CHECKSUMS: u64 = 1;

/// Word offsets in the header page.
pub(crate) mod header {
    use crate::epoch::{EPOCHS_WORDS, Epochs};
    use crate::lap::Lap;
    use crate::news::{NEWS_WORDS, News};
    use crate::sync::Word;

    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 1;
    pub(crate) const INDEX_LEN: usize = 2;
    pub(crate) const SUBJECTS_MAX: usize = 3;
    pub(crate) const LANE_LEN: usize = 4;
    pub(crate) const FLAGS: usize = 8;
    const GENERATION: usize = 0x080 / 8;
    const EPOCHS: usize = 0x0C0 / 8;
    const INTACT: usize = 0x200 / 8;
    const TAIL: usize = 0x280 / 8;
    pub(crate) const SUBJECT_COUNT: usize = 0x300 / 8;
    const NEWS: usize = 0x340 / 8;

    pub(crate) fn lap(words: &[Word]) -> Lap<'_> {
        let [intact, oldest, tail_intent] = [&words[INTACT], &words[INTACT + 1], &words[INTACT + 2]];
        Lap { intact, oldest, tail_intent, tail: &words[TAIL] }
    }

    pub(crate) fn news(words: &[Word]) -> News<'_> {
        News(&words[NEWS..][..NEWS_WORDS])
    }

    pub(crate) fn epochs(words: &[Word]) -> Epochs<'_> {
        Epochs { generation: &words[GENERATION], places: &words[EPOCHS..][..EPOCHS_WORDS] }
    }
}

pub(crate) const SUBJECT_WORDS: usize = 24;
pub(crate) const DESCRIPTOR_WORDS: usize = 16;
/// The descriptor without its stamp.
pub(crate) const RECORD_WORDS: usize = DESCRIPTOR_WORDS - 1;

/// The sizes and offsets that follow from the capacities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) index_len: usize,
    pub(crate) subjects_max: u32,
    pub(crate) lane_len: [usize; LANES],
    pub(crate) checksums: bool,
    /// Offset of the subject table, in words.
    pub(crate) subjects_at: usize,
    /// Offset of the index, in words.
    pub(crate) index_at: usize,
    /// Offset of the lanes, in bytes. What lies before it is mapped once.
    pub(crate) lanes_at: usize,
}

impl RingConfig {
    /// The memory that such a ring takes, in bytes: header, table of subjects, index and lanes.
    ///
    /// # Errors
    /// The capacities do not fit together.
    pub fn bytes(&self) -> Result<usize, RingError> {
        Ok(Layout::new(self)?.file_len())
    }
}

impl Layout {
    pub(crate) fn new(config: &RingConfig) -> Result<Self, RingError> {
        let RingConfig { index_len, lane_len, subjects_max, checksums } = *config;
        if !index_len.is_power_of_two() || !(INDEX_LEN_MIN..=INDEX_LEN_MAX).contains(&index_len) {
            return Err(RingError::Config("index_len must be a power of two from 16 to 67,108,864"));
        }
        if subjects_max == 0 || subjects_max as usize > index_len / 2 {
            // Each subject's newest descriptor stays in the index; the other half is what makes keeping them cheap.
            return Err(RingError::Config("subjects_max must be at least 1 and at most half of index_len"));
        }
        if lane_len.iter().all(|&len| len == 0) {
            return Err(RingError::Config("at least one lane must have a length"));
        }
        let page = page_len();
        let sound = |len: usize| len == 0 || (len.is_power_of_two() && (page..=LANE_LEN_MAX).contains(&len));
        if !lane_len.iter().all(|&len| sound(len)) {
            return Err(RingError::Config("a lane's length must be 0, or a power of two from the page size to 64 GiB"));
        }
        let subjects_len = subjects_max as usize * SUBJECT_WORDS * WORD_BYTES;
        let index_at = (HEADER_LEN + subjects_len).next_multiple_of(page);
        let lanes_at = index_at + (index_len * DESCRIPTOR_WORDS * WORD_BYTES).next_multiple_of(page);
        Ok(Self {
            index_len,
            subjects_max,
            lane_len,
            checksums,
            subjects_at: HEADER_LEN / WORD_BYTES,
            index_at: index_at / WORD_BYTES,
            lanes_at,
        })
    }

    /// The layout that the first words of a ring tell.
    pub(crate) fn read(header_page: &[u8; HEADER_LEN]) -> Result<Self, RingError> {
        let (words, _) = header_page.as_chunks::<WORD_BYTES>();
        let word = |at: usize| words.get(at).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        if word(header::MAGIC) != MAGIC {
            return Err(RingError::Foreign("the magic differs"));
        }
        if word(header::VERSION) != VERSION {
            return Err(RingError::Foreign("the layout version differs"));
        }
        let len = |at: usize| usize::try_from(word(at)).map_err(|_| RingError::Foreign("a capacity is out of range"));
        let mut lane_len = [0; LANES];
        for (lane, value) in lane_len.iter_mut().enumerate() {
            *value = len(header::LANE_LEN + lane)?;
        }
        Self::new(&RingConfig {
            index_len: len(header::INDEX_LEN)?,
            lane_len,
            subjects_max: u32::try_from(word(header::SUBJECTS_MAX))
                .map_err(|_| RingError::Foreign("a capacity is out of range"))?,
            checksums: word(header::FLAGS) & FLAG_CHECKSUMS != 0,
        })
        .map_err(|_| RingError::Foreign("its capacities are impossible"))
    }

    /// Writes the words that [`Layout::read`] reads; the magic last.
    pub(crate) fn write(&self, words: &[Word]) {
        use crate::sync::Ordering::{Relaxed, Release};
        words[header::VERSION].store(VERSION, Relaxed);
        words[header::INDEX_LEN].store(self.index_len as u64, Relaxed);
        words[header::SUBJECTS_MAX].store(u64::from(self.subjects_max), Relaxed);
        for (lane, len) in self.lane_len.iter().enumerate() {
            words[header::LANE_LEN + lane].store(*len as u64, Relaxed);
        }
        words[header::FLAGS].store(if self.checksums { FLAG_CHECKSUMS } else { 0 }, Relaxed);
        words[header::MAGIC].store(MAGIC, Release);
    }

    pub(crate) fn file_len(&self) -> usize {
        self.lanes_at + self.lane_len.iter().sum::<usize>()
    }

    /// A frame's fields in the index, and its stamp.
    pub(crate) fn slot<'a>(&self, words: &'a [Word], index: RingIndex) -> (&'a [Word], &'a Word) {
        let at = self.index_at + index.place(self.index_len) * DESCRIPTOR_WORDS;
        (&words[at..at + RECORD_WORDS], &words[at + RECORD_WORDS])
    }
}

impl Descriptor {
    pub(crate) fn to_record(self) -> [u64; RECORD_WORDS] {
        let mut record = [0; RECORD_WORDS];
        record[0] = self.seq;
        record[1] = self.prev;
        record[2] = self.prev_index.0;
        record[3] = self.ts_feed_ns.0;
        record[4] = self.ts_publish_ns.0;
        record[5] = join(self.subject.0, u32::from(self.channel) | u32::from(self.flags) << 16);
        for (lane, frame) in self.lanes.iter().enumerate() {
            record[6 + 2 * lane] = frame.position.0;
            record[7 + 2 * lane] = join(frame.length, frame.crc);
        }
        record[14] = self.origin.0;
        record
    }

    pub(crate) fn from_record(index: RingIndex, record: &[u64; RECORD_WORDS]) -> Self {
        let (subject, kind) = split(record[5]);
        let mut lanes = [FrameRef::default(); LANES];
        for (lane, frame) in lanes.iter_mut().enumerate() {
            let (length, crc) = split(record[7 + 2 * lane]);
            *frame = FrameRef { position: LanePosition(record[6 + 2 * lane]), length, crc };
        }
        Self {
            index,
            seq: record[0],
            prev: record[1],
            prev_index: RingIndex(record[2]),
            ts_feed_ns: UnixNs(record[3]),
            ts_publish_ns: UnixNs(record[4]),
            subject: SubjectId(subject),
            channel: low_half(kind),
            flags: low_half(kind >> 16),
            origin: RingIndex(record[14]),
            lanes,
        }
    }
}

/// Two u32 in one word, the first at the lower address.
pub(crate) fn join(first: u32, second: u32) -> u64 {
    let (a, b) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
}

pub(crate) fn split(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

/// The lower sixteen bits.
pub(crate) fn low_half(value: u32) -> u16 {
    (value & 0xffff) as u16
}

fn page_len() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|len| usize::try_from(len).ok())
        .unwrap_or(HEADER_LEN)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{HEADER_LEN, Layout, MAGIC, VERSION, header};
    use crate::{Descriptor, FrameRef, LanePosition, RingConfig, RingError, RingIndex, SubjectId, UnixNs};

    fn config() -> RingConfig {
        RingConfig { index_len: 32, lane_len: [4096, 8192, 0, 4096], subjects_max: 16, checksums: true }
    }

    #[test]
    fn regions_follow_each_other_on_page_boundaries() {
        let layout = Layout::new(&config()).unwrap();
        assert_eq!(layout.subjects_at * 8, 4096);
        assert_eq!(layout.index_at * 8, 8192, "16 × 192 bytes of subjects fit one page");
        assert_eq!(layout.lanes_at, 12288, "32 × 128 bytes are one page");
        assert_eq!(layout.file_len(), 12288 + 16384);
    }

    #[test]
    fn a_descriptor_is_128_bytes_in_the_documented_order() {
        let frame = |n: u32| FrameRef { position: LanePosition(u64::from(n) << 33), length: n + 1, crc: n + 2 };
        let descriptor = Descriptor {
            index: RingIndex(77),
            seq: 1,
            prev: 2,
            prev_index: RingIndex::NONE,
            ts_feed_ns: UnixNs(4),
            ts_publish_ns: UnixNs(5),
            subject: SubjectId(0x0403_0201),
            channel: 0x0605,
            flags: 0x0807,
            origin: RingIndex(66),
            lanes: [frame(10), frame(20), frame(30), frame(40)],
        };
        let record = descriptor.to_record();
        assert_eq!(Descriptor::from_record(RingIndex(77), &record), descriptor);
        assert_eq!(
            record[5].to_le_bytes(),
            [1, 2, 3, 4, 5, 6, 7, 8].map(|b: u8| b),
            "u32 subject, u16 channel, u16 flags"
        );
        assert_eq!(record[14], 66);
    }

    #[test]
    fn impossible_configurations_and_foreign_pages_are_named() {
        let refused = |change: fn(&mut RingConfig)| {
            let mut bad = config();
            change(&mut bad);
            assert!(matches!(Layout::new(&bad), Err(RingError::Config(_))), "{bad:?}");
        };
        refused(|c| c.index_len = 33);
        refused(|c| c.index_len = 8);
        refused(|c| c.subjects_max = 17);
        refused(|c| c.subjects_max = 0);
        refused(|c| c.lane_len = [0; 4]);
        refused(|c| c.lane_len[0] = 6000);
        refused(|c| c.lane_len[0] = 2048);
        refused(|c| c.lane_len[0] = 1 << 37);

        let mut page = [0_u8; HEADER_LEN];
        let mut set = |at: usize, value: u64| page[at * 8..at * 8 + 8].copy_from_slice(&value.to_ne_bytes());
        set(header::MAGIC, MAGIC);
        set(header::VERSION, VERSION);
        set(header::INDEX_LEN, 32);
        set(header::SUBJECTS_MAX, 16);
        set(header::LANE_LEN, 4096);
        set(header::LANE_LEN + 1, 8192);
        set(header::LANE_LEN + 3, 4096);
        set(header::FLAGS, 1);
        assert_eq!(Layout::read(&page).unwrap(), Layout::new(&config()).unwrap());
        for (at, wrong) in [(header::MAGIC, 0), (header::VERSION, VERSION + 1), (header::INDEX_LEN, u64::MAX)] {
            let mut other = page;
            other[at * 8..at * 8 + 8].copy_from_slice(&wrong.to_ne_bytes());
            assert!(matches!(Layout::read(&other), Err(RingError::Foreign(_))));
        }
    }
}
