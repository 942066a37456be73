//! A subscriber of a blade, on any number of connections. It counts frames, and checks what every subscriber is
//! promised: per subject in order, none twice, no gap without a notice. `fanblade subscribe` is its command.

mod checker;
mod plan;
mod run;
mod totals;

pub use plan::{Mode, Outlet, Plan};
pub use run::{ClientError, run};
pub use totals::{Quantiles, Totals};
