//! What a session has subscribed to: a list of its own, or a set that it shares with others.
//!
//! A list of its own costs four bytes for each filter in the list and four in the filter's list of sessions, with
//! little around them, and a change touches only the filters that change. From the eighth session on, sessions that ask
//! for the same set at once share a [`Group`]: what is worked out for a set is worked out once, however many have it. A
//! set is found by its hash, which only nominates; then the filters are compared.

use std::rc::Rc;

use fanblade_ring::Lane;

use super::filter::Filter;
use super::group::Group;
use super::lists::Own;
use super::set::{FILTER_MASK, Set, SetKind, Wish, find, merge};
use super::subject::{NO_FILTER, Subject};
use super::tables::Directory;
use crate::holders::{self, Holders};
use crate::ids::{FilterId, ListId, SessionId, SubjectId};
use crate::limits::SHARING_PART;
use crate::protocol::Mode;
use crate::selection::Selection;
use crate::slim;

/// What the filters of a request select.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) subjects: Rc<Selection>,
    /// The subjects that the session did not have before.
    pub(crate) gained: Rc<Selection>,
    /// Filters that select nothing yet.
    pub(crate) unmatched: Box<[FilterId]>,
}

impl Asked {
    /// Memory behind it, in bytes; a selection that is both counts once.
    pub(crate) fn heap_bytes(&self) -> usize {
        let gained = if Rc::ptr_eq(&self.subjects, &self.gained) { 0 } else { self.gained.heap_bytes() };
        self.subjects.heap_bytes() + gained + size_of_val(&*self.unmatched)
    }
}

impl Directory {
    /// Adds filters to a session's set. Returns its set from now on, and what the filters select. The caller moves the
    /// session to that set (`acquire`, `release`).
    pub(crate) fn with(
        &mut self,
        session: SessionId,
        set: Set,
        lane: Lane,
        filters: &[String],
        mode: Mode,
    ) -> (Set, Asked) {
        let mut asked: Vec<Wish> = filters.iter().map(|text| self.wish(text, mode)).collect();
        asked.sort_unstable();
        asked.dedup();
        let selected = self.asked(set, &asked);
        let had = self.wishes(set);
        asked.retain(|wish| find(had, *wish) != Some(*wish));
        if asked.is_empty() {
            return (set, selected);
        }
        let (mut hash, mut len) = (self.hash(set, lane), had.len());
        for wish in &asked {
            match find(had, *wish) {
                Some(old) => hash = hash.wrapping_sub(self.lists.mix(old.0)),
                None => len += 1,
            }
            hash = hash.wrapping_add(self.lists.mix(wish.0));
        }
        if self.is_nominated(hash, len, filters.len()) {
            let merged = merge(self.wishes(set), &asked);
            if let Some(group) = self.group(merged, lane, hash) {
                return (Set::group(group), selected);
            }
        }
        if let SetKind::Own(list) = set.kind() {
            for wish in &asked {
                let is_more = self.lists.slots[list.index()].put(*wish);
                self.lists.wishes += u64::from(is_more);
                self.hold(session, *wish);
            }
            self.lists.rehash(list, hash);
            return (set, selected);
        }
        let merged = merge(self.wishes(set), &asked);
        (self.begin_list(session, merged, hash), selected)
    }

    /// Takes filters out of a session's set. Returns its set from now on, as [`Self::with`] does.
    pub(crate) fn without(&mut self, session: SessionId, set: Set, lane: Lane, filters: &[String]) -> Set {
        let had = self.wishes(set);
        let mut gone: Vec<Wish> = filters.iter().filter_map(|text| find(had, self.known_wish(text)?)).collect();
        gone.sort_unstable();
        gone.dedup();
        let len = had.len() - gone.len();
        if len == 0 || gone.is_empty() {
            return if len == 0 { Set::NONE } else { set };
        }
        let hash = gone.iter().fold(self.hash(set, lane), |hash, wish| hash.wrapping_sub(self.lists.mix(wish.0)));
        let is_nominated = self.is_nominated(hash, len, filters.len());
        if let SetKind::Own(list) = set.kind()
            && !is_nominated
        {
            self.take_out(session, list, &gone, hash);
            return set;
        }
        let left: Vec<Wish> = had.iter().copied().filter(|wish| gone.binary_search(wish).is_err()).collect();
        if is_nominated && let Some(group) = self.group(left.clone(), lane, hash) {
            return Set::group(group);
        }
        match set.kind() {
            SetKind::Own(list) => {
                self.take_out(session, list, &gone, hash);
                set
            }
            _ => self.begin_list(session, left, hash),
        }
    }

    /// One session more has this set.
    pub(crate) fn acquire(&mut self, set: Set) {
        if let SetKind::Group(group) = set.kind() {
            self.groups[group.index()].sessions += 1;
        }
    }

    /// `session` no longer has this set. A group without sessions is dead, and swept once there are many.
    pub(crate) fn release(&mut self, session: SessionId, set: Set) {
        match set.kind() {
            SetKind::None => {}
            SetKind::Own(list) => self.lists.end(list).into_iter().for_each(|wish| self.let_go(session, wish)),
            SetKind::Group(group) => {
                let it = &mut self.groups[group.index()];
                it.sessions -= 1;
                if it.sessions == 0 {
                    self.bury(group);
                }
            }
        }
    }

    /// How many lists of one session alone there are, and the subscriptions in them.
    pub(crate) fn own_lists(&self) -> (u64, u64) {
        ((self.lists.slots.len() - self.lists.free.len()) as u64, self.lists.wishes)
    }

    /// The most memory that these lists take, in bytes.
    pub(crate) fn own_lists_bytes(&self) -> usize {
        let (lists, subscriptions) = self.own_lists();
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        if lists == 0 { 0 } else { bytes_of_own_lists(count(lists), count(subscriptions), self.filter_ids.len()) }
    }

    /// The group that a set is, if it is one.
    pub(crate) fn group_of(&self, set: Set) -> Option<&Group> {
        let SetKind::Group(number) = set.kind() else { return None };
        self.groups.get(number.index())
    }

    /// The sessions alone that have a subject, by its name or by a pattern. A session may come several times.
    pub(crate) fn holders_of(&self, subject: &Subject) -> impl Iterator<Item = &Holders> {
        let filters = std::iter::once(&subject.exact).chain(&subject.patterns);
        filters.filter_map(|filter| Some(&self.filters.get(filter.index())?.as_ref()?.alone))
    }

    /// The subjects of a set. Those of a list of its own may come several times.
    pub(crate) fn subjects_of(&self, set: Set) -> impl Iterator<Item = SubjectId> {
        let shared = self.group_of(set).map_or(&[][..], |group| &group.subjects);
        let own = if let SetKind::Own(_) = set.kind() { self.wishes(set) } else { &[] };
        let own = own.iter().filter_map(|wish| self.filters[wish.filter().index()].as_ref());
        shared.iter().map(|(subject, _)| *subject).chain(own.flat_map(|filter| filter.subjects.iter().copied()))
    }

    /// How many [`Self::subjects_of`] gives.
    pub(crate) fn subject_count(&self, set: Set) -> usize {
        match set.kind() {
            SetKind::Own(_) => {
                let filters = self.wishes(set).iter().filter_map(|wish| self.filters[wish.filter().index()].as_ref());
                filters.map(|filter| filter.subjects.len()).sum()
            }
            _ => self.group_of(set).map_or(0, |group| group.subjects.len()),
        }
    }

    /// What it costs to go through [`Self::subjects_of`], in subjects looked at.
    pub(crate) fn looks(&self, set: Set) -> usize {
        self.filter_count(set) + self.subject_count(set)
    }

    /// The mode in which a set has a subject, if it has it; the stronger one if several filters select it.
    pub(crate) fn mode_in(&self, set: Set, subject: SubjectId) -> Option<Mode> {
        if let Some(group) = self.group_of(set) {
            let place = group.subjects.binary_search_by_key(&subject, |(subject, _)| *subject).ok()?;
            return Some(group.subjects[place].1);
        }
        let entry = self.subjects.get(subject.index())?;
        let wishes = self.wishes(set);
        let (exact, patterns) = wishes.split_at(wishes.partition_point(|wish| !wish.is_pattern()));
        let by_name = find(exact, Wish::new(FilterId(entry.exact.0 & FILTER_MASK), false, Mode::Conflate));
        let by_name = by_name.filter(|_| entry.exact != NO_FILTER).map(Wish::mode);
        // Look up the shorter in the longer: the subject's patterns in the list, or the list's patterns in the
        // subject's.
        let by_pattern = if patterns.len() <= entry.patterns.len() {
            let matching = |wish: &&Wish| {
                let filter = self.filters[wish.filter().index()].as_ref();
                filter.is_some_and(|filter| filter.subjects.binary_search(&subject).is_ok())
            };
            patterns.iter().filter(matching).map(|wish| wish.mode()).max()
        } else {
            let had = |filter: &FilterId| find(patterns, Wish::new(*filter, true, Mode::Conflate));
            entry.patterns.iter().filter_map(had).map(Wish::mode).max()
        };
        by_name.max(by_pattern)
    }

    /// Does this set want only the newest frame of each subject?
    pub(crate) fn is_conflating(&self, set: Set) -> bool {
        match set.kind() {
            SetKind::Own(list) => self.lists.slots[list.index()].alls == 0,
            _ => self.group_of(set).is_none_or(|group| group.subjects.iter().all(|(_, mode)| *mode == Mode::Conflate)),
        }
    }

    /// The filters of a set, sorted.
    pub(super) fn wishes(&self, set: Set) -> &[Wish] {
        match set.kind() {
            SetKind::None => &[],
            SetKind::Group(group) => &self.groups[group.index()].wishes,
            SetKind::Own(list) => &self.lists.slots[list.index()].wishes,
        }
    }

    /// Does a set have the filter `text`?
    pub(super) fn has_filter(&self, set: Set, text: &str) -> bool {
        self.known_wish(text).is_some_and(|wish| find(self.wishes(set), wish).is_some())
    }

    /// May a session share a set of this hash and length, if it has `named` so many of its filters in one request? To
    /// move between list and group costs as much as the whole set, so a session that names few keeps its own list.
    fn is_nominated(&self, hash: u32, len: usize, named: usize) -> bool {
        let alone = self.lists.counts.get(&hash).copied().unwrap_or(0);
        named.saturating_mul(SHARING_PART) >= len
            && (self.group_ids.contains_key(&hash) || alone + 1 >= self.sharing_sessions_min)
    }

    fn hash(&self, set: Set, lane: Lane) -> u32 {
        match set.kind() {
            // No wish is the same word: there are fewer filters than that.
            SetKind::None => self.lists.mix(u32::MAX - lane as u32),
            SetKind::Group(group) => self.groups[group.index()].hash,
            SetKind::Own(list) => self.lists.slots[list.index()].hash,
        }
    }

    /// What `asked` selects, and what of it the set does not have yet.
    fn asked(&self, set: Set, asked: &[Wish]) -> Asked {
        let had = self.wishes(set);
        let selects = |wish: &Wish| self.filters[wish.filter().index()].as_ref().map(|filter| &filter.subjects[..]);
        let unmatched = asked.iter().filter(|wish| selects(wish).is_none_or(<[SubjectId]>::is_empty));
        let unmatched = unmatched.map(|wish| wish.filter()).collect();
        let subjects = Rc::new(Selection::of(asked.iter().filter_map(selects)));
        if had.is_empty() {
            return Asked { gained: Rc::clone(&subjects), subjects, unmatched };
        }
        let fresh = asked.iter().filter(|wish| find(had, **wish).is_none()).filter_map(selects);
        let mut gained = Selection::of(fresh.clone());
        if matches!(set.kind(), SetKind::Own(_)) && fresh.map(<[SubjectId]>::len).sum::<usize>() > had.len() {
            let had = Selection::of(had.iter().filter_map(selects));
            gained.retain(|subject| !had.contains(subject));
        } else {
            gained.retain(|subject| self.mode_in(set, subject).is_none());
        }
        Asked { gained: Rc::new(gained), subjects, unmatched }
    }

    fn wish(&mut self, text: &str, mode: Mode) -> Wish {
        let filter = self.filter(text);
        Wish::new(filter, self.filters[filter.index()].as_ref().is_some_and(|filter| filter.is_pattern), mode)
    }

    /// The filter `text` if some session has it, in whichever mode.
    fn known_wish(&self, text: &str) -> Option<Wish> {
        let filter = *self.filter_ids.get(text)?;
        let is_pattern = self.filters[filter.index()].as_ref()?.is_pattern;
        Some(Wish::new(filter, is_pattern, Mode::Conflate))
    }

    fn begin_list(&mut self, session: SessionId, wishes: Vec<Wish>, hash: u32) -> Set {
        wishes.iter().for_each(|wish| self.hold(session, *wish));
        Set::own(self.lists.begin(wishes, hash))
    }

    fn take_out(&mut self, session: SessionId, list: ListId, gone: &[Wish], hash: u32) {
        for wish in gone {
            self.lists.slots[list.index()].take(*wish);
            self.let_go(session, *wish);
        }
        self.lists.wishes -= gone.len() as u64;
        self.lists.rehash(list, hash);
    }

    /// `session` has this filter in a list of its own from now on.
    fn hold(&mut self, session: SessionId, wish: Wish) {
        let Some(filter) = &mut self.filters[wish.filter().index()] else { return };
        #[cfg(test)]
        TOUCHED.set(TOUCHED.get() + 1);
        filter.alone.insert(session, wish.mode());
    }

    fn let_go(&mut self, session: SessionId, wish: Wish) {
        let Some(filter) = &mut self.filters[wish.filter().index()] else { return };
        #[cfg(test)]
        TOUCHED.set(TOUCHED.get() + 1);
        filter.alone.remove(session);
        self.forget_unused(wish.filter());
    }
}

/// The most user memory that `sessions` sessions take for lists of their own, with `subscriptions` in all, over
/// `filters` distinct subjects and patterns, in bytes: beside [`crate::bytes_per_idle_session`], which holds for a
/// session whose set is shared. The names and what patterns select are beyond it.
pub const fn bytes_of_own_lists(sessions: usize, subscriptions: usize, filters: usize) -> usize {
    // A list is in its slab, and in the free one after; a hash is in a table that may be three eighths full.
    let lists = slim::capacity_max(sessions) * (size_of::<Own>() + size_of::<u32>())
        + sessions * 3 * (2 * size_of::<u32>() + 1);
    let wishes = (slim::capacity_max(subscriptions) + sessions * slim::SPARE) * size_of::<Wish>();
    // Chunks are half full at least, but for the last of each filter.
    let holders = holders::bytes_max(subscriptions) + filters * holders::bytes_max(1);
    let tables = filters * (2 * size_of::<Filter>() + FILTER_TABLES_LEN);
    lists + wishes + holders + tables
}

/// Of a filter in the table of names, which may be three eighths full, and in its subject's lists; its text with the
/// counters before it.
const FILTER_TABLES_LEN: usize = 3 * (16 + 8 + 1) + 4 * size_of::<u32>() + 16 + crate::subject::SUBJECT_LEN_MAX;

#[cfg(test)]
thread_local! {
    /// Filters that changes of lists have touched.
    static TOUCHED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests;
