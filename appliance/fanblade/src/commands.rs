//! What the program does: one file for each command.

pub(crate) mod appliance;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod flows;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod size;
pub(crate) mod subscribe;
pub(crate) mod tap;
mod tls;
pub(crate) mod top;
pub(crate) mod tune;
