//! A price level, and a side's best ones as images lend them: with the text that each has in a book.

use core::fmt;

use crate::limits::BOOK_LEVELS;
use crate::text::Text;

/// All orders of one side at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// In units of 1/10000.
    pub price: u32,
    /// Number of orders, at least 1.
    pub orders: u32,
    /// Sum of their shares, at least 1.
    pub shares: u64,
}

impl Level {
    /// As it stands in JSON: `[price,shares,orders]`.
    #[inline]
    pub(crate) fn write(&self, text: &mut Text<'_>) {
        text.put(b"[");
        text.put_number(self.price.into());
        text.put(b",");
        text.put_number(self.shares);
        text.put(b",");
        text.put_number(self.orders.into());
        text.put(b"]");
    }
}

/// At most [`BOOK_LEVELS`] levels, best first.
#[derive(Clone, Copy)]
pub struct Levels<'a> {
    /// Worst first.
    levels: &'a [Level],
    /// Best first, and as many or more.
    texts: &'a [LevelText],
}

impl<'a> Levels<'a> {
    /// The best of levels sorted from worst to best, and their texts, sorted from best to worst.
    pub(crate) fn best_of(sorted: &'a [Level], texts: &'a [LevelText]) -> Levels<'a> {
        let levels = sorted.get(sorted.len().saturating_sub(BOOK_LEVELS)..).unwrap_or_default();
        Levels { levels, texts }
    }

    /// Best first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a Level> + use<'a> {
        self.levels.iter().rev()
    }

    /// Best first, each with its text.
    pub(crate) fn with_texts(&self) -> impl Iterator<Item = (&'a Level, &'a LevelText)> + use<'a> {
        self.iter().zip(self.texts)
    }

    /// Number of levels.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Nothing on this side.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }
}

impl PartialEq for Levels<'_> {
    fn eq(&self, other: &Levels<'_>) -> bool {
        self.levels == other.levels
    }
}

impl Eq for Levels<'_> {}

impl fmt::Debug for Levels<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// A level as it stands in a book, with a comma behind it; its length is the last byte. One that is too long to be kept
/// has the length 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LevelText([u8; LEVEL_TEXT_LEN]);

impl LevelText {
    pub(crate) fn of(one: &Level) -> LevelText {
        let mut bytes = [0; LEVEL_LEN_MAX];
        let mut text = Text::new(&mut bytes);
        one.write(&mut text);
        text.put(b",");
        let len = text.len();
        let mut kept = LevelText::default();
        if len < LEVEL_TEXT_LEN {
            kept.0.copy_from_slice(&bytes[..LEVEL_TEXT_LEN]);
            #[expect(clippy::cast_possible_truncation, reason = "below LEVEL_TEXT_LEN")]
            let len = len as u8;
            kept.0[LEVEL_TEXT_LEN - 1] = len;
        }
        kept
    }

    /// All of the bytes, of which [`len`](Self::len) are the text.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8; LEVEL_TEXT_LEN] {
        &self.0
    }

    /// 0: the text is too long to be kept.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0[LEVEL_TEXT_LEN - 1].into()
    }
}

/// Half a cache line. Usual are 15 to 21.
const LEVEL_TEXT_LEN: usize = 32;
/// Ten digits of price, twenty of shares, ten of orders, five signs; and numbers are stored eight bytes at once.
const LEVEL_LEN_MAX: usize = 64;
