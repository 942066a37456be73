//! The subjects that a request selects, a bit for each: an answer under way costs its session next to nothing, however
//! many subjects there are and however slowly it reads.

use crate::ids::SubjectId;

/// A set of subjects: a bit for each, in words, from the lowest to the highest. A single subject takes one word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// How many words of zeros are left out before the first.
    skipped: usize,
    words: Box<[u64]>,
}

impl Selection {
    /// All subjects of these lists, each of which is sorted.
    pub(crate) fn of<'a>(lists: impl Iterator<Item = &'a [SubjectId]> + Clone) -> Self {
        let first = lists.clone().filter_map(<[SubjectId]>::first).min();
        let last = lists.clone().filter_map(<[SubjectId]>::last).max();
        let (Some(first), Some(last)) = (first, last) else { return Self::default() };
        let skipped = word_of(first.0);
        let mut words = vec![0; word_of(last.0) - skipped + 1];
        for subject in lists.flatten() {
            words[word_of(subject.0) - skipped] |= bit_of(subject.0);
        }
        Self { skipped, words: words.into() }
    }

    pub(crate) fn contains(&self, subject: SubjectId) -> bool {
        let word = word_of(subject.0).checked_sub(self.skipped).and_then(|place| self.words.get(place));
        word.is_some_and(|word| word & bit_of(subject.0) != 0)
    }

    /// The lowest subject from `from` on.
    pub(crate) fn next(&self, from: u32) -> Option<SubjectId> {
        let start = word_of(from).saturating_sub(self.skipped);
        let mut mask = if word_of(from) < self.skipped { u64::MAX } else { u64::MAX << (from % u64::BITS) };
        for (place, word) in self.words.iter().enumerate().skip(start) {
            let left = word & std::mem::replace(&mut mask, u64::MAX);
            if left != 0 {
                let number = (self.skipped + place) * u64::BITS as usize + left.trailing_zeros() as usize;
                return u32::try_from(number).ok().map(SubjectId);
            }
        }
        None
    }

    /// All of them, the lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SubjectId> {
        std::iter::successors(self.next(0), |last| self.next(last.0.checked_add(1)?))
    }

    /// Keeps the subjects for which `is_kept` is true.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(SubjectId) -> bool) {
        let mut next = self.next(0);
        while let Some(subject) = next {
            if !is_kept(subject) {
                self.words[word_of(subject.0) - self.skipped] &= !bit_of(subject.0);
            }
            next = subject.0.checked_add(1).and_then(|from| self.next(from));
        }
    }

    /// Memory behind it, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}

fn word_of(subject: u32) -> usize {
    (subject / u64::BITS) as usize
}

fn bit_of(subject: u32) -> u64 {
    1 << (subject % u64::BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_selection_is_the_set_of_its_lists(
            lists in prop::collection::vec(prop::collection::btree_set(0_u32..2_000, 0..40), 0..4),
            from in 0_u32..2_100,
        ) {
            let model: BTreeSet<u32> = lists.iter().flatten().copied().collect();
            let lists: Vec<Vec<SubjectId>> =
                lists.into_iter().map(|list| list.into_iter().map(SubjectId).collect()).collect();
            let mut selection = Selection::of(lists.iter().map(Vec::as_slice));
            prop_assert_eq!(selection.iter().map(|subject| subject.0).collect::<BTreeSet<u32>>(), model.clone());
            prop_assert_eq!(selection.next(from), model.range(from..).next().copied().map(SubjectId));
            prop_assert_eq!(selection.contains(SubjectId(from)), model.contains(&from));
            selection.retain(|subject| subject.0 % 3 != 0);
            prop_assert!(selection.iter().eq(model.iter().copied().filter(|subject| subject % 3 != 0).map(SubjectId)));
        }
    }

    #[test]
    fn a_selection_takes_a_bit_a_subject_and_a_word_alone() {
        let all: Vec<SubjectId> = (0..10_000).map(SubjectId).collect();
        assert_eq!(Selection::of([all.as_slice()].into_iter()).heap_bytes(), 1_256);
        let last = Selection::of([&[SubjectId(u32::MAX)][..]].into_iter());
        assert_eq!((last.heap_bytes(), last.next(7), last.iter().count()), (8, Some(SubjectId(u32::MAX)), 1));
    }
}
