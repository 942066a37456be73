//! A disk's partition table (GPT), as the kernel finds it: the first one, or where that is damaged the backup in the
//! disk's last sector (`gpt` on the command line).

use std::ops::Range;

use crate::vm::writes::{Disk, SECTOR};

pub(super) struct Table {
    pub(super) partitions: Vec<Partition>,
    /// The first one is damaged.
    pub(super) is_backup: bool,
}

pub(super) struct Partition {
    pub(super) kind: [u8; 16],
    pub(super) uuid: [u8; 16],
    pub(super) name: String,
    /// Bytes of the disk.
    pub(super) range: Range<u64>,
}

impl Table {
    /// `None`: neither of them is whole.
    pub(super) fn read(disk: &Disk<'_>) -> std::io::Result<Option<Table>> {
        for (sector, is_backup) in [(1, false), (disk.len / SECTOR - 1, true)] {
            if let Some(partitions) = partitions(disk, sector)? {
                return Ok(Some(Table { partitions, is_backup }));
            }
        }
        Ok(None)
    }
}

/// UEFI's specification, 5.3.2 and 5.3.3.
fn partitions(disk: &Disk<'_>, sector: u64) -> std::io::Result<Option<Vec<Partition>>> {
    let mut head = [0; 512];
    disk.read(&mut head, sector * SECTOR)?;
    let checksum = half(&head, 16);
    head[16..20].fill(0);
    if &head[..8] != b"EFI PART" || crc32fast::hash(&head[..92]) != checksum || word(&head, 24) != sector {
        return Ok(None);
    }
    let (first, count, len) = (word(&head, 72), half(&head, 80), half(&head, 84));
    let bytes = u64::from(count) * u64::from(len);
    if len < 128 || bytes > ENTRIES_MAX || first.saturating_mul(SECTOR).saturating_add(bytes) > disk.len {
        return Ok(None);
    }
    let mut entries = vec![0; usize::try_from(bytes).unwrap_or(0)];
    disk.read(&mut entries, first * SECTOR)?;
    if crc32fast::hash(&entries) != half(&head, 88) {
        return Ok(None);
    }
    let used = entries.chunks_exact(usize::try_from(len).unwrap_or(128)).filter(|entry| entry[..16] != [0; 16]);
    let partition = |entry: &[u8]| {
        let units: Vec<u16> = entry[56..128].chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
        Partition {
            kind: id(entry, 0),
            uuid: id(entry, 16),
            name: String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned(),
            range: word(entry, 32) * SECTOR..(word(entry, 40) + 1) * SECTOR,
        }
    };
    Ok(Some(used.map(partition).collect()))
}

/// A UUID as the table writes it, from its 32 digits.
pub(super) fn uuid(digits: &str) -> Option<[u8; 16]> {
    let mut bytes = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Some(bytes)
}

fn id(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    id
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(half(bytes, at)) | u64::from(half(bytes, at + 4)) << 32
}

/// C12A7328-F81F-11D2-BA4B-00A0C93EC93B, an EFI system partition.
pub(super) const ESP: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// Bytes of a table's entries; 16 KiB are usual.
const ENTRIES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::vm::writes::tests::empty;

    /// Writes a table of one ESP: the header to one sector, the entry to another.
    fn write(file: &std::fs::File, sector: u64, entries_at: u64) {
        let mut entry = [0; 128];
        entry[..16].copy_from_slice(&ESP);
        entry[32..40].copy_from_slice(&8_u64.to_le_bytes());
        entry[40..48].copy_from_slice(&15_u64.to_le_bytes());
        entry[56..60].copy_from_slice(b"e\0s\0");
        let mut head = [0; 92];
        head[..8].copy_from_slice(b"EFI PART");
        head[24..32].copy_from_slice(&sector.to_le_bytes());
        head[72..80].copy_from_slice(&entries_at.to_le_bytes());
        head[80..84].copy_from_slice(&1_u32.to_le_bytes());
        head[84..88].copy_from_slice(&128_u32.to_le_bytes());
        head[88..92].copy_from_slice(&crc32fast::hash(&entry).to_le_bytes());
        let checksum = crc32fast::hash(&head);
        head[16..20].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&head, sector * SECTOR).unwrap();
        file.write_all_at(&entry, entries_at * SECTOR).unwrap();
    }

    #[test]
    fn the_backup_counts_where_the_first_one_is_damaged() {
        let (file, log) = (tempfile::tempfile().unwrap(), empty());
        let read = || Table::read(&Disk::new(&file, &log, 64 * SECTOR)).unwrap();
        assert!(read().is_none(), "an empty disk");
        write(&file, 1, 2);
        write(&file, 63, 60);
        let table = read().unwrap();
        assert!(!table.is_backup);
        let [partition] = table.partitions.as_slice() else { panic!("one partition") };
        assert_eq!((partition.name.as_str(), partition.range.clone()), ("es", 8 * SECTOR..16 * SECTOR));
        file.write_all_at(&[1], 2 * SECTOR + 100).unwrap();
        assert!(read().unwrap().is_backup, "an entry of the first one is damaged");
        file.write_all_at(&[1], 63 * SECTOR + 30).unwrap();
        assert!(read().is_none(), "both headers or entries are damaged");
    }

    #[test]
    fn a_uuid_is_stored_in_three_byte_orders() {
        assert_eq!(uuid("C12A7328F81F11D2BA4B00A0C93EC93B"), Some(ESP));
        assert_eq!(uuid("no"), None);
    }
}
