//! What servers sent lately, to be compared with what a line brings later.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Packet;
use crate::limits::RECOVERED_LEN;

/// Marks of messages by their numbers.
#[derive(Debug)]
pub(super) struct Recovered {
    marks: Box<[Mark]>,
    len: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// 0: none.
    sequence: u64,
    hash: u64,
    server: usize,
}

fn place(sequence: u64) -> usize {
    usize::try_from(sequence % RECOVERED_LEN as u64).unwrap_or(usize::MAX)
}

impl Recovered {
    pub(super) fn new() -> Self {
        Self { marks: vec![Mark::default(); RECOVERED_LEN].into(), len: 0 }
    }

    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.len) > 0 {
            self.marks.fill(Mark::default());
        }
    }

    /// Takes note of what a server sent.
    pub(super) fn note(&mut self, server: usize, packet: &Packet<'_>) {
        for (sequence, _, bytes) in packet.messages().filter_map(Result::ok) {
            if let Some(mark) = self.marks.get_mut(place(sequence)) {
                self.len += usize::from(mark.sequence == 0);
                *mark = Mark { sequence, hash: hash(bytes), server };
            }
        }
    }

    /// Compares what a line brings: the first message that a server had otherwise, and which server.
    pub(super) fn contradicted(&mut self, packet: &Packet<'_>) -> Option<(u64, usize)> {
        if self.len == 0 {
            return None;
        }
        let mut contradicted = None;
        for (sequence, _, bytes) in packet.messages().filter_map(Result::ok) {
            let Some(mark) = self.marks.get_mut(place(sequence)) else { continue };
            if mark.sequence == sequence {
                if mark.hash != hash(bytes) && contradicted.is_none() {
                    contradicted = Some((sequence, mark.server));
                }
                *mark = Mark::default();
                self.len -= 1;
            }
        }
        contradicted
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
