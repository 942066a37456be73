//! The admin port: metrics, health, status, and the live page. It has no password and changes nothing: it reads
//! what the threads of a blade tell.
//!
//! - `door`: who gets in; `reserve`: descriptors for who comes when there are none; `hosts`: by which names
//! - `server`: what is answered; `metrics`, `status`, and the page in `console/`
//! - `thread`: the thread of its own, which waits for no other, and watches them all
#![warn(clippy::cast_possible_truncation)]

mod door;
mod hosts;
mod limits;
mod metrics;
mod reserve;
mod server;
mod settings;
pub mod status;
mod thread;

pub use settings::{Page, Settings};
pub use thread::{AdminPort, AdminThread};
