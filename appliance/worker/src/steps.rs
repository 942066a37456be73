//! How much work a pass may do for requests, counted in steps.
//!
//! A step is a look at a subject or an entry in one of its lists, some twenty nanoseconds. Work that cannot be left in
//! the midst may take more than there is: what is owed then is paid by the next pass, before anything else is begun.

/// The steps that are left.
#[derive(Debug)]
pub(crate) struct Steps {
    left: i64,
    /// Since the beginning of the pass.
    spent: u64,
}

impl Steps {
    /// For work that must be done at once.
    pub(crate) fn unlimited() -> Self {
        Self { left: i64::MAX, spent: 0 }
    }

    pub(crate) const fn none() -> Self {
        Self { left: 0, spent: 0 }
    }

    /// `count` steps.
    pub(crate) fn new(count: u64) -> Self {
        Self { left: i64::try_from(count).unwrap_or(i64::MAX), spent: 0 }
    }

    /// A new pass begins with `count` less what is owed; what the last one left is gone.
    pub(crate) fn begin(&mut self, count: u64) {
        *self = Self::new(count).owing(self.left.min(0));
    }

    /// Adds `count` steps.
    pub(crate) fn give(&mut self, count: u64) {
        self.left = self.left.saturating_add_unsigned(count);
    }

    /// Takes `count` steps, even if fewer are left.
    pub(crate) fn take(&mut self, count: u64) {
        self.left = self.left.saturating_sub_unsigned(count);
        self.spent = self.spent.saturating_add(count);
    }

    /// How many may be taken.
    pub(crate) fn left(&self) -> u64 {
        u64::try_from(self.left).unwrap_or(0)
    }

    #[must_use]
    pub(crate) fn are_used_up(&self) -> bool {
        self.left <= 0
    }

    /// How many the pass has taken.
    pub(crate) fn spent(&self) -> u64 {
        self.spent
    }

    fn owing(self, debt: i64) -> Self {
        Self { left: self.left.saturating_add(debt), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_pass_takes_too_much_the_next_ones_lack() {
        let mut steps = Steps::none();
        assert!(steps.are_used_up());
        steps.begin(100);
        steps.take(250);
        assert!(steps.are_used_up() && steps.left() == 0 && steps.spent() == 250);
        steps.begin(100);
        assert!(steps.are_used_up() && steps.spent() == 0);
        steps.begin(100);
        assert!(!steps.are_used_up());
        assert_eq!(steps.left(), 50);
        // What was not taken is not saved.
        steps.begin(100);
        steps.give(20);
        assert_eq!(steps.left(), 120);
    }
}
