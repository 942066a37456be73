//! `fanblade-swarm`: very many WebSocket subscribers, each of which is counted, against any server. Measurements that
//! count otherwise use the same connections ([`sockets`]) without the program.

mod buffers;
mod engine;
mod frames;
mod ledger;
pub mod lists;
pub mod marker;
pub mod plan;
mod program;
mod random;
pub mod reading;
pub mod sockets;
pub mod speech;
pub mod subscribers;
pub mod tally;
pub mod template;
pub mod window;
pub mod xdp;

pub use engine::EngineKind;
pub use program::run;
