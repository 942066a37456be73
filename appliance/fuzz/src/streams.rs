//! Streams that are cut into pieces as the input itself says.

/// The first byte of an input seeds the lengths of the pieces, 1 to 16 bytes, into which the rest is cut.
pub(crate) fn cut(input: &[u8]) -> (impl Iterator<Item = usize>, &[u8]) {
    let (rhythm, rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let mut state = u32::from(rhythm) | 0x100;
    let lengths = std::iter::from_fn(move || {
        // The generator of Numerical Recipes; any other would do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(1 + (state >> 28) as usize)
    });
    (lengths, rest)
}

/// The bytes, cut into pieces of these lengths.
pub(crate) fn pieces<'a>(
    bytes: &'a [u8],
    mut lengths: impl Iterator<Item = usize> + 'a,
) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = lengths.next().unwrap_or(1).clamp(1, rest.len().max(1));
        let (piece, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(piece)
    })
}
