//! Which messages count.

/// Messages that count: those published from `from_ns` on and before `to_ns` (since the Unix epoch).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment that counts.
    pub from_ns: u64,
    /// The first that does not.
    pub to_ns: u64,
}

impl Window {
    pub(crate) const NONE: Window = Window { from_ns: u64::MAX, to_ns: u64::MAX };
}
