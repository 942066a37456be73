//! The control plane of the kernel programs: loads, attaches and configures them, and reads their counters.
//!
//! [`Steer`] belongs to the daemon: it loads the object that is compiled into this crate, pins the maps, attaches
//! `ingress`, `egress` and `steer`, and sets the workers' weights and loads. [`View`] reads the same maps, also from
//! another process and without the daemon. [`probe()`] says what the machine lacks for the kernel programs.
//!
//! The blade serves without all of this: each step can fail on its own, with an error that names what is missing, what
//! the blade loses and how to mend it, and the blade goes on.
//!
//! [`lanes`] is the control of the programs that send and receive below the sockets: another object, with maps of its
//! own.

mod error;
pub mod lanes;
pub mod limits;
mod log;
mod pins;
mod probe;
mod steer;
mod sys;
mod view;

pub use error::SteerError;
pub use fanblade_abi as abi;
pub use pins::{DEFAULT_PIN_DIR, MAPS};
pub use probe::{Check, probe};
pub use steer::{Hook, LoadPublisher, Run, Steer, SteerOptions, XdpMode};
pub use view::{Flow, View};
