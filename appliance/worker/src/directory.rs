//! Who wants what: subjects, filters, groups of sessions with equal subscriptions, and lists of sessions alone.
//!
//! Sessions with the same set of filters, mode for mode, share one [`Group`]: what a pass owes them is worked out once.
//! A set that few sessions have is a list of each of them (`sets`), and each filter knows the sessions that have it in
//! such a list.
//! A filter is a subject or a pattern; each distinct filter is matched once against each subject, however many sessions
//! have it. Subjects are never taken away (the ring numbers them for the epoch), so filters only ever gain matches.

mod filter;
mod filters;
mod group;
mod lists;
mod set;
mod sets;
mod subject;
mod tables;

use std::rc::Rc;

use fanblade_ring::{Descriptor, Lane, Reader};

use crate::batching::Window;
use crate::ids::{FilterId, GroupId, RingIndex, SubjectId};
use crate::limits::{GROUPS_DEAD_MAX, LISTED_DEAD_MAX, PASS_FRAMES_MAX, SUBJECT_STEPS};
use crate::protocol::Mode;
use crate::selection::Selection;
use crate::slim;
use crate::steps::Steps;

pub(crate) use filters::{Preparation, Prepared};
pub(crate) use group::{Batch, Group, Moment, Owed, conflatable};
use set::Wish;
pub(crate) use set::{Set, SetKind};
pub(crate) use sets::Asked;
pub use sets::bytes_of_own_lists;
use subject::NO_FILTER;
pub(crate) use subject::Subject;
pub(crate) use tables::Directory;

impl Directory {
    /// Takes in subjects that the publisher has created since the last call. `false`: the steps are used up, and there
    /// are more.
    #[must_use]
    pub(crate) fn learn(&mut self, reader: &Reader, steps: &mut Steps) -> bool {
        while self.subjects.len() < reader.subject_count() as usize {
            if steps.are_used_up() {
                return false;
            }
            let id = SubjectId(u32::try_from(self.subjects.len()).unwrap_or(u32::MAX));
            let Some(entry) = reader.subject(id) else { return true };
            let name: Rc<str> = Rc::from(&*entry.name);
            let window = Window::of(&self.batching, &name);
            self.subjects.push(Subject {
                newest: RingIndex::NONE,
                origin: RingIndex::NONE,
                refused_told: 0,
                window,
                groups: Vec::new(),
                exact: NO_FILTER,
                patterns: Vec::new(),
            });
            self.by_name.insert(Rc::clone(&name), id);
            self.names.push(&name);
            steps.take(SUBJECT_STEPS);
            self.match_new(id, &name, steps);
        }
        true
    }

    /// How many of `filters` the set lacks.
    pub(crate) fn filters_missing(&self, set: Set, filters: &[String]) -> usize {
        filters.iter().filter(|text| !self.has_filter(set, text)).count()
    }

    /// The first of `filters` that the set lacks.
    pub(crate) fn first_unknown<'a>(&self, set: Set, filters: &'a [String]) -> Option<&'a str> {
        filters.iter().find(|text| !self.has_filter(set, text)).map(String::as_str)
    }

    /// How many filters a set has.
    pub(crate) fn filter_count(&self, set: Set) -> usize {
        self.wishes(set).len()
    }

    /// The filters of a set.
    pub(crate) fn filter_texts(&self, set: Set) -> impl Iterator<Item = (&str, Mode)> {
        let text = |wish: &Wish| Some((&*self.filters[wish.filter().index()].as_ref()?.text, wish.mode()));
        self.wishes(set).iter().filter_map(text)
    }

    /// The text of a filter that some set has.
    pub(crate) fn filter_text(&self, filter: FilterId) -> Option<&str> {
        self.filters.get(filter.index())?.as_ref().map(|filter| &*filter.text)
    }

    /// Groups that want a subject, and have sessions.
    pub(crate) fn groups_of(&self, subject: usize) -> impl Iterator<Item = Set> {
        let groups = self.subjects[subject].groups.iter().map(|(group, _)| *group);
        groups.filter(|group| self.groups[group.index()].sessions > 0).map(Set::group)
    }

    fn bury(&mut self, group: GroupId) {
        let it = &mut self.groups[group.index()];
        self.group_ids.remove(&it.hash);
        it.owed = Vec::new();
        it.members = Vec::new();
        it.joiners = Vec::new();
        self.listed_dead += it.subjects.len() + it.wishes.len();
        self.groups_dead.push(group);
        let is_last = self.group_ids.is_empty();
        if is_last || self.groups_dead.len() > GROUPS_DEAD_MAX || self.listed_dead > LISTED_DEAD_MAX {
            self.sweep();
        }
    }

    /// Groups that have sessions.
    pub(crate) fn groups_live(&self) -> usize {
        self.group_ids.len()
    }

    /// Adds a frame published at `index` to what the groups of its subject are owed. `touched` gathers groups that were
    /// owed nothing before. `true`: a group is now owed as much as one pass can send.
    pub(crate) fn owe(
        &mut self,
        index: RingIndex,
        frame: &Descriptor,
        moment: &Moment,
        touched: &mut Vec<GroupId>,
    ) -> bool {
        let (lanes, published_ns) = (&frame.lanes, frame.ts_publish_ns);
        let mut full = false;
        let Some(entry) = self.subjects.get_mut(frame.subject.index()) else { return false };
        let window = entry.window;
        for (number, mode) in &entry.groups {
            let group = &mut self.groups[number.index()];
            if group.sessions == 0 {
                continue;
            }
            let frame = &lanes[group.lane as usize];
            if frame.length == 0 {
                continue;
            }
            let conflatable = *mode == Mode::Conflate;
            group.frames_conflatable += u64::from(conflatable);
            let due_us = window.end_us(moment.now_us, number.0);
            if group.owed.is_empty() {
                let before_seq = moment.before_seq;
                group.batch = Batch { due_us, before_seq, published_ns, may_wait: true, ..Batch::default() };
                if !std::mem::replace(&mut group.is_touched, true) {
                    touched.push(*number);
                }
            }
            group.owed.push(Owed { index, position: frame.position, length: frame.length, conflatable });
            let is_full = group.owed.len() >= PASS_FRAMES_MAX;
            let batch = &mut group.batch;
            batch.bytes += u64::from(frame.length);
            batch.may_wait &= window.is_open();
            batch.is_filled |= window.is_filled_by(batch.bytes);
            batch.due_us = if is_full || batch.is_filled { moment.now_us } else { batch.due_us.min(due_us) };
            self.due_us = self.due_us.min(batch.due_us);
            full |= is_full;
        }
        full
    }

    /// Finds or makes the group of a set of filters with this hash; `None` if another set has the hash.
    fn group(&mut self, wishes: Vec<Wish>, lane: Lane, hash: u32) -> Option<GroupId> {
        if let Some(id) = self.group_ids.get(&hash) {
            let group = &self.groups[id.index()];
            return (*group.wishes == wishes && group.lane == lane).then_some(*id);
        }
        // The stronger mode where several filters select a subject.
        let selects = |wish: &Wish| Some(&self.filters[wish.filter().index()].as_ref()?.subjects[..]);
        let any = Selection::of(wishes.iter().filter_map(selects));
        let all = Selection::of(wishes.iter().filter(|wish| wish.mode() == Mode::All).filter_map(selects));
        let mode = |subject: SubjectId| if all.contains(subject) { Mode::All } else { Mode::Conflate };
        let subjects = any.iter().map(|subject| (subject, mode(subject))).collect();
        let group = Group {
            wishes: wishes.into(),
            lane,
            hash,
            subjects,
            members: Vec::new(),
            sessions: 0,
            frames_conflatable: 0,
            owed: Vec::new(),
            batch: Batch::default(),
            is_touched: false,
            joiners: Vec::new(),
        };
        let id = match self.groups_free.pop() {
            Some(id) => {
                // The worker's list may still name this number, on behalf of the group that had it before.
                let is_touched = self.groups[id.index()].is_touched;
                self.groups[id.index()] = Group { is_touched, ..group };
                id
            }
            None => {
                self.groups.push(group);
                GroupId::of(self.groups.len() - 1)
            }
        };
        for wish in &self.groups[id.index()].wishes {
            if let Some(filter) = &mut self.filters[wish.filter().index()] {
                filter.groups.push(id);
            }
        }
        for (subject, mode) in &self.groups[id.index()].subjects {
            self.subjects[subject.index()].groups.push((id, *mode));
        }
        self.group_ids.insert(hash, id);
        Some(id)
    }

    /// `filter` selects the new subject `subject`, so its groups get the subject. Adds them to `listed`, each once.
    fn match_groups(&mut self, filter: FilterId, subject: SubjectId, listed: &mut Vec<GroupId>) {
        let Some(entry) = &self.filters[filter.index()] else { return };
        let wanted = Wish::new(filter, entry.is_pattern, Mode::Conflate).key();
        for number in &entry.groups {
            let group = &mut self.groups[number.index()];
            let place = group.wishes.binary_search_by_key(&wanted, |wish| wish.key());
            let mode = place.map_or(Mode::Conflate, |place| group.wishes[place].mode());
            // A new subject has the highest number: the sorted list grows at its end.
            match group.subjects.last_mut() {
                Some(last) if last.0 == subject => last.1 = last.1.max(mode),
                _ => {
                    group.subjects.push((subject, mode));
                    listed.push(*number);
                }
            }
        }
    }

    /// Takes dead groups out of the lists that they are in, and frees filters that no session has any more. That costs
    /// a look at each of these lists.
    fn sweep(&mut self) {
        let (mut subjects, mut filters) = (Vec::new(), Vec::new());
        for group in &self.groups_dead {
            let group = &mut self.groups[group.index()];
            subjects.extend(std::mem::take(&mut group.subjects).into_iter().map(|(subject, _)| subject));
            filters.extend(std::mem::take(&mut group.wishes).iter().map(|wish| wish.filter()));
        }
        subjects.sort_unstable();
        subjects.dedup();
        filters.sort_unstable();
        filters.dedup();
        for subject in subjects {
            let listed = &mut self.subjects[subject.index()].groups;
            listed.retain(|(group, _)| self.groups[group.index()].sessions > 0);
            slim::give_back_most(listed);
        }
        for id in filters {
            let Some(filter) = self.filters.get_mut(id.index()).and_then(Option::as_mut) else { continue };
            filter.groups.retain(|group| self.groups[group.index()].sessions > 0);
            slim::give_back_most(&mut filter.groups);
            self.forget_unused(id);
        }
        self.groups_free.append(&mut self.groups_dead);
        self.listed_dead = 0;
        slim::give_back_most(&mut self.groups_dead);
    }
}
