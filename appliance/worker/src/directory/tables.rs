//! What a worker knows of subjects, filters, groups and lists of sessions alone.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::filter::Filter;
use super::group::Group;
use super::lists::Lists;
use super::subject::Subject;
use crate::batching::Batching;
use crate::clock::RunningUs;
use crate::ids::{FilterId, GroupId, SubjectId};
use crate::patterns::{Names, Shapes};

/// The tables.
#[derive(Default)]
pub(crate) struct Directory {
    pub(super) batching: Vec<Batching>,
    /// The earliest turn of the groups that are owed something.
    pub(crate) due_us: RunningUs,
    pub(crate) subjects: Vec<Subject>,
    pub(super) by_name: HashMap<Rc<str>, SubjectId>,
    pub(super) filters: Vec<Option<Filter>>,
    pub(super) filters_free: Vec<FilterId>,
    /// Patterns that no session has any more, still in the lists of their subjects.
    pub(super) filters_leaving: Vec<FilterId>,
    /// How many filters are patterns, or subjects that the ring does not have.
    pub(super) filters_counted: usize,
    /// A tree grows and shrinks by pieces; a table would be copied as a whole.
    pub(super) filter_ids: BTreeMap<Rc<str>, FilterId>,
    /// The shapes of the filters that are patterns.
    pub(super) shapes: Shapes,
    /// The subjects by their segments, as patterns look for them.
    pub(super) names: Names,
    pub(crate) groups: Vec<Group>,
    pub(super) groups_free: Vec<GroupId>,
    pub(super) groups_dead: Vec<GroupId>,
    /// In how many lists of subjects and filters the dead groups are.
    pub(super) listed_dead: usize,
    /// Groups by their hashes. A set whose hash another group has is not shared.
    pub(super) group_ids: HashMap<u32, GroupId>,
    pub(super) lists: Lists,
    /// From this many sessions on, a set is shared.
    pub(super) sharing_sessions_min: u32,
}

impl Directory {
    pub(crate) fn new(batching: Vec<Batching>, sharing_sessions_min: u32) -> Self {
        Self { batching, sharing_sessions_min, due_us: RunningUs::NEVER, ..Self::default() }
    }
}
