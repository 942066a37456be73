//! How sessions ended, by close code. Each open session is counted once: when a Close frame was sent first by this
//! side, when one came first from the peer, or when there was none.

use fanblade_wire::close;

use super::word::Word;

/// Ends of sessions, by who ended them and with which code.
#[derive(Debug, Default)]
pub struct Closes {
    by_us: [Word; CODES.len() + 1],
    by_peer: [Word; CODES.len() + 1],
}

impl Closes {
    pub(crate) fn count_ours(&self, code: u16, count: u64) {
        self.by_us[place(code)].add(count);
    }

    pub(crate) fn count_peers(&self, code: u16) {
        self.by_peer[place(code)].add(1);
    }

    /// Calls `each` with who ended the session (`us`, `peer`), the code's name, and the count; all of them, each time.
    pub fn for_each(&self, each: &mut dyn FnMut(&'static str, &'static str, u64)) {
        for (by, counts) in [("us", &self.by_us), ("peer", &self.by_peer)] {
            let names = CODES.iter().map(|(_, name)| *name).chain([OTHER]);
            names.zip(counts).for_each(|(name, count)| each(by, name, count.value()));
        }
    }
}

fn place(code: u16) -> usize {
    CODES.iter().position(|(known, _)| *known == code).unwrap_or(CODES.len())
}

/// A Close frame came without a code (RFC 6455, 7.1.5).
pub(crate) const NO_CODE: u16 = 1005;
/// There was no Close frame.
pub(crate) const NO_FRAME: u16 = 1006;

/// The codes that are told apart; a peer may send any of thousands.
const CODES: [(u16, &str); 18] = [
    (close::NORMAL, "1000"),
    (close::GOING_AWAY, "1001"),
    (close::PROTOCOL_ERROR, "1002"),
    (close::UNSUPPORTED, "1003"),
    (NO_CODE, "1005"),
    (NO_FRAME, "1006"),
    (close::INVALID_DATA, "1007"),
    (close::POLICY, "1008"),
    (close::TOO_BIG, "1009"),
    (1010, "1010"),
    (1011, "1011"),
    (close::RESTART, "1012"),
    (close::CAPACITY, "1013"),
    (1014, "1014"),
    (close::TOKEN_EXPIRED, "4001"),
    (close::FORBIDDEN, "4003"),
    (close::TOO_SLOW, "4008"),
    (close::TOO_MANY_REQUESTS, "4029"),
];
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_place_and_strange_codes_one_together() {
        let closes = Closes::default();
        for code in [1000, 1006, 4029, 3000, 4999, 1000] {
            closes.count_peers(code);
        }
        closes.count_ours(1012, 1);
        let mut counted = Vec::new();
        closes.for_each(&mut |by, code, count| {
            if count > 0 {
                counted.push((by, code, count));
            }
        });
        let expected =
            [("us", "1012", 1), ("peer", "1000", 2), ("peer", "1006", 1), ("peer", "4029", 1), ("peer", "other", 2)];
        assert_eq!(counted, expected);
        for (code, name) in CODES {
            assert_eq!(code.to_string(), name);
        }
    }
}
