//! A level of a book, as the venue has written it.

/// Price and quantity, as the venue writes them.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) price: Box<str>,
    pub(super) quantity: Box<str>,
}
