//! The sessions that have one filter in a list of their own, in order of their numbers.
//!
//! A subject may have a hundred thousand of them, and each change of a list adds one or takes one out. So they lie in
//! sorted chunks, and a change moves one chunk. They are sorted because the fan-out goes from each to its place in the
//! slab.

use crate::ids::SessionId;
use crate::protocol::Mode;
use crate::slim;

/// A sorted list that takes four bytes for each session, and little else.
#[derive(Default)]
pub(crate) struct Holders {
    /// Sorted; each chunk holds at least one session, and only sessions before those of the next chunk.
    chunks: Vec<Chunk>,
}

struct Chunk {
    /// The first session in it: chunks are found without looking into any.
    least: SessionId,
    words: Vec<Holder>,
}

/// A session and its mode, in a word.
#[derive(Clone, Copy)]
struct Holder(u32);

impl Holder {
    fn new(session: SessionId, mode: Mode) -> Self {
        debug_assert!(session.0 < 1 << 31, "sessions are counted in 31 bits");
        Self(session.0 << 1 | u32::from(mode == Mode::All))
    }

    fn session(self) -> SessionId {
        SessionId(self.0 >> 1)
    }

    fn mode(self) -> Mode {
        if self.0 & 1 == 0 { Mode::Conflate } else { Mode::All }
    }
}

impl Holders {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// All of them, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, Mode)> {
        self.chunks.iter().flat_map(|chunk| &chunk.words).map(|holder| (holder.session(), holder.mode()))
    }

    /// Adds a session, or changes its mode.
    pub(crate) fn insert(&mut self, session: SessionId, mode: Mode) {
        let holder = Holder::new(session, mode);
        let (at, chunks_len) = (self.chunk_of(session), self.chunks.len());
        let Some(chunk) = self.chunks.get_mut(at) else {
            return self.begin_chunk(0, vec![holder]);
        };
        let place = match chunk.place(session) {
            Ok(place) => {
                chunk.words[place] = holder;
                return;
            }
            Err(place) => place,
        };
        if chunk.words.len() < CHUNK_MAX {
            return chunk.insert(place, holder);
        }
        if place == CHUNK_MAX && at + 1 == chunks_len {
            // Sessions mostly come in order: the chunk before stays full.
            return self.begin_chunk(at + 1, vec![holder]);
        }
        let mut upper = chunk.words.split_off(CHUNK_MAX / 2);
        slim::give_back(&mut chunk.words);
        if place <= CHUNK_MAX / 2 {
            chunk.insert(place, holder);
        } else {
            slim::make_room(&mut upper);
            upper.insert(place - CHUNK_MAX / 2, holder);
        }
        self.begin_chunk(at + 1, upper);
    }

    /// Takes a session out, if it is there.
    pub(crate) fn remove(&mut self, session: SessionId) {
        let at = self.chunk_of(session);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let Ok(place) = chunk.place(session) else { return };
        chunk.words.remove(place);
        match chunk.words.first() {
            None => self.end_chunk(at),
            Some(first) => {
                chunk.least = first.session();
                slim::give_back(&mut chunk.words);
                self.merge_around(at);
            }
        }
    }

    /// The chunk that has this session, or would have it.
    fn chunk_of(&self, session: SessionId) -> usize {
        self.chunks.partition_point(|chunk| chunk.least <= session).saturating_sub(1)
    }

    fn begin_chunk(&mut self, at: usize, words: Vec<Holder>) {
        let Some(first) = words.first() else { return };
        slim::make_room(&mut self.chunks);
        self.chunks.insert(at, Chunk { least: first.session(), words });
    }

    fn end_chunk(&mut self, at: usize) {
        self.chunks.remove(at);
        slim::give_back(&mut self.chunks);
    }

    /// Merges two neighbours if little is left of them.
    fn merge_around(&mut self, at: usize) {
        if self.chunks[at].words.len() >= CHUNK_MIN {
            return;
        }
        let fits = |pair: &[Chunk]| pair[0].words.len() + pair[1].words.len() <= CHUNK_MERGED_MAX;
        let Some(left) = [at, at.wrapping_sub(1)]
            .into_iter()
            .find(|left| left.checked_add(2).and_then(|end| self.chunks.get(*left..end)).is_some_and(fits))
        else {
            return;
        };
        let right = self.chunks.remove(left + 1);
        let words = &mut self.chunks[left].words;
        words.reserve_exact(right.words.len());
        words.extend_from_slice(&right.words);
        slim::give_back(&mut self.chunks);
    }
}

impl Chunk {
    fn place(&self, session: SessionId) -> Result<usize, usize> {
        self.words.binary_search_by_key(&session, |holder| holder.session())
    }

    fn insert(&mut self, place: usize, holder: Holder) {
        slim::make_room(&mut self.words);
        self.words.insert(place, holder);
        self.least = self.words[0].session();
    }
}

/// Bytes that `count` holders of one filter take at most.
pub(crate) const fn bytes_max(count: usize) -> usize {
    let chunks = count / (CHUNK_MIN / 2) + 1;
    slim::capacity_max(chunks) * size_of::<Chunk>()
        + (slim::capacity_max(count) + chunks * slim::SPARE) * size_of::<Holder>()
}

/// Most words of a chunk: to move two kilobytes takes a tenth of a microsecond.
const CHUNK_MAX: usize = 512;
/// Chunks with fewer look for a neighbour to become one with, which then has room for more.
const CHUNK_MIN: usize = CHUNK_MAX / 4;
const CHUNK_MERGED_MAX: usize = CHUNK_MAX * 3 / 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(holders: &Holders, model: &BTreeMap<u32, Mode>) {
        assert!(holders.iter().eq(model.iter().map(|(session, mode)| (SessionId(*session), *mode))));
        assert_eq!(holders.is_empty(), model.is_empty());
        let mut bytes = holders.chunks.capacity() * size_of::<Chunk>();
        for chunk in &holders.chunks {
            assert_eq!(chunk.least, chunk.words[0].session());
            assert!(chunk.words.len() <= CHUNK_MAX);
            assert!(chunk.words.capacity() <= slim::capacity_max(chunk.words.len()));
            bytes += chunk.words.capacity() * size_of::<Holder>();
        }
        assert!(bytes <= bytes_max(model.len()), "{bytes} of {} for {}", bytes_max(model.len()), model.len());
    }

    /// Grows to many, changes, and shrinks to nothing, in several orders.
    #[test]
    fn holders_are_a_sorted_map_in_little_memory() {
        for (count, stride) in [(1u32, 1u32), (600, 1), (5_000, 1), (5_000, 1_999), (5_000, 4_999), (20_000, 7_919)] {
            let (mut holders, mut model) = (Holders::default(), BTreeMap::new());
            let nth = |n: u32| u32::try_from(u64::from(n) * u64::from(stride) % u64::from(count)).unwrap() * 3;
            let mode = |n: u32| if n.is_multiple_of(3) { Mode::All } else { Mode::Conflate };
            for n in 0..count {
                holders.insert(SessionId(nth(n)), mode(n));
                model.insert(nth(n), mode(n));
                if n.is_multiple_of(997) {
                    check(&holders, &model);
                }
            }
            check(&holders, &model);
            // Others in place of them, at random; a mode that changes; who is not there is not taken out.
            let mut random = 12_345u32;
            for n in 0..count {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let session = random >> 8 & 0xffff;
                if n.is_multiple_of(2) {
                    holders.insert(SessionId(session), mode(n));
                    model.insert(session, mode(n));
                } else {
                    holders.remove(SessionId(session));
                    model.remove(&session);
                }
            }
            check(&holders, &model);
            let mut left: Vec<u32> = model.keys().copied().collect();
            left.sort_by_key(|session| session.wrapping_mul(0x9E37_79B9));
            for (n, session) in left.into_iter().enumerate() {
                holders.remove(SessionId(session));
                model.remove(&session);
                if n % 97 == 0 {
                    check(&holders, &model);
                }
            }
            check(&holders, &model);
        }
    }

    #[test]
    fn who_comes_in_order_fills_the_chunks() {
        let mut holders = Holders::default();
        (0..10_000).for_each(|session| holders.insert(SessionId(session), Mode::All));
        assert_eq!(holders.chunks.len(), 10_000usize.div_ceil(CHUNK_MAX));
    }
}
