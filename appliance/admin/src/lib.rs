//! The admin port: metrics, health, status, and the live page. It has no password and changes nothing: it only reads
//! what the threads of a blade report.
//!
//! - `door`: admits connections; `reserve`: descriptors for connections when no others are left; `hosts`: allowed names
//! - `server`: the routes; `metrics`, `status`, and the page in `console/`
//! - `thread`: the port's own thread, which waits for no other, and watches them all

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
