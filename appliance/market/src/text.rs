//! Text in a buffer of fixed length.
//!
//! Sixty numbers stand in a book, so this is most of what encoding costs. Nothing is written twice, copied, or branched
//! upon: how many digits a number has is as good as random, and to guess it wrong costs more than all its arithmetic.

/// Writes from the beginning of `bytes`. What does not fit is left out; callers bring room for the longest image.
pub(crate) struct Text<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Text<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Text<'a> {
        Text { bytes, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What has been written since it was so long.
    pub(crate) fn since(&self, len: usize) -> &[u8] {
        self.bytes.get(len..self.len).unwrap_or_default()
    }

    /// Text whose length is known to the compiler.
    #[inline]
    pub(crate) fn put<const N: usize>(&mut self, part: &[u8; N]) {
        self.store(part);
        self.len += N;
    }

    /// The first `len` bytes of a part, for which as much room is needed as for all of it.
    #[inline]
    pub(crate) fn put_padded<const N: usize>(&mut self, part: &[u8; N], len: usize) {
        self.store(part);
        self.len += len;
    }

    pub(crate) fn put_slice(&mut self, part: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + part.len()) {
            place.copy_from_slice(part);
        }
        self.len += part.len();
    }

    /// Another byte in the place of one that has been written.
    pub(crate) fn replace(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.bytes.get_mut(at) {
            *place = byte;
        }
    }

    /// A number in decimal.
    #[inline]
    pub(crate) fn put_number(&mut self, number: u64) {
        if number < EIGHT_DIGITS {
            self.put_short(number);
        } else {
            self.put_long(number);
        }
    }

    fn put_long(&mut self, number: u64) {
        self.put_number(number / EIGHT_DIGITS);
        self.put(&ascii(eight(number % EIGHT_DIGITS)));
    }

    #[inline]
    fn put_short(&mut self, number: u64) {
        let digits = eight(number);
        // The last digit is one, though it be zero.
        let zeros = (digits | 1 << 63).trailing_zeros() / 8;
        self.store(&ascii(digits >> (8 * zeros)));
        self.len += 8 - zeros as usize;
    }

    #[inline]
    fn store<const N: usize>(&mut self, part: &[u8; N]) {
        if let Some(place) = self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
            *place = *part;
        }
    }
}

/// The digits of a number below 10^8, the first of eight in the lowest byte.
#[inline]
fn eight(number: u64) -> u64 {
    // Two lanes of four digits, four lanes of two, eight of one. The factors are 1/100 and 1/10, exact for these.
    let fours = (number / 10_000) | (number % 10_000) << 32;
    let hundreds = ((fours * 5_243) >> 19) & 0x0000_007F_0000_007F;
    let pairs = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F;
    tens | (pairs - tens * 10) << 8
}

#[inline]
fn ascii(digits: u64) -> [u8; 8] {
    (digits | 0x3030_3030_3030_3030).to_le_bytes()
}

/// One digit more than eight have.
const EIGHT_DIGITS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Text;

    fn decimal(number: u64) -> String {
        let mut bytes = [b'x'; 40];
        let mut text = Text::new(&mut bytes);
        text.put(b"[");
        text.put_number(number);
        text.put_slice(b"]");
        let text = String::from_utf8(text.since(0).to_vec()).unwrap();
        text.strip_prefix('[').unwrap().strip_suffix(']').unwrap().to_owned()
    }

    #[test]
    fn every_number_of_four_digits_and_all_lengths() {
        for number in 0..10_000 {
            assert_eq!(decimal(number), number.to_string());
            let number = number * 10_000;
            assert_eq!(decimal(number), number.to_string());
        }
        for shift in 0..64 {
            for number in [(1 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                assert_eq!(decimal(number), number.to_string());
            }
        }
        for power in 0..20 {
            let number = 10_u64.pow(power);
            assert_eq!(decimal(number), number.to_string());
            assert_eq!(decimal(number - 1), (number - 1).to_string());
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut bytes = [b'x'; 12];
        let mut text = Text::new(&mut bytes[..10]);
        for _ in 0..3 {
            text.put(b"ab");
            text.put_number(u64::MAX);
            text.put_slice(b"cd");
        }
        text.replace(30, b'?');
        assert_eq!((text.len(), text.since(0)), (72, &b""[..]));
        assert_eq!((&bytes[..6], &bytes[10..]), (&b"ab1844"[..], &b"xx"[..]));
    }

    proptest! {
        #[test]
        fn any_number(number: u64, shift in 0..64_u32) {
            prop_assert_eq!(decimal(number >> shift), (number >> shift).to_string());
        }
    }
}
