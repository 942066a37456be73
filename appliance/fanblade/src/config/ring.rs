//! `[ring]`.

use fanblade_ring::limits::{INDEX_LEN_MAX, LANE_LEN_MAX};
use serde::Deserialize;
use serde_spanned::Spanned;

use super::checks::{Fault, fault, in_range, map, power_of_two, unplaced};
use super::units::Bytes;

/// `[ring]`: the history that all sessions share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RingConfig {
    pub(crate) updates: Spanned<u64>,
    pub(crate) json: Spanned<Bytes>,
    pub(crate) binary: Spanned<Bytes>,
    pub(crate) subjects_max: Spanned<u64>,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            updates: unplaced(1 << 17),
            json: unplaced(Bytes(64 << 20)),
            binary: unplaced(Bytes(64 << 20)),
            subjects_max: unplaced(1 << 16),
        }
    }
}

impl RingConfig {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        power_of_two(&self.updates, 1 << 10, INDEX_LEN_MAX as u64, |n| n.to_string())?;
        for lane in [&self.json, &self.binary] {
            power_of_two(&map(lane, |bytes| bytes.0), 1 << 16, LANE_LEN_MAX as u64, |n| Bytes(n).to_string())?;
        }
        let subjects_max = *self.updates.get_ref() / 2;
        if *self.subjects_max.get_ref() > subjects_max {
            let message =
                format!("{} subjects in a ring of {} updates", self.subjects_max.get_ref(), self.updates.get_ref());
            return fault(
                &self.subjects_max,
                message,
                format!("at most half as many: {subjects_max}; or raise `updates`"),
            );
        }
        in_range(&self.subjects_max, 1, u64::from(u32::MAX), "subjects")
    }
}
