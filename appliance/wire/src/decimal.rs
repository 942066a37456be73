//! Decimal numbers as they are written in JSON and in texts, exactly: what is written in two ways is the same number,
//! and two numbers are never the same one, as 9007199254740992 and 9007199254740993 are in binary floating point.

use std::cmp::Ordering;
use std::fmt;

use crate::limits::{DECIMAL_DIGITS_MAX, DECIMAL_EXPONENT_MAX};

/// A number: 0.D × 10^exponent, where D are its significant digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    is_negative: bool,
    exponent: i16,
    /// The significant digits from the left, [`HALF`] in each, zeros behind them. Zero has none.
    digits: [u128; 2],
}

/// Why a text is no number that can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// It is not written like one.
    #[error("no number")]
    Syntax,
    /// More than [`DECIMAL_DIGITS_MAX`] significant digits.
    #[error("a number of more than {DECIMAL_DIGITS_MAX} digits")]
    TooLong,
    /// Beyond 10^±[`DECIMAL_EXPONENT_MAX`].
    #[error("a number beyond 10^±{DECIMAL_EXPONENT_MAX}")]
    TooFar,
}

impl Decimal {
    /// 0.
    pub const ZERO: Decimal = Decimal { is_negative: false, exponent: 0, digits: [0; 2] };

    /// Reads a JSON number (RFC 8259, section 6) without quotes. In texts there are also a plus, leading zeros, and a
    /// point without digits on one of its sides: `+1`, `007`, `.5`, `1.`.
    pub fn parse(text: &str) -> Result<Decimal, DecimalError> {
        let (is_negative, unsigned) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        let end = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(unsigned.len());
        let (mantissa, power) = unsigned.split_at(end);
        let power = match power {
            [] => 0,
            [_, rest @ ..] => self::power(rest)?,
        };
        let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
        let (whole, fraction) = mantissa.split_at(point);
        let fraction = fraction.strip_prefix(b".").unwrap_or_default();
        if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return Err(DecimalError::Syntax);
        }
        let digits = || whole.iter().chain(fraction);
        let Some(first) = digits().position(|digit| *digit != b'0') else { return Ok(Decimal::ZERO) };
        let behind = fraction.iter().rev().chain(whole.iter().rev()).take_while(|digit| **digit == b'0').count();
        let last = whole.len() + fraction.len() - 1 - behind;
        if last - first >= DECIMAL_DIGITS_MAX {
            return Err(DecimalError::TooLong);
        }
        let exponent = i64::try_from(whole.len()).ok().zip(i64::try_from(first).ok());
        let exponent = exponent.map_or(i64::MAX, |(whole, first)| (whole - first).saturating_add(power));
        let exponent = i16::try_from(exponent).ok().filter(|exponent| exponent.abs() <= DECIMAL_EXPONENT_MAX);
        let exponent = exponent.ok_or(DecimalError::TooFar)?;
        let mut significant = digits().skip(first).take(last - first + 1).map(|digit| u128::from(digit - b'0'));
        let mut half = || (0..HALF).fold(0, |number, _| number * 10 + significant.next().unwrap_or(0));
        Ok(Decimal { is_negative, exponent, digits: [half(), half()] })
    }

    /// Is it 0?
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.digits == [0; 2]
    }

    /// Is it below 0?
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// The number itself, if it is whole, not negative, and fits.
    #[must_use]
    pub fn to_u64(&self) -> Option<u64> {
        let is_whole = self.len() <= usize::try_from(self.exponent).unwrap_or(0);
        is_whole.then(|| self.scaled_to_u64(0)).flatten()
    }

    /// Times 10^`places`, without what is then still behind the point; none if it is negative or does not fit.
    #[must_use]
    pub fn scaled_to_u64(&self, places: u8) -> Option<u64> {
        if self.is_negative {
            return None;
        }
        let whole_digits = usize::try_from(self.exponent + i16::from(places)).unwrap_or(0);
        let mut number = 0u64;
        for at in 0..whole_digits {
            number = number.checked_mul(10)?.checked_add(self.digit(at).into())?;
        }
        Some(number)
    }

    /// How many digits are behind the point.
    #[must_use]
    pub fn places(&self) -> usize {
        let places = i32::try_from(self.len()).unwrap_or(0) - i32::from(self.exponent);
        usize::try_from(places).unwrap_or(0)
    }

    /// Significant digits.
    fn len(&self) -> usize {
        (0..DECIMAL_DIGITS_MAX).rev().find(|at| self.digit(*at) != 0).map_or(0, |at| at + 1)
    }

    /// A significant digit, from the left; behind them there are zeros.
    fn digit(&self, at: usize) -> u8 {
        let half = self.digits.get(at / HALF).copied().unwrap_or(0);
        let zeros = u32::try_from(HALF - 1 - at % HALF).unwrap_or(0);
        u8::try_from(half / 10u128.pow(zeros) % 10).unwrap_or(0)
    }

    /// The order of two numbers without their signs: 0 is below all others, then the exponent counts, then the digits.
    fn magnitude(&self) -> (bool, i16, [u128; 2]) {
        (!self.is_zero(), self.exponent, self.digits)
    }
}

/// The digits behind `e`.
fn power(text: &[u8]) -> Result<i64, DecimalError> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecimalError::Syntax);
    }
    let power = digits.iter().fold(0i64, |power, digit| power.saturating_mul(10).saturating_add((digit - b'0').into()));
    Ok(if is_negative { -power } else { power })
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Decimal {
        // Nineteen digits are always a number.
        Decimal::parse(&number.to_string()).unwrap_or(Decimal::ZERO)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.magnitude().cmp(&other.magnitude()),
            (true, true) => other.magnitude().cmp(&self.magnitude()),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Written out, without exponent, plus and zeros that say nothing.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negative {
            f.write_str("-")?;
        }
        let whole = usize::try_from(self.exponent).unwrap_or(0);
        if whole == 0 {
            f.write_str("0")?;
        }
        for at in 0..whole {
            write!(f, "{}", self.digit(at))?;
        }
        if self.places() == 0 {
            return Ok(());
        }
        f.write_str(".")?;
        for _ in 0..usize::try_from(-self.exponent).unwrap_or(0) {
            f.write_str("0")?;
        }
        for at in whole..self.len() {
            write!(f, "{}", self.digit(at))?;
        }
        Ok(())
    }
}

/// As many digits as fit into 128 bits, whatever they are.
const HALF: usize = DECIMAL_DIGITS_MAX / 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_written_in_two_ways_is_the_same() {
        for same in [
            &["1", "1.0", "1e0", "+1", "001", "1.", "10e-1", "0.01E+2", "1.000e000"][..],
            &["0", "-0", "0.0", "0e99999999999999999999", "-0.000e-5"],
            &["0.00000001", "1e-8", "1E-8", ".00000001", "0.1e-7"],
            &["9007199254740993", "9.007199254740993e15", "9007199254740993.000"],
            &["-1.5", "-15e-1", "-001.50"],
        ] {
            assert!(same.iter().all(|text| decimal(text) == decimal(same[0])), "{same:?}");
        }
        let longest = "9".repeat(DECIMAL_DIGITS_MAX);
        let ascending = [
            "-1e399",
            "-10",
            "-9.99",
            "-1e-400",
            "0",
            "1e-399",
            "0.4",
            "0.41",
            "0.5",
            "9",
            "9.99",
            "10",
            "9007199254740992",
            "9007199254740993",
            &longest,
            "1e399",
        ];
        for pair in ascending.windows(2) {
            let [low, high] = [decimal(pair[0]), decimal(pair[1])];
            assert_eq!((low.cmp(&high), high.cmp(&low)), (Ordering::Less, Ordering::Greater), "{pair:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for wrong in [
            "", "-", "+", ".", "e5", "1e", "1e+", "1e5.0", "1.2.3", "1,5", " 1", "1 ", "--1", "+-1", "0x1", "NaN",
            "inf", "١",
        ] {
            assert_eq!(Decimal::parse(wrong), Err(DecimalError::Syntax), "{wrong}");
        }
        assert_eq!(Decimal::parse(&"9".repeat(DECIMAL_DIGITS_MAX + 1)), Err(DecimalError::TooLong));
        for far in ["1e400", "1e99999999999999999999", "1e-9999999999999999999999", &format!("0.{}1", "0".repeat(500))]
        {
            assert_eq!(Decimal::parse(far), Err(DecimalError::TooFar), "{far}");
        }
        // There may be many zeros that say nothing.
        assert_eq!(Decimal::parse(&format!("{}1.{}", "0".repeat(1_000), "0".repeat(1_000))), Ok(decimal("1")));
    }

    #[test]
    fn numbers_are_written_out() {
        for (text, expected) in [
            ("1e-8", "0.00000001"),
            ("5E-7", "0.0000005"),
            ("1.50e3", "1500"),
            ("-12.340", "-12.34"),
            ("123456789e-4", "12345.6789"),
            ("0.0", "0"),
            ("+7", "7"),
        ] {
            assert_eq!(decimal(text).to_string(), expected);
        }
        assert_eq!((decimal("1e-8").places(), decimal("12.50").places(), decimal("1e3").places()), (8, 1, 0));
    }

    #[test]
    fn whole_numbers_and_scaled_ones() {
        for (text, whole, milli) in [
            ("0", Some(0), Some(0)),
            ("1e3", Some(1_000), Some(1_000_000)),
            ("1.5", None, Some(1_500)),
            ("1.23456e1", None, Some(12_345)),
            ("0.0009", None, Some(0)),
            ("18446744073709551615", Some(u64::MAX), None),
            ("18446744073709551616", None, None),
            ("1e399", None, None),
            ("1e-400", None, Some(0)),
            ("-1", None, None),
            ("-0", Some(0), Some(0)),
        ] {
            assert_eq!((decimal(text).to_u64(), decimal(text).scaled_to_u64(3)), (whole, milli), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_are_compared_as_they_are(a: i64, b: i64) {
            prop_assert_eq!(Decimal::from(a).cmp(&Decimal::from(b)), a.cmp(&b));
            prop_assert_eq!(Decimal::from(a).to_string(), a.to_string());
            prop_assert_eq!(Decimal::from(a).to_u64(), u64::try_from(a).ok());
        }

        #[test]
        fn written_out_it_is_the_same(text in "[-+]?[0-9]{1,40}(\\.[0-9]{0,30})?([eE][-+]?[0-9]{1,2})?") {
            let number = decimal(&text);
            prop_assert_eq!(decimal(&number.to_string()), number);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Decimal::parse(&text);
        }
    }
}
