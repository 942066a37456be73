//! Wall time, as frames, feeds and the ring are stamped with it.

use std::fmt;
use std::time::SystemTime;

/// Nanoseconds since the Unix epoch. The clock may be set: a later reading can be the smaller one.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNs(pub u64);

impl UnixNs {
    /// No moment: later than all.
    pub const NEVER: UnixNs = UnixNs(u64::MAX);

    /// What the system's clock says.
    #[must_use]
    pub fn now() -> UnixNs {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixNs(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds from `earlier` on; 0 if that is later.
    #[must_use]
    pub const fn since(self, earlier: UnixNs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Nanoseconds between the two, whichever is the later.
    #[must_use]
    pub const fn apart(self, other: UnixNs) -> u64 {
        self.0.abs_diff(other.0)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// So many nanoseconds later; at most [`NEVER`](Self::NEVER).
    #[must_use]
    pub const fn plus(self, ns: u64) -> UnixNs {
        UnixNs(self.0.saturating_add(ns))
    }
}

impl fmt::Display for UnixNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_age() {
        assert_eq!((UnixNs(7).since(UnixNs(5)), UnixNs(5).since(UnixNs(7))), (2, 0));
        assert_eq!((UnixNs(7).apart(UnixNs(5)), UnixNs(5).apart(UnixNs(7))), (2, 2));
        assert_eq!((UnixNs(7).plus(2), UnixNs(7).plus(u64::MAX)), (UnixNs(9), UnixNs::NEVER));
        assert!(UnixNs::now() > UnixNs(1_600_000_000_000_000_000), "in 2020 the clocks were beyond that");
    }
}
