//! From floating point numbers to whole ones.

/// The whole part of a number; of what no `u64` can express, the nearest that it can.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "that is what it is for, and `as` saturates"
)]
#[must_use]
pub fn whole(value: f64) -> u64 {
    value as u64
}
