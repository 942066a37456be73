//! The distinct subjects and patterns that sessions have asked for, and what each selects.
//!
//! The search for a new pattern's subjects goes in steps, and so does taking an unused pattern out of its subjects'
//! lists: no request holds a worker up, however many subjects there are. While a request is prepared it holds its
//! filters.

use std::rc::Rc;

use super::filter::{Filter, SEARCHED};
use super::tables::Directory;
use crate::holders::Holders;
use crate::ids::{FilterId, GroupId, SubjectId};
use crate::limits::{FILTER_STEPS, LOOK_STEPS};
use crate::slim;
use crate::steps::Steps;
use crate::subject;

/// The filters of a request, as far as they have been made and searched for.
#[derive(Debug, Default)]
pub(crate) struct Preparation {
    /// The filters that it holds, in the order of the request.
    filters: Vec<FilterId>,
    state: Prepared,
}

/// How far a preparation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// It goes on in the next pass.
    #[default]
    Partly,
    Wholly,
    /// There are as many filters as a worker may have.
    Full,
}

impl Preparation {
    pub(crate) fn state(&self) -> Prepared {
        self.state
    }

    /// No preparation is needed: the request will be refused.
    pub(crate) fn none() -> Self {
        Self { filters: Vec::new(), state: Prepared::Wholly }
    }
}

impl Directory {
    /// Goes on with the preparation of a request for `texts`. There may be `filters_max` patterns and subjects that the
    /// ring does not have.
    pub(crate) fn prepare(&mut self, texts: &[String], it: &mut Preparation, filters_max: usize, steps: &mut Steps) {
        loop {
            if let Some(last) = it.filters.last()
                && !self.search(*last, steps)
            {
                return;
            }
            let Some(text) = texts.get(it.filters.len()) else {
                it.state = Prepared::Wholly;
                return;
            };
            if steps.are_used_up() {
                return;
            }
            steps.take(FILTER_STEPS);
            let id = match self.filter_ids.get(text.as_str()).copied() {
                Some(id) => id,
                None if !self.by_name.contains_key(text.as_str()) && !self.has_room(filters_max) => {
                    it.state = Prepared::Full;
                    return;
                }
                None => self.begin_filter(text),
            };
            if let Some(filter) = &mut self.filters[id.index()] {
                filter.held += 1;
            }
            it.filters.push(id);
        }
    }

    /// Is there room for one more filter? Sweeps dead groups if that may make room.
    #[must_use]
    fn has_room(&mut self, filters_max: usize) -> bool {
        if self.filters_counted >= filters_max && !self.groups_dead.is_empty() {
            self.sweep();
        }
        self.filters_counted < filters_max
    }

    /// Ends the preparation: the request has been obeyed, refused, or given up.
    pub(crate) fn end_preparation(&mut self, it: Preparation) {
        for id in it.filters {
            if let Some(filter) = &mut self.filters[id.index()] {
                filter.held -= 1;
            }
            self.forget_unused(id);
        }
    }

    /// How many subjects the filters of a request select; one that several filters select counts several times.
    pub(crate) fn selected(&self, it: &Preparation) -> usize {
        let filters = it.filters.iter().filter_map(|id| self.filters[id.index()].as_ref());
        filters.map(|filter| filter.subjects.len()).sum()
    }

    /// How many patterns, and subjects that the ring does not have, sessions have asked for.
    pub(crate) fn filters_counted(&self) -> usize {
        self.filters_counted
    }

    /// Finds or makes the filter `text`, and searches for all its subjects.
    pub(super) fn filter(&mut self, text: &str) -> FilterId {
        let id = self.filter_ids.get(text).copied().unwrap_or_else(|| self.begin_filter(text));
        let mut steps = Steps::unlimited();
        let is_searched = self.search(id, &mut steps);
        debug_assert!(is_searched, "steps were limited");
        id
    }

    /// Makes a new filter.
    fn begin_filter(&mut self, text: &str) -> FilterId {
        let text: Rc<str> = text.into();
        let is_pattern = subject::is_pattern(&text);
        let exact = self.by_name.get(&text).copied().filter(|_| !is_pattern);
        let filter = Filter {
            text: Rc::clone(&text),
            subjects: exact.into_iter().collect(),
            groups: Vec::new(),
            alone: Holders::default(),
            is_pattern,
            held: 0,
            next: if is_pattern { 0 } else { SEARCHED },
        };
        self.filters_counted += usize::from(filter.is_counted());
        if is_pattern {
            self.shapes.add(&text);
        }
        let id = match self.filters_free.pop() {
            Some(id) => {
                self.filters[id.index()] = Some(filter);
                id
            }
            None => {
                slim::make_room(&mut self.filters);
                self.filters.push(Some(filter));
                FilterId::of(self.filters.len() - 1)
            }
        };
        if let Some(subject) = exact {
            self.subjects[subject.index()].link(id, false);
        }
        self.filter_ids.insert(text, id);
        id
    }

    /// Goes on with the search for the subjects of a filter. `false`: the steps are used up.
    #[must_use]
    fn search(&mut self, id: FilterId, steps: &mut Steps) -> bool {
        let Some(filter) = &mut self.filters[id.index()] else { return true };
        if filter.next == SEARCHED {
            return true;
        }
        let (known, mut left) = (filter.subjects.len(), steps.left());
        let is_searched = self.names.select(&filter.text, &mut filter.next, &mut left, &mut filter.subjects);
        let found = &filter.subjects[known..];
        for subject in found {
            self.subjects[subject.index()].link(id, true);
        }
        steps.take(steps.left() - left + found.len() as u64);
        if is_searched {
            filter.next = SEARCHED;
        }
        is_searched
    }

    /// Adds a new subject to the filters that select it.
    pub(super) fn match_new(&mut self, subject: SubjectId, name: &str, steps: &mut Steps) {
        let mut selecting: Vec<FilterId> = self.filter_ids.get(name).copied().into_iter().collect();
        let mut looks = 1;
        self.shapes.selecting(name, |pattern| {
            looks += 1;
            selecting.extend(self.filter_ids.get(pattern));
        });
        let mut listed = Vec::new();
        for id in selecting {
            let Some(filter) = &mut self.filters[id.index()] else { continue };
            if filter.next != SEARCHED {
                // Its search has not come to this subject yet.
                continue;
            }
            self.filters_counted -= usize::from(!filter.is_pattern && filter.subjects.is_empty());
            filter.subjects.push(subject);
            self.subjects[subject.index()].link(id, filter.is_pattern);
            self.match_groups(id, subject, &mut listed);
        }
        let groups = &self.groups;
        let with_mode = |group: GroupId| Some((group, groups[group.index()].subjects.last()?.1));
        self.subjects[subject.index()].groups = listed.into_iter().filter_map(with_mode).collect();
        let entries = self.subjects[subject.index()].groups.len() as u64;
        steps.take(looks * LOOK_STEPS + entries);
    }

    /// Frees a filter that is in no set any more, and that no request under way names.
    pub(super) fn forget_unused(&mut self, id: FilterId) {
        let Some(Some(filter)) = self.filters.get_mut(id.index()) else { return };
        // The text of a filter that is leaving has no entry any more.
        if filter.held > 0
            || !filter.groups.is_empty()
            || !filter.alone.is_empty()
            || self.filter_ids.get(&filter.text) != Some(&id)
        {
            return;
        }
        self.filters_counted -= usize::from(filter.is_counted());
        self.filter_ids.remove(&filter.text);
        if filter.is_pattern {
            self.shapes.remove(&filter.text);
            // The usual few subjects are not worth a pass.
            if filter.subjects.len() > LEAVING_NOW_MAX || !self.leave(id, &mut Steps::unlimited()) {
                self.filters_leaving.push(id);
            }
        } else {
            for subject in std::mem::take(&mut filter.subjects) {
                self.subjects[subject.index()].unlink(id, false);
            }
            self.free(id);
        }
    }

    /// Goes on with taking unused patterns out of the lists of their subjects.
    pub(crate) fn let_leave(&mut self, steps: &mut Steps) {
        while let Some(id) = self.filters_leaving.last().copied()
            && self.leave(id, steps)
        {
            self.filters_leaving.pop();
        }
    }

    /// `false`: the steps are used up.
    #[must_use]
    fn leave(&mut self, id: FilterId, steps: &mut Steps) -> bool {
        let Some(filter) = &mut self.filters[id.index()] else { return true };
        while !filter.subjects.is_empty() {
            if steps.are_used_up() {
                return false;
            }
            steps.take(1);
            if let Some(subject) = filter.subjects.pop() {
                self.subjects[subject.index()].unlink(id, true);
            }
        }
        self.free(id);
        true
    }

    /// Are there unused patterns still to be taken out?
    #[must_use]
    pub(crate) fn is_leaving(&self) -> bool {
        !self.filters_leaving.is_empty()
    }

    fn free(&mut self, id: FilterId) {
        self.filters[id.index()] = None;
        self.filters_free.push(id);
        if self.filters_free.len() == self.filters.len() {
            // No session has anything: give back the memory that many needed.
            (self.filters, self.filters_free, self.filter_ids) = Default::default();
        }
    }
}

/// A pattern that selects no more subjects than this is taken out of their lists at once.
const LEAVING_NOW_MAX: usize = 16;

#[cfg(test)]
mod tests;
