//! A session's set of subscriptions in one word, and one subscription in another.

use crate::ids::{FilterId, GroupId, ListId};
use crate::protocol::Mode;
use crate::slim;

/// A session's set of subscriptions: none, a shared one, or a list of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Set(u32);

/// A [`Set`], taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetKind {
    None,
    Group(GroupId),
    Own(ListId),
}

impl Set {
    pub(crate) const NONE: Set = Set(u32::MAX);
    const OWN: u32 = 1 << 31;

    pub(super) fn group(group: GroupId) -> Self {
        debug_assert!(group.0 < Self::OWN, "groups are counted in 31 bits");
        Self(group.0)
    }

    pub(super) fn own(list: ListId) -> Self {
        debug_assert!(list.0 < u32::MAX ^ Self::OWN, "lists are counted in 31 bits");
        Self(list.0 | Self::OWN)
    }

    pub(crate) fn kind(self) -> SetKind {
        match self {
            Self::NONE => SetKind::None,
            Self(word) if word & Self::OWN == 0 => SetKind::Group(GroupId(word)),
            Self(word) => SetKind::Own(ListId(word ^ Self::OWN)),
        }
    }
}

/// A filter in a set, and how: `1 bit pattern │ 30 bits filter │ 1 bit mode`. Patterns sort behind subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Wish(pub(super) u32);

impl Wish {
    pub(super) fn new(filter: FilterId, is_pattern: bool, mode: Mode) -> Self {
        debug_assert!(filter.0 < 1 << 30, "filters are counted in 30 bits");
        Self(u32::from(is_pattern) << 31 | filter.0 << 1 | u32::from(mode == Mode::All))
    }

    pub(super) fn filter(self) -> FilterId {
        FilterId(self.0 << 1 >> 2)
    }

    pub(super) fn mode(self) -> Mode {
        if self.0 & 1 == 0 { Mode::Conflate } else { Mode::All }
    }

    pub(super) fn is_pattern(self) -> bool {
        self.0 >> 31 == 1
    }

    /// The same for two wishes of one filter, which differ in their modes only.
    pub(super) fn key(self) -> u32 {
        self.0 >> 1
    }
}

/// The wish for the same filter in a sorted set.
pub(super) fn find(wishes: &[Wish], wish: Wish) -> Option<Wish> {
    wishes.binary_search_by_key(&wish.key(), |it| it.key()).ok().map(|place| wishes[place])
}

/// Both sets in one, sorted. For a filter that is in both, the mode in `asked` counts.
pub(super) fn merge(had: &[Wish], asked: &[Wish]) -> Vec<Wish> {
    let mut merged = Vec::with_capacity(had.len() + asked.len());
    let mut asked = asked.iter().copied().peekable();
    for wish in had {
        while let Some(before) = asked.next_if(|it| it.key() < wish.key()) {
            merged.push(before);
        }
        merged.push(asked.next_if(|it| it.key() == wish.key()).unwrap_or(*wish));
    }
    merged.extend(asked);
    slim::give_back(&mut merged);
    merged
}

/// The bits of a filter's number.
pub(super) const FILTER_MASK: u32 = (1 << 30) - 1;
