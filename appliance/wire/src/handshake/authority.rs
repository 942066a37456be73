//! The names that a host may have.

/// Host and port: letters, digits and what RFC 3986 section 3.2.2 allows besides, less what HTML, a shell or a script
/// might take for its own. An ampersand or a quote in a host name is legal, and nobody's.
pub(super) fn is_authority(host: &str) -> bool {
    (1..=HOST_LEN_MAX).contains(&host.len())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%:[]".contains(&byte))
}

/// The longest name that DNS knows, and a port.
const HOST_LEN_MAX: usize = 253 + 6;
