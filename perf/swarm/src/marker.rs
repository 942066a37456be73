//! A number that stands somewhere in a message: the time at which it was published, its number in a sequence.
//!
//! It is found whether the message comes whole or in pieces, with nine bytes of state in between.

use std::str::FromStr;

use memchr::memmem::Finder;

use super::template::unescape;

/// Where the number stands, and how it is written.
#[derive(Debug, Clone)]
pub struct Marker {
    place: Place,
    form: Form,
}

#[derive(Debug, Clone)]
enum Place {
    /// Behind the first occurrence of these bytes.
    Behind(Pattern),
    /// At this offset.
    At(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Decimal,
    LittleEndian,
    BigEndian,
}

/// How far a message that comes in pieces has been read: bytes of the pattern (or of the offset) that have been seen,
/// then those of the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress(u8);

const DONE: Progress = Progress(u8::MAX);
/// So that pattern and number fit [`Progress`].
const PATTERN_LEN_MAX: usize = 200;
const BINARY_LEN: usize = 8;

impl Marker {
    /// The bytes behind which the digits of a decimal number stand.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        match (&self.place, self.form) {
            (Place::Behind(pattern), Form::Decimal) => Some(&pattern.bytes),
            _ => None,
        }
    }

    /// The number, where `message` is whole.
    pub fn find(&self, message: &[u8]) -> Option<u64> {
        match &self.place {
            Place::At(offset) => self.read(message.get(usize::from(*offset)..)?),
            Place::Behind(pattern) => {
                let mut from = 0;
                loop {
                    let at = from + pattern.finder.find(message.get(from..)?)?;
                    if let Some(number) = self.read(&message[at + pattern.bytes.len()..]) {
                        return Some(number);
                    }
                    from = at + 1;
                }
            }
        }
    }

    fn read(&self, bytes: &[u8]) -> Option<u64> {
        match self.form {
            Form::Decimal => {
                let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
                digits.fold(None, |number, digit| Some(self.with(number.unwrap_or(0), 0, *digit)))
            }
            Form::LittleEndian => bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
            Form::BigEndian => bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
        }
    }

    /// `number` with one byte more, the `at`th. Wrapping: of a number that is too long the low digits remain, so that
    /// the low half alone may be kept.
    fn with(&self, number: u64, at: usize, byte: u8) -> u64 {
        match self.form {
            Form::Decimal => number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            Form::LittleEndian => number | u64::from(byte) << (8 * at),
            Form::BigEndian => number << 8 | u64::from(byte),
        }
    }

    fn place_len(&self) -> u8 {
        match &self.place {
            Place::At(offset) => *offset,
            Place::Behind(pattern) => pattern.len(),
        }
    }

    /// Reads on in a message that comes in pieces. `Some` is how many of the bytes it took until the number was known;
    /// what follows in the same message does not change it.
    pub(crate) fn scan(&self, progress: &mut Progress, number: &mut u64, bytes: &[u8]) -> Option<usize> {
        if *progress == DONE {
            return None;
        }
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.step(progress, number, *byte) {
                return Some(at + usize::from(self.form != Form::Decimal));
            }
            at += 1;
            // Nothing of the pattern has been seen: skip to the next byte with which it could begin.
            if *progress == Progress(0)
                && let Place::Behind(pattern) = &self.place
            {
                at += pattern.skip(&bytes[at..]);
            }
        }
        None
    }

    /// One byte; `true` when the number is known with it (or, if decimal, ended before it).
    fn step(&self, progress: &mut Progress, number: &mut u64, byte: u8) -> bool {
        let (seen, place_len) = (progress.0, self.place_len());
        if seen < place_len {
            *progress = Progress(self.advance(seen, byte));
            return false;
        }
        let at = usize::from(seen - place_len);
        if self.form == Form::Decimal {
            if !byte.is_ascii_digit() {
                if at > 0 {
                    *progress = DONE;
                    return true;
                }
                // No number follows: the pattern may begin within itself.
                *progress = Progress(self.advance(seen, byte));
                return false;
            }
            *number = self.with(if at == 0 { 0 } else { *number }, at, byte);
            *progress = Progress(place_len + 1);
            return false;
        }
        *number = self.with(if at == 0 { 0 } else { *number }, at, byte);
        *progress = Progress(progress.0 + 1);
        if at + 1 == BINARY_LEN {
            *progress = DONE;
        }
        *progress == DONE
    }

    /// How many bytes of the place have been seen after one more.
    fn advance(&self, seen: u8, byte: u8) -> u8 {
        match &self.place {
            Place::At(_) => seen + 1,
            Place::Behind(pattern) => pattern.advance(seen, byte),
        }
    }

    /// The message is over: was the number in it?
    pub(crate) fn end(&self, progress: Progress) -> bool {
        progress == DONE || (self.form == Form::Decimal && progress.0 > self.place_len())
    }
}

impl FromStr for Marker {
    type Err = String;

    fn from_str(text: &str) -> Result<Marker, String> {
        let wrong = || {
            format!(
                "`{text}` does not say where a number stands; write text:PATTERN (decimal digits follow it), \
                 u64le:PATTERN, u64be:PATTERN (eight bytes follow it), u64le@OFFSET or u64be@OFFSET"
            )
        };
        let end = text.find([':', '@']).ok_or_else(wrong)?;
        let form = match &text[..end] {
            "text" => Form::Decimal,
            "u64le" => Form::LittleEndian,
            "u64be" => Form::BigEndian,
            _ => return Err(wrong()),
        };
        let place = &text[end + 1..];
        if text.as_bytes()[end] == b'@' {
            let offset = place.parse().ok().filter(|offset| usize::from(*offset) <= PATTERN_LEN_MAX);
            let offset = offset.filter(|_| form != Form::Decimal).ok_or_else(wrong)?;
            return Ok(Marker { place: Place::At(offset), form });
        }
        let pattern: Pattern = place.parse()?;
        if form == Form::Decimal && pattern.bytes.last().is_some_and(u8::is_ascii_digit) {
            return Err(format!("`{place}` ends with a digit, which would be taken for a part of the number"));
        }
        Ok(Marker { place: Place::Behind(pattern), form })
    }
}

/// Bytes to look for, at once or in pieces (Knuth, Morris and Pratt).
#[derive(Debug, Clone)]
pub struct Pattern {
    bytes: Box<[u8]>,
    finder: Box<Finder<'static>>,
    /// For each prefix: the length of its longest true suffix that is a prefix, too.
    fallback: Box<[u8]>,
}

impl Pattern {
    /// Reads on in what comes in pieces. `Some` is how many of the bytes it took until the pattern was whole.
    pub(crate) fn scan(&self, progress: &mut Progress, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            *progress = Progress(self.advance(progress.0, *byte));
            if usize::from(progress.0) == self.bytes.len() {
                return Some(at + 1);
            }
        }
        None
    }

    /// How many bytes of the pattern have been seen after one more.
    fn advance(&self, seen: u8, byte: u8) -> u8 {
        let mut seen = seen;
        loop {
            if self.bytes.get(usize::from(seen)) == Some(&byte) {
                return seen + 1;
            }
            if seen == 0 {
                return 0;
            }
            seen = self.fallback[usize::from(seen - 1)];
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most PATTERN_LEN_MAX")]
    fn len(&self) -> u8 {
        self.bytes.len() as u8
    }

    /// How many of `bytes` cannot be the pattern's beginning.
    fn skip(&self, bytes: &[u8]) -> usize {
        memchr::memchr(self.bytes[0], bytes).unwrap_or(bytes.len())
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        let bytes = unescape(text)?;
        if bytes.is_empty() || bytes.len() > PATTERN_LEN_MAX {
            return Err(format!("a pattern has 1 to {PATTERN_LEN_MAX} bytes, not {}", bytes.len()));
        }
        let mut fallback = vec![0u8; bytes.len()];
        for at in 1..bytes.len() {
            let mut len = fallback[at - 1];
            while len > 0 && bytes[usize::from(len)] != bytes[at] {
                len = fallback[usize::from(len - 1)];
            }
            fallback[at] = len + u8::from(bytes[usize::from(len)] == bytes[at]);
        }
        let finder = Box::new(Finder::new(&bytes).into_owned());
        Ok(Pattern { finder, bytes: bytes.into(), fallback: fallback.into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marker(text: &str) -> Marker {
        text.parse().unwrap()
    }

    /// The number, with the message in pieces.
    fn scan(marker: &Marker, message: &[u8], cuts: &[usize]) -> Option<u64> {
        let (mut progress, mut number, mut from) = (Progress::default(), 0, 0);
        for &to in cuts.iter().chain([&message.len()]) {
            marker.scan(&mut progress, &mut number, &message[from..to]);
            from = to;
        }
        marker.end(progress).then_some(number)
    }

    #[test]
    fn every_pair_of_cuts_finds_the_same_number() {
        let text = br#"{"op":"x","ts":"","tts":""ts":"17955034","n":7}"#;
        let binary = b"abcabcab\x01\x02\x03\x04\x05\x06\x07\x08";
        // The first "cab" has the second one in its number.
        let cab = u64::from_le_bytes(*b"cab\x01\x02\x03\x04\x05");
        let cases: [(&str, &[u8], Option<u64>); 9] = [
            (r#"text:"ts":""#, text, Some(17_955_034)),
            (r#"text:"n":"#, text, Some(7)),
            (r#"text:"m":"#, text, None),
            (r#"text:""ts":""#, b"\"\"ts\":\"12", Some(12)),
            ("u64be:bcabcab", binary, Some(0x0102_0304_0506_0708)),
            ("u64le:cab", binary, Some(cab)),
            ("u64be@8", binary, Some(0x0102_0304_0506_0708)),
            ("u64le@8", binary, Some(0x0807_0605_0403_0201)),
            ("u64le@9", binary, None),
        ];
        for (how, message, number) in cases {
            let marker = marker(how);
            assert_eq!(marker.find(message), number, "{how}");
            for first in 0..=message.len() {
                for second in first..=message.len() {
                    assert_eq!(scan(&marker, message, &[first, second]), number, "{how} {first} {second}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_and_whole_agree(pattern in "[ab]{1,5}", message in "[ab1]{0,40}", cut in 0usize..40) {
            let marker = marker(&format!("text:{pattern}"));
            let cut = cut.min(message.len());
            prop_assert_eq!(scan(&marker, message.as_bytes(), &[cut]), marker.find(message.as_bytes()));
        }
    }

    fn low_half(number: u64) -> u32 {
        u32::try_from(number & u64::from(u32::MAX)).unwrap()
    }

    #[test]
    fn a_long_number_keeps_its_low_half_right() {
        let marker = marker("text:n=");
        let whole = marker.find(b"n=1795503063301613801").unwrap();
        assert_eq!(whole, 1_795_503_063_301_613_801);
        let (mut progress, mut low) = (Progress::default(), 0);
        for byte in b"n=1795503063301613801;" {
            let mut number = u64::from(low);
            marker.scan(&mut progress, &mut number, &[*byte]);
            low = low_half(number);
        }
        assert_eq!(low, low_half(whole));
    }

    #[test]
    fn what_follows_the_number_is_told() {
        let marker = marker("text:n=");
        let (mut progress, mut number) = (Progress::default(), 0);
        assert_eq!(marker.scan(&mut progress, &mut number, b"xn=12"), None);
        assert_eq!(marker.scan(&mut progress, &mut number, b"3,n=4"), Some(1));
        assert_eq!((number, marker.scan(&mut progress, &mut number, b"n=5,")), (123, None));
    }

    #[test]
    fn a_pattern_is_found_across_pieces() {
        let pattern: Pattern = r"ab\r\nab\n".parse().unwrap();
        let mut progress = Progress::default();
        assert_eq!(pattern.scan(&mut progress, b"ab\r\nab\r"), None);
        assert_eq!(pattern.scan(&mut progress, b"\nab\nrest"), Some(4));
    }

    #[test]
    fn a_place_that_makes_no_sense_is_refused() {
        for bad in ["", "ts", "text:", "text@4", "u64le@201", "u64le@x", "u32:x", "text:n=1"] {
            assert!(bad.parse::<Marker>().is_err(), "{bad}");
        }
    }
}
