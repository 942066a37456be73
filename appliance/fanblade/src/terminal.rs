//! What commands share at the terminal: how they print, how figures look, and what ends them.

pub(crate) mod figures;
pub(crate) mod interrupt;
pub(crate) mod out;
