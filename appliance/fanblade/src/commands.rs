//! What the program does: one file for each command.

pub(crate) mod replay;
