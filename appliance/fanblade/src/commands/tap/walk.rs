//! Walks along the ring's index behind the writer.

use std::ops::ControlFlow;

use fanblade_ring::{Descriptor, Reader, RingIndex};

/// A place in the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    next: RingIndex,
}

impl Walk {
    pub(super) fn from(index: RingIndex) -> Walk {
        Walk { next: index }
    }

    /// The index to read next.
    pub(super) fn next(&self) -> RingIndex {
        self.next
    }

    /// Passes every entry published since the last pass to `sink`, until `sink` breaks. Returns how many entries were
    /// overwritten before they could be read.
    pub(super) fn pass(&mut self, reader: &Reader, mut sink: impl FnMut(&Descriptor) -> ControlFlow<()>) -> u64 {
        let tail = reader.tail();
        let mut overtaken = 0;
        while self.next < tail {
            match reader.descriptor(self.next) {
                Ok(descriptor) => {
                    self.next = self.next.next();
                    if sink(&descriptor).is_break() {
                        break;
                    }
                }
                Err(_) => {
                    // From `oldest` on, an eighth of the ring lies between this reader and the writer.
                    let next = reader.oldest().max(self.next.next());
                    overtaken += next.since(self.next);
                    self.next = next;
                }
            }
        }
        overtaken
    }
}
