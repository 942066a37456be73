//! What a machine wrote to its disk, in order and with its flushes, as QEMU's `blklogwrites` records it; and the disk
//! as it is if the power fails after any of these writes.
//!
//! The format is that of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// A whole log; the data stays in its file.
pub(super) struct Log {
    file: File,
    pub(super) entries: Vec<Entry>,
}

/// One entry. A flush makes durable what the entries before it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Bytes of the disk.
    pub(super) range: Range<u64>,
    pub(super) source: Source,
    pub(super) is_flush: bool,
    /// Durable by itself (force unit access).
    pub(super) is_durable: bool,
}

/// Where a range's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// This many bytes into the log.
    Log(u64),
    /// Discarded. What a disk then reads is its own affair; QEMU's reads zeros.
    Zeros,
}

impl Source {
    /// The source of what lies this many bytes further on.
    fn after(self, len: u64) -> Source {
        match self {
            Source::Log(at) => Source::Log(at + len),
            Source::Zeros => Source::Zeros,
        }
    }
}

impl Log {
    /// Reads the entries' headers. The error names the entry that is wrong.
    pub(super) fn open(path: &Path) -> anyhow::Result<Log> {
        Log::read(path).with_context(|| format!("the write log {}", path.display()))
    }

    fn read(path: &Path) -> anyhow::Result<Log> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0).context("no log: it has no superblock")?;
        let (magic, version, count) = (word(&head, 0), word(&head, 8), word(&head, 16));
        let sector = u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]]));
        ensure!(magic == MAGIC, "no log: it begins with {magic:#x}, not with {MAGIC:#x}");
        ensure!(version == VERSION, "version {version}; this reader knows version {VERSION}");
        ensure!(sector.is_power_of_two() && sector >= SECTOR, "sectors of {sector} bytes");
        let (mut entries, mut at) = (Vec::new(), sector);
        for number in 0..count {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at).with_context(|| format!("it ends before entry {number} of {count}"))?;
            let (first, sectors, flags) = (word(&head, 0), word(&head, 8), word(&head, 16));
            let bytes = |sectors: u64| sectors.checked_mul(sector);
            let range = bytes(first).zip(first.checked_add(sectors).and_then(bytes)).map(|(start, end)| start..end);
            let range = range.with_context(|| format!("entry {number} of {count}: {sectors} sectors from {first}"))?;
            ensure!(flags & !FLAGS == 0, "entry {number} of {count}: unknown flags {flags:#x}");
            at += sector;
            let source = if flags & DISCARD == 0 { Source::Log(at) } else { Source::Zeros };
            if source != Source::Zeros {
                at = at.saturating_add(range.end - range.start);
                ensure!(at <= len, "it ends within entry {number} of {count}");
            }
            entries.push(Entry { range, source, is_flush: flags & FLUSH != 0, is_durable: flags & FUA != 0 });
        }
        Ok(Log { file, entries })
    }

    /// The entries between two flushes, one range for each window: a disk may have kept any of a window's writes when
    /// the power fails within it, and has kept all of the windows before.
    pub(super) fn windows(&self) -> Vec<Range<usize>> {
        let flushes = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_flush).map(|(index, _)| index);
        let ends: Vec<usize> = flushes.chain([self.entries.len()]).collect();
        let starts = [0].into_iter().chain(ends.iter().copied());
        starts.zip(ends.iter().copied()).map(|(start, end)| start..end).filter(|window| !window.is_empty()).collect()
    }
}

/// A disk: what it held at first, and what was written since. A clone costs no bytes of the disk.
#[derive(Clone)]
pub(super) struct Disk<'a> {
    base: &'a File,
    log: &'a Log,
    /// In bytes.
    pub(super) len: u64,
    /// By their first byte: the byte after the last one, and the source. They do not overlap.
    written: BTreeMap<u64, (u64, Source)>,
}

impl<'a> Disk<'a> {
    /// A disk of `len` bytes that begins as `base`, and with zeros after it.
    pub(super) fn new(base: &'a File, log: &'a Log, len: u64) -> Disk<'a> {
        Disk { base, log, len, written: BTreeMap::new() }
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        self.write(entry.range.clone(), entry.source);
    }

    /// Applies only some of an entry's sectors, as a disk does that loses power in the middle.
    pub(super) fn tear(&mut self, entry: &Entry, mut has_sector: impl FnMut() -> bool) {
        for at in entry.range.clone().step_by(SECTOR_LEN) {
            if has_sector() {
                self.write(at..at + SECTOR, entry.source.after(at - entry.range.start));
            }
        }
    }

    fn write(&mut self, range: Range<u64>, source: Source) {
        if range.is_empty() {
            return;
        }
        // Whatever begins before and reaches in or beyond keeps its ends.
        if let Some((&start, &(end, old))) = self.written.range(..range.start).next_back()
            && end > range.start
        {
            self.written.insert(start, (range.start, old));
            if end > range.end {
                self.written.insert(range.end, (end, old.after(range.end - start)));
            }
        }
        let inner: Vec<u64> = self.written.range(range.clone()).map(|(&start, _)| start).collect();
        for start in inner {
            if let Some((end, old)) = self.written.remove(&start)
                && end > range.end
            {
                self.written.insert(range.end, (end, old.after(range.end - start)));
            }
        }
        self.written.insert(range.start, (range.end, source));
    }

    /// What was written to a range. Two disks for which it is the same hold the same bytes there.
    pub(super) fn content(&self, range: &Range<u64>) -> Vec<(Range<u64>, Source)> {
        let before = self.written.range(..range.start).next_back();
        let within = self.written.range(range.clone());
        let clipped = before.into_iter().chain(within).filter_map(|(&start, &(end, source))| {
            let part = start.max(range.start)..end.min(range.end);
            (!part.is_empty()).then(|| (part.clone(), source.after(part.start - start)))
        });
        clipped.collect()
    }

    /// Fills `buffer` with what lies at a byte of the disk.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> std::io::Result<()> {
        let end = at + buffer.len() as u64;
        let mut filled = 0;
        while filled < buffer.len() {
            // Beyond its end, the base holds zeros.
            let len = self.base.read_at(&mut buffer[filled..], at + filled as u64)?;
            if len == 0 {
                buffer[filled..].fill(0);
                break;
            }
            filled += len;
        }
        for (part, source) in self.content(&(at..end)) {
            let [from, to] = [part.start, part.end].map(|byte| usize::try_from(byte - at).unwrap_or(usize::MAX));
            match source {
                Source::Log(offset) => self.log.file.read_exact_at(&mut buffer[from..to], offset)?,
                Source::Zeros => buffer[from..to].fill(0),
            }
        }
        Ok(())
    }

    /// Writes what differs from the base into `file`, which holds the base.
    pub(super) fn store(&self, file: &File) -> anyhow::Result<()> {
        file.set_len(self.len)?;
        let mut file = BufWriter::new(file);
        let mut buffer = vec![0; STORE_LEN];
        for &start in self.written.keys() {
            let (end, _) = self.written[&start];
            file.seek(SeekFrom::Start(start))?;
            for at in (start..end).step_by(STORE_LEN) {
                let part = &mut buffer[..usize::try_from(end - at)?.min(STORE_LEN)];
                self.read(part, at)?;
                file.write_all(part)?;
            }
        }
        Ok(file.flush()?)
    }
}

/// A little-endian word of a header.
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// What a disk writes whole, or not at all.
pub(super) const SECTOR: u64 = 512;
const SECTOR_LEN: usize = 512;
const STORE_LEN: usize = 1 << 20;
const MAGIC: u64 = 0x6a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
const FLAGS: u64 = FLUSH | FUA | DISCARD | MARK;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A log of entries: first sector, flags, bytes (of a discard: only their number counts).
    fn log(entries: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let mut bytes = words(&[MAGIC, VERSION, entries.len() as u64, SECTOR]);
        bytes.resize(SECTOR_LEN, 0);
        for (first, flags, data) in entries {
            let start = bytes.len();
            bytes.extend(words(&[*first, data.len() as u64 / SECTOR, *flags, 0]));
            bytes.resize(start + SECTOR_LEN, 0);
            if flags & DISCARD == 0 {
                bytes.extend(*data);
            }
        }
        bytes
    }

    /// A log without entries.
    pub(in crate::vm) fn empty() -> Log {
        open(&log(&[])).unwrap()
    }

    fn open(bytes: &[u8]) -> anyhow::Result<Log> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, bytes).unwrap();
        Log::open(&path)
    }

    fn refusal(bytes: &[u8]) -> String {
        format!("{:#}", open(bytes).err().expect("it was taken"))
    }

    #[test]
    fn what_is_no_whole_log_is_refused() {
        let whole = log(&[(0, 0, &[1; 1024]), (0, FLUSH, &[])]);
        assert_eq!(open(&whole).unwrap().entries.len(), 2);
        assert!(refusal(b"").contains("no superblock"));
        assert!(refusal(&[7; 512]).contains("it begins with 0x707070707070707"));
        let with = |at: usize, value: u64| {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        assert!(refusal(&with(8, 2)).contains("version 2"));
        assert!(refusal(&with(24, 500)).contains("sectors of 500 bytes"));
        assert!(refusal(&with(512, u64::MAX)).contains("entry 0 of 2: 2 sectors from"));
        assert!(refusal(&with(512 + 16, 16)).contains("entry 0 of 2: unknown flags 0x10"));
        assert!(refusal(&with(512 + 8, 1 << 50)).contains("it ends within entry 0 of 2"));
        assert!(refusal(&whole[..512 + 512 + 1000]).contains("it ends within entry 0 of 2"));
        assert!(refusal(&whole[..512 + 512 + 1024 + 8]).contains("it ends before entry 1 of 2"));
    }

    #[test]
    fn a_window_ends_with_a_flush() {
        let write: &[u8] = &[1; 512];
        let log = log(&[(0, 0, write), (1, FUA, write), (0, FLUSH, &[]), (2, FLUSH, write), (3, MARK, &[])]);
        let log = open(&log).unwrap();
        assert_eq!(log.windows(), [0..2, 2..3, 3..5]);
        let durable: Vec<bool> = log.entries.iter().map(|entry| entry.is_durable).collect();
        assert_eq!(durable, [false, true, false, false, false]);
        assert_eq!(empty().windows(), []);
    }

    #[test]
    fn later_writes_lie_over_earlier_ones() {
        let bytes = log(&[(0, 0, &[1; 2048]), (1, 0, &[2; 512]), (2, DISCARD, &[0; 512]), (5, 0, &[3; 512])]);
        let (log, base) = (open(&bytes).unwrap(), tempfile::tempfile().unwrap());
        base.write_all_at(&[9; 2560], 0).unwrap();
        let mut disk = Disk::new(&base, &log, 4096);
        let sectors = |disk: &Disk<'_>| {
            let mut bytes = [7; 4096];
            disk.read(&mut bytes, 0).unwrap();
            assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            bytes.iter().copied().step_by(512).collect::<Vec<_>>()
        };
        assert_eq!(sectors(&disk), [9, 9, 9, 9, 9, 0, 0, 0]);
        let mut seen = Vec::new();
        for entry in &log.entries {
            disk.apply(entry);
            seen.push(sectors(&disk));
        }
        assert_eq!(seen[1], [1, 2, 1, 1, 9, 0, 0, 0]);
        assert_eq!(seen[3], [1, 2, 0, 1, 9, 3, 0, 0]);
        let mut bytes = [0; 2];
        disk.read(&mut bytes, 511).unwrap();
        assert_eq!(bytes, [1, 2], "across two writes");

        let mut torn = Disk::new(&base, &log, 4096);
        let mut number = 0;
        torn.tear(&log.entries[0], || {
            number += 1;
            number % 2 == 0
        });
        assert_eq!(sectors(&torn), [9, 1, 9, 1, 9, 0, 0, 0]);
        torn.apply(&log.entries[0]);
        assert_eq!(sectors(&torn), [1, 1, 1, 1, 9, 0, 0, 0]);
        let [before, after] = [&disk, &torn].map(|disk| disk.content(&(1536..2560)));
        assert_eq!(before, after, "nothing but the first write reached it");
        assert_ne!(disk.content(&(1024..2560)), torn.content(&(1024..2560)));

        let stored = tempfile::tempfile().unwrap();
        stored.write_all_at(&[9; 2560], 0).unwrap();
        disk.store(&stored).unwrap();
        let mut bytes = [0; 4096];
        stored.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes.iter().copied().step_by(512).collect::<Vec<_>>(), seen[3]);
        assert_eq!(stored.metadata().unwrap().len(), 4096);
    }
}
