//! Close codes: RFC 6455 section 7.4.1, the IANA registry's later ones, and Fanblade's own (4000 to 4999, private use).

/// The purpose is fulfilled.
pub const NORMAL: u16 = 1000;
/// The server is going down, or the page is being left.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke RFC 6455.
pub const PROTOCOL_ERROR: u16 = 1002;
/// A kind of message that is not accepted here.
pub const UNSUPPORTED: u16 = 1003;
/// Text that is not UTF-8.
pub const INVALID_DATA: u16 = 1007;
/// A policy of this server was broken, where no code says it better.
pub const POLICY: u16 = 1008;
/// A message longer than this server takes.
pub const TOO_BIG: u16 = 1009;
/// The service restarts: resume elsewhere or later (IANA registry).
pub const RESTART: u16 = 1012;
/// At capacity: try again later (IANA registry).
pub const CAPACITY: u16 = 1013;
/// The token has expired.
pub const TOKEN_EXPIRED: u16 = 4001;
/// The token does not grant what was asked for.
pub const FORBIDDEN: u16 = 4003;
/// The client reads more slowly than its subscriptions write.
pub const TOO_SLOW: u16 = 4008;
/// More requests than are allowed.
pub const TOO_MANY_REQUESTS: u16 = 4029;

/// Whether a peer may send this code in a close frame.
///
/// RFC 6455 section 7.4.1 reserves 1004, and forbids 1005, 1006 and 1015 on the wire; section 7.4.2 leaves 1016 to
/// 2999 to later revisions and gives 3000 to 4999 to applications. 1012 to 1014 have been registered since.
pub fn is_valid(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_section_7_4() {
        let valid: Vec<u16> = (0..=u16::MAX).filter(|code| is_valid(*code)).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(valid, expected);
    }

    #[test]
    fn our_own_codes_may_be_sent() {
        for code in [NORMAL, GOING_AWAY, PROTOCOL_ERROR, UNSUPPORTED, INVALID_DATA, POLICY, TOO_BIG, RESTART, CAPACITY]
        {
            assert!(is_valid(code), "{code}");
        }
        for code in [TOKEN_EXPIRED, FORBIDDEN, TOO_SLOW, TOO_MANY_REQUESTS] {
            assert!((4000..=4999).contains(&code), "{code} is not for private use");
        }
    }
}
