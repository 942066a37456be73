//! What a run has measured of one server on one engine in one mode.

use super::args::{EngineKind, ServerKind};

pub(crate) struct Sample {
    pub(super) engine: EngineKind,
    pub(super) server: ServerKind,
    pub(crate) backlog: u8,
    pub(crate) cpu_ns_per_message: f64,
    pub(super) wall_ns_per_message: f64,
}
