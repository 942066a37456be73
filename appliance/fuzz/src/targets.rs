//! The targets, grouped by the kind of input that they read.

pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod texts;
pub(crate) mod wire;

/// A parser with a common fault: it trusts a length behind a magic word. Only a fuzzer that is guided by coverage and
/// by the operands of comparisons gets through four bytes of magic, a version and a length.
pub(crate) fn canary(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_first_chunk::<6>() else { return };
    let [b'F', b'B', b'Z', b'1', 3, len] = *head else { return };
    // The planted fault.
    assert!(usize::from(len) <= body.len(), "the canary sings");
}

/// The input that makes the canary fail.
pub(crate) const CANARY_INPUT: &[u8] = b"FBZ1\x03\x01";
