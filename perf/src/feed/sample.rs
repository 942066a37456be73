//! What one run has measured.

use super::path::Stage;

/// One run up to one stage.
pub(super) struct Sample {
    pub(super) stage: Stage,
    pub(super) cpu_ns_per_message: f64,
    pub(super) wall_ns_per_message: f64,
}
