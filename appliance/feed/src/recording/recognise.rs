//! What a file is that is neither a BinaryFILE nor a capture that can be read, by its first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// Says what a file is, and what to do; none if nothing is known of it.
pub(super) fn by_content(path: &Path) -> Option<String> {
    let start = head(File::open(path).ok()?);
    let what = by_magic(&start).or_else(|| text(&start))?;
    let inner = match what {
        GZIP => by_magic(&head(MultiGzDecoder::new(File::open(path).ok()?))),
        _ => None,
    };
    Some(inner.map_or_else(|| what.to_owned(), |inner| format!("a gzip file; what is in it is {inner}")))
}

/// What can be read of the beginning.
fn head(file: impl Read) -> Vec<u8> {
    let mut head = Vec::new();
    // What cannot be read says nothing of its kind.
    let _ = file.take(HEAD_LEN).read_to_end(&mut head);
    head
}

fn by_magic(head: &[u8]) -> Option<&'static str> {
    let is_tar = head.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar"));
    let magic = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| *kind);
    magic.or(is_tar.then_some("a tar archive; unpack it first: tar -xf FILE"))
}

fn text(head: &[u8]) -> Option<&'static str> {
    let is_text = !head.is_empty() && head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    is_text.then_some("text; a BinaryFILE holds messages, each behind its length in two bytes")
}

const HEAD_LEN: u64 = 512;
const TAR_MAGIC_AT: usize = 257;
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";
const GZIP: &str = "a gzip file, but what is in it is no BinaryFILE";
const PCAP: &str = "a packet capture (pcap) that ends within its header";
const IXIA: &str = "a capture of IXIA's; editcap -F pcapng IN OUT makes one that is read";
const MAGICS: [(&[u8], &str); 31] = [
    (b"\xd4\xc3\xb2\xa1", PCAP),
    (b"\xa1\xb2\xc3\xd4", PCAP),
    (b"\x4d\x3c\xb2\xa1", PCAP),
    (b"\xa1\xb2\x3c\x4d", PCAP),
    (b"\x34\xcd\xb2\xa1", PCAP),
    (b"\xa1\xb2\xcd\x34", PCAP),
    (b"\x0a\x0d\x0d\x0a", "a packet capture (pcapng) whose first block cannot be read"),
    (b"snoop\0\0\0", "a capture of Solaris's snoop; editcap -F pcapng IN OUT makes one that is read"),
    (b"btsnoop\0", "a capture of Bluetooth (btsnoop)"),
    (b"GMBU", "a capture of Microsoft's Network Monitor; editcap -F pcapng IN OUT makes one that is read"),
    (b"RTSS", "a capture of Microsoft's Network Monitor; editcap -F pcapng IN OUT makes one that is read"),
    (b"TRSNIFF data", "a capture of the Sniffer; editcap -F pcapng IN OUT makes one that is read"),
    (b"XCP\0", "a capture of the Windows Sniffer; editcap -F pcapng IN OUT makes one that is read"),
    (b"iptrace ", "a capture of AIX's iptrace; editcap -F pcapng IN OUT makes one that is read"),
    (b"\x1c\x00\x01\xac", IXIA),
    (b"\x1c\x00\x01\xab", IXIA),
    (b"\xac\x01\x00\x1c", IXIA),
    (b"\xab\x01\x00\x1c", IXIA),
    (b"PK\x03\x04", "a ZIP archive; only gzip is read directly, decompress it first: unzip FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; only gzip is read directly, decompress it first: zstd -d FILE"),
    (b"\xfd7zXZ", "compressed with xz; only gzip is read directly, decompress it first: xz -d FILE"),
    (b"BZh", "compressed with bzip2; only gzip is read directly, decompress it first: bzip2 -d FILE"),
    (b"\x04\x22\x4d\x18", "compressed with lz4; only gzip is read directly, decompress it first: lz4 -d FILE"),
    (b"LZIP", "compressed with lzip; only gzip is read directly, decompress it first: lzip -d FILE"),
    (b"\x1f\x9d", "compressed with compress; only gzip is read directly, decompress it first: gzip -d FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; only gzip is read directly, decompress it first: 7z x FILE"),
    (b"Rar!", "a RAR archive; only gzip is read directly, decompress it first"),
    (GZIP_MAGIC, GZIP),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\0", "a database of SQLite"),
    (b"PAR1", "a Parquet file"),
];

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_compressed_or_another_s_is_said_by_name_also_within_gzip() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let tell = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            by_content(&path)
        };
        for (magic, kind) in MAGICS {
            if magic == GZIP_MAGIC {
                continue;
            }
            let content = [magic, &[0xff; 600]].concat();
            assert_eq!(tell(&content).as_deref(), Some(kind));
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&content).unwrap();
            assert_eq!(tell(&encoder.finish().unwrap()), Some(format!("a gzip file; what is in it is {kind}")));
        }
        assert_eq!(
            tell(&[&[0xff; 257][..], b"ustar\0"].concat()).unwrap(),
            "a tar archive; unpack it first: tar -xf FILE"
        );
        assert_eq!(tell(b"\x1f\x8b").as_deref(), Some(GZIP));
        assert_eq!((tell(b""), tell(&[0xff; 60])), (None, None));
    }
}
