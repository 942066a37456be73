//! Identifiers of what is in a ring.

/// A subject's place in the table; the same for all readers, for as long as the ring lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(pub u32);

impl SubjectId {
    /// The same number, to index a table with.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
