//! One distinct subject or pattern that sessions have asked for.

use std::rc::Rc;

use crate::holders::Holders;
use crate::ids::{GroupId, SubjectId};

pub(crate) struct Filter {
    pub(super) text: Rc<str>,
    /// The subjects that it selects, as far as the search has come. Sorted.
    pub(super) subjects: Vec<SubjectId>,
    /// Groups whose sets contain it, dead ones included until they are swept.
    pub(super) groups: Vec<GroupId>,
    /// Sessions that have it in lists of their own.
    pub(super) alone: Holders,
    pub(super) is_pattern: bool,
    /// Requests under way that name it.
    pub(super) held: u32,
    /// The next subject that the search looks at; [`SEARCHED`] once it has looked at all: later ones are added as they
    /// come.
    pub(super) next: u32,
}

impl Filter {
    /// Does `filters_max` count it?
    pub(super) fn is_counted(&self) -> bool {
        self.is_pattern || self.subjects.is_empty()
    }
}

/// All present subjects have been looked at.
pub(super) const SEARCHED: u32 = u32::MAX;
