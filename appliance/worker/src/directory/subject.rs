//! One subject, as a worker sees it.

use crate::batching::Window;
use crate::ids::{FilterId, GroupId, RingIndex};
use crate::protocol::Mode;
use crate::slim;

/// What a worker knows of a subject.
pub(crate) struct Subject {
    /// Ring index where its newest frame lies, of those before the worker's cursor; [`RingIndex::NONE`] if it has none.
    pub(crate) newest: RingIndex,
    /// Ring index where that frame was first published.
    pub(crate) origin: RingIndex,
    /// The number of its newest update that was refused, as sessions have been told.
    pub(crate) refused_told: u64,
    pub(super) window: Window,
    /// Groups that want it, dead ones included until they are swept.
    pub(super) groups: Vec<(GroupId, Mode)>,
    /// The filter that is its name; [`NO_FILTER`] if there is none.
    pub(super) exact: FilterId,
    /// Patterns that select it. Sorted.
    pub(super) patterns: Vec<FilterId>,
}

impl Subject {
    /// What its frames may wait for.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// This filter selects the subject.
    pub(super) fn link(&mut self, filter: FilterId, is_pattern: bool) {
        if !is_pattern {
            self.exact = filter;
        } else if let Err(place) = self.patterns.binary_search(&filter) {
            slim::make_room(&mut self.patterns);
            self.patterns.insert(place, filter);
        }
    }

    /// The filter selects the subject no longer, for nobody has it.
    pub(super) fn unlink(&mut self, filter: FilterId, is_pattern: bool) {
        if !is_pattern {
            self.exact = NO_FILTER;
        } else if let Ok(place) = self.patterns.binary_search(&filter) {
            self.patterns.remove(place);
            slim::give_back(&mut self.patterns);
        }
    }
}

/// No filter has the subject's name.
pub(super) const NO_FILTER: FilterId = FilterId(u32::MAX);
