//! Which servers are measured, and which are not.

use crate::scenario::ServerKind;

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contestant {
    /// The loop of sends of `floor`, on io_uring
    Bare,
    Server(ServerKind),
}

impl Contestant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Contestant::Bare => "bare",
            Contestant::Server(kind) => kind.name(),
        }
    }

    pub(super) fn is_peer(self) -> bool {
        ![Contestant::Bare, BLADE, Contestant::Server(ServerKind::Blade)].contains(&self)
    }
}

pub(super) const BLADE: Contestant = Contestant::Server(ServerKind::Datapath);

/// A peer that is not in the result, and why.
pub(super) struct Missing {
    pub(super) name: &'static str,
    pub(super) why: String,
}
