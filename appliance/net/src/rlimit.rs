//! The process's limit of descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of descriptors to the hard one, and returns what holds then. A ring's table of direct
/// descriptors has at most so many entries (and the epoll engine at most so many sessions).
pub fn raise_descriptors() -> std::io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// The soft limit of descriptors.
pub fn descriptors() -> std::io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn raised_to_the_hard_limit() {
        let raised = super::raise_descriptors().unwrap();
        assert_eq!(super::descriptors().unwrap(), raised);
    }
}
