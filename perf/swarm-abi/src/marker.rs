//! Decimal numbers in a message, by the bytes that stand before them.

use crate::limits::{HEAD_END, HEAD_LEN};

/// One to eight bytes, none of them zero, as the last bytes of a window that slides over the message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The bytes, the last one lowest.
    pub bytes: u64,
    /// Ones where the bytes are.
    pub mask: u64,
    /// The number of bytes; 0: nothing is looked for.
    pub len: u64,
}

impl Pattern {
    /// `None` if the pattern is longer than a window, or has a zero in it.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Pattern> {
        if bytes.is_empty() || bytes.len() > 8 || bytes.contains(&0) {
            return None;
        }
        let window = bytes.iter().fold(0, |window, byte| window << 8 | u64::from(*byte));
        Some(Pattern { bytes: window, mask: u64::MAX >> (64 - 8 * bytes.len()), len: bytes.len() as u64 })
    }
}

/// A number, and where its pattern begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Wraps around if it is too long.
    pub number: u64,
    /// The place in the head.
    pub at: u32,
}

/// A search that goes byte by byte: the kernel's verifier wants a loop with so many paths as a function that is called
/// again and again. The search begins at `at`; [`Search::step`] is called with the byte there until it says `true`.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The present place in the head.
    pub at: u32,
    to: u32,
    pattern: Pattern,
    window: u64,
    number: u64,
    digits: u32,
    is_behind: bool,
}

impl Search {
    /// Searches for the number behind the first occurrence of `pattern` in `from..to` that has one behind it.
    #[inline(always)]
    #[must_use]
    pub fn new(from: u32, to: u32, pattern: &Pattern) -> Search {
        let to = if pattern.len == 0 { 0 } else { to };
        Search { at: from, to, pattern: *pattern, window: 0, number: 0, digits: 0, is_behind: false }
    }

    /// Looks at `head[at]`. `true`: the search is over.
    #[inline(always)]
    pub fn step(&mut self, head: &[u8; HEAD_LEN]) -> bool {
        if self.at >= self.to || self.at >= HEAD_END {
            return true;
        }
        let byte = head[self.at as usize & (HEAD_LEN - 1)];
        let digit = byte.wrapping_sub(b'0');
        if self.is_behind && digit < 10 {
            self.number = self.number.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.digits += 1;
        } else if self.digits > 0 {
            return true;
        } else {
            self.window = self.window << 8 | u64::from(byte);
            self.is_behind = self.window & self.pattern.mask == self.pattern.bytes;
        }
        self.at += 1;
        false
    }

    /// What the search has found.
    #[inline(always)]
    #[must_use]
    pub fn found(&self) -> Option<Found> {
        // Digits at the end of a full head may continue behind it.
        if self.digits == 0 || self.at == HEAD_END {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most eight")]
        let pattern_len = self.pattern.len as u32;
        let at = self.at.wrapping_sub(self.digits).wrapping_sub(pattern_len);
        Some(Found { number: self.number, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, from: u32, pattern: &str) -> Option<Found> {
        let mut head = [b'9'; HEAD_LEN];
        head[..text.len()].copy_from_slice(text.as_bytes());
        let mut search =
            Search::new(from, u32::try_from(text.len()).unwrap(), &Pattern::new(pattern.as_bytes()).unwrap());
        while !search.step(&head) {}
        search.found()
    }

    #[test]
    fn numbers_are_found_behind_their_pattern() {
        let text = r#"{"n":4294967297,"ts":"1795503063301613801","p":"xx"}"#;
        assert_eq!(found(text, 0, r#""n":"#), Some(Found { number: 4_294_967_297, at: 1 }));
        let timestamp = Found { number: 1_795_503_063_301_613_801, at: 16 };
        assert_eq!((found(text, 0, r#""ts":""#), found(text, 16, r#""ts":""#)), (Some(timestamp), Some(timestamp)));
        assert_eq!((found(text, 17, r#""ts":""#), found(text, 0, "q:")), (None, None));
        // The first one without a number behind it, the end of the message behind the second.
        assert_eq!(found("n=n=7", 0, "n="), Some(Found { number: 7, at: 2 }));
        assert_eq!(found("aaa12", 0, "aa"), Some(Found { number: 12, at: 1 }));
        assert_eq!(found("n=", 0, "n="), None);
    }

    #[test]
    fn a_pattern_fits_a_window() {
        assert!(Pattern::new(b"").is_none() && Pattern::new(b"123456789").is_none() && Pattern::new(b"a\0").is_none());
        assert_eq!(Pattern::new(b"12345678").unwrap().mask, u64::MAX);
    }
}
