//! Sequence numbers, which wrap.

/// A TCP sequence number, in host order. Two that are less than 2^31 apart are compared by the sign of their difference
/// (RFC 9293, 3.4).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    /// This number plus `bytes`.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, bytes: u32) -> Seq {
        Seq(self.0.wrapping_add(bytes))
    }

    /// How many bytes this number is after `other`; huge if it is before.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, other: Seq) -> u32 {
        self.0.wrapping_sub(other.0)
    }

    /// Is this number after `other`?
    #[inline(always)]
    #[must_use]
    pub const fn is_after(self, other: Seq) -> bool {
        self.since(other).cast_signed() > 0
    }

    /// Is this number before `other`?
    #[inline(always)]
    #[must_use]
    pub const fn is_before(self, other: Seq) -> bool {
        other.is_after(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn order_goes_on_where_the_numbers_wrap() {
        let last = Seq(u32::MAX);
        assert!(last.plus(1).is_after(last) && last.is_before(last.plus(1)));
        assert_eq!(last.plus(3).since(last), 3);
        assert!(!last.is_after(last) && !last.is_before(last));
    }
}
