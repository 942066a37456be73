//! The store: everything that was published, for receivers that ask for it again.
//!
//! Messages lie end to end as in a BinaryFILE, each behind its length in two bytes, which is also how packets hold
//! them. A plain BinaryFILE is therefore its own store; what comes out of a gzip file, a capture or the simulator is
//! written to a temporary file without a name. An index holds the place of every 64th message.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::limits::{INDEX_STEP, STORE_LEN_MAX, STORE_TAIL_LEN};

/// The messages published so far, numbered from 1.
#[derive(Debug)]
pub(super) struct Store {
    inner: Mutex<Inner>,
    progress: watch::Sender<Progress>,
}

/// How far the publisher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number that the next message to be published will have.
    pub(super) next: u64,
    /// No message follows.
    pub(super) has_ended: bool,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// Do we write `file`? Otherwise it has everything already.
    spills: bool,
    /// Where messages 1, 65, 129 … begin.
    index: Vec<u64>,
    next: u64,
    /// Bytes of all messages published; `tail` holds those from `written` on.
    end: u64,
    written: u64,
    tail: Vec<u8>,
}

impl Store {
    /// A store whose messages are in `file` already, from its beginning and in the order of their publication.
    pub(super) fn over(file: File) -> Self {
        Self::new(file, false)
    }

    /// A store that keeps what it is given in a temporary file.
    pub(super) fn spilling() -> io::Result<Self> {
        Ok(Self::new(tempfile::tempfile()?, true))
    }

    fn new(file: File, spills: bool) -> Self {
        let inner = Inner { file, spills, index: Vec::new(), next: 1, end: 0, written: 0, tail: Vec::new() };
        Self { inner: Mutex::new(inner), progress: watch::Sender::new(Progress { next: 1, has_ended: false }) }
    }

    /// The number that the next message to be published will have.
    pub(super) fn next(&self) -> u64 {
        self.progress.borrow().next
    }

    /// Tells of all that is published from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Publishes what a packet holds behind its header.
    pub(super) fn append(&self, framed: &[u8]) -> io::Result<()> {
        let next = self.inner.lock().append(framed)?;
        self.progress.send_modify(|progress| progress.next = next);
        Ok(())
    }

    /// Nothing more will be published.
    pub(super) fn end(&self) {
        self.progress.send_modify(|progress| progress.has_ended = true);
    }

    /// Adds the messages from `from` on to `out`, with their lengths, as many as are published and fit `len_max` bytes.
    pub(super) fn read(&self, from: u64, len_max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        self.inner.lock().read(from, len_max, out)
    }
}

impl Inner {
    fn append(&mut self, framed: &[u8]) -> io::Result<u64> {
        for message in messages(framed) {
            if (self.next - 1).is_multiple_of(INDEX_STEP) {
                self.index.push(self.end);
            }
            self.next += 1;
            self.end += 2 + message.len() as u64;
        }
        if self.spills {
            self.tail.extend_from_slice(framed);
            if self.tail.len() >= STORE_TAIL_LEN {
                self.spill()?;
            }
        } else {
            self.written = self.end;
        }
        Ok(self.next)
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.end > STORE_LEN_MAX {
            return Err(io::Error::other(format!("more than {STORE_LEN_MAX} bytes of messages")));
        }
        self.file.write_all(&self.tail)?;
        self.tail.clear();
        self.written = self.end;
        Ok(())
    }

    fn read(&self, from: u64, len_max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        if from == 0 || from >= self.next {
            return Ok(());
        }
        let (entry, skipped) = ((from - 1) / INDEX_STEP, (from - 1) % INDEX_STEP);
        let (entry, skipped) = (to_usize(entry), to_usize(skipped));
        let (Some(&begin), end) = (self.index.get(entry), self.index.get(entry + 1).copied().unwrap_or(self.end))
        else {
            return Ok(());
        };
        let bytes = self.bytes(begin, self.end.min(end + len_max as u64))?;
        let room = out.len() + len_max;
        for message in messages(&bytes).skip(skipped) {
            if out.len() + 2 + message.len() > room {
                break;
            }
            frame(message, out);
        }
        Ok(())
    }

    /// The bytes `begin..end`, of the file and of what is not written yet.
    fn bytes(&self, begin: u64, end: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; to_usize(end.min(self.written).saturating_sub(begin))];
        self.file.read_exact_at(&mut bytes, begin)?;
        let tail = begin.max(self.written) - self.written..end.max(self.written) - self.written;
        bytes.extend_from_slice(self.tail.get(to_usize(tail.start)..to_usize(tail.end)).unwrap_or_default());
        Ok(bytes)
    }
}

/// Appends a message behind its length. Those of files and packets are shorter than 64 KiB.
#[expect(clippy::cast_possible_truncation, reason = "both give a message's length by 16 bits")]
pub(super) fn frame(message: &[u8], framed: &mut Vec<u8>) {
    framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
    framed.extend_from_slice(message);
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The messages that lie end to end in `framed`, as far as they are whole.
pub(super) fn messages(mut framed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = framed.split_first_chunk()?;
        let (message, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        framed = rest;
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Message number `n`: its number, again and again.
    fn message(n: u64) -> Vec<u8> {
        n.to_string().repeat(1 + (n % 5) as usize).into_bytes()
    }

    fn framed(numbers: std::ops::Range<u64>) -> Vec<u8> {
        let mut framed = Vec::new();
        for n in numbers {
            framed.extend_from_slice(&u16::try_from(message(n).len()).unwrap().to_be_bytes());
            framed.extend_from_slice(&message(n));
        }
        framed
    }

    fn check(store: &Store, count: u64) {
        assert_eq!(store.next(), count + 1);
        for from in (1..=count).step_by(997).chain(1..200).chain(count - 200..=count) {
            let mut out = b"before".to_vec();
            store.read(from, 300, &mut out).unwrap();
            let out = &out[6..];
            let read: Vec<_> = messages(out).map(<[u8]>::to_vec).collect();
            assert_eq!(read, (from..from + read.len() as u64).map(message).collect::<Vec<_>>());
            let next = from + read.len() as u64;
            assert!(out.len() <= 300 && (next > count || out.len() + 2 + message(next).len() > 300), "as many as fit");
        }
        for beyond in [0, count + 1, u64::MAX] {
            let mut out = Vec::new();
            store.read(beyond, 300, &mut out).unwrap();
            assert_eq!(out, [0; 0], "{beyond}");
        }
    }

    #[test]
    fn whatever_was_published_can_be_read_again() {
        let store = Store::spilling().unwrap();
        let count = 60_000;
        for begin in (1..count).step_by(7) {
            store.append(&framed(begin..count.min(begin + 7))).unwrap();
            assert_eq!(store.next(), count.min(begin + 7));
        }
        assert!(
            store.inner.lock().written > 0 && !store.inner.lock().tail.is_empty(),
            "some of it in the file, some not"
        );
        check(&store, count - 1);
    }

    #[test]
    fn a_plain_file_is_its_own_store() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&framed(1..5_000)).unwrap();
        let store = Store::over(file);
        store.append(&framed(1..3_000)).unwrap();
        check(&store, 2_999);
        assert_eq!(store.inner.lock().tail.capacity(), 0);
    }
}
