//! Which CPUs a run has.

/// The CPUs of the server, and of the clients and the publisher.
#[derive(Debug, Clone)]
pub(crate) struct Cpus {
    pub(crate) server: Vec<usize>,
    pub(crate) clients: Vec<usize>,
}
