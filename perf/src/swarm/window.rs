//! Which messages count.

/// Messages that count: those published from `from_ns` on and before `to_ns` (since the Unix epoch).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
}

impl Window {
    pub(crate) const NONE: Window = Window { from_ns: u64::MAX, to_ns: u64::MAX };
}
