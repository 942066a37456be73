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
    /// Patterns that nobody has any more, and that are still in the lists of their subjects.
    pub(super) filters_leaving: Vec<FilterId>,
    /// Patterns, and subjects that are not there.
    pub(super) filters_counted: usize,
    /// A tree: it grows and shrinks by pieces, where a table would stand still to be made anew.
    pub(super) filter_ids: BTreeMap<Rc<str>, FilterId>,
    /// Of the filters that are patterns.
    pub(super) shapes: Shapes,
    /// The subjects once more, as patterns look for them.
    pub(super) names: Names,
    pub(crate) groups: Vec<Group>,
    pub(super) groups_free: Vec<GroupId>,
    pub(super) groups_dead: Vec<GroupId>,
    /// In how many lists of subjects and filters those are.
    pub(super) listed_dead: usize,
    /// By hash. A set whose hash another group has is not shared.
    pub(super) group_ids: HashMap<u32, GroupId>,
    pub(super) lists: Lists,
    /// So many sessions of one set share it.
    pub(super) sharing_sessions_min: u32,
}

impl Directory {
    pub(crate) fn new(batching: Vec<Batching>, sharing_sessions_min: u32) -> Self {
        Self { batching, sharing_sessions_min, due_us: RunningUs::NEVER, ..Self::default() }
    }
}
