//! Code that tests share. Only tests may depend on this crate (`cargo xtask tidy` checks).
//!
//! - [`Blade`]: a running `fanblade run`, its log and its admin port
//! - [`Child`]: a process that ends with its test, however the test ends
//! - [`Namespace`]: a network of a test's own
//! - [`allocations`]: how often a thread asks for memory, and how much it holds
//! - [`until`]: waiting with a deadline
//! - [`data`]: files of real market data, if the machine has them

pub mod allocations;
mod blade;
mod child;
pub mod data;
mod http;
mod namespace;
mod wait;

pub use blade::{Blade, program};
pub use child::Child;
pub use http::{http, try_http};
pub use namespace::{Namespace, ip, is_root, until_up};
pub use wait::{PATIENCE, until};
