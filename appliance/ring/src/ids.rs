//! Identifiers of what is in a ring.

/// A subject's place in the table; the same for all readers, for as long as the ring lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(pub u32);
