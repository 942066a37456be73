//! Lists that keep little more memory than they need: they grow by a quarter, and give back what they do not use.
//!
//! The standard library doubles a list and never shrinks it, which is right for one list and dear for a million.

/// Makes room for one more item.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4).max(1));
    }
}

/// After an item was taken out: leaves at most half as much unused room as there are items, and [`SPARE`].
pub(crate) fn give_back<T>(list: &mut Vec<T>) {
    if list.capacity() > capacity_max(list.len()) {
        list.shrink_to(list.len() + list.len() / 8);
    }
}

/// The same for a list that grows and shrinks often, by the library's doubling: a third of its room is used, or it is
/// small.
pub(crate) fn give_back_most<T>(list: &mut Vec<T>) {
    if list.capacity() > SMALL.max(3 * list.len()) {
        list.shrink_to(list.len());
    }
}

/// The most room that a list has for `len` items.
pub(crate) const fn capacity_max(len: usize) -> usize {
    len + len / 2 + SPARE
}

/// Room that is not worth giving back.
pub(crate) const SPARE: usize = 1;
/// What the library gives a list at first.
const SMALL: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_little_more_than_it_needs_and_moves_seldom() {
        let mut list: Vec<u32> = Vec::new();
        let (mut moves, mut capacity) = (0, 0);
        let mut look = |list: &Vec<u32>| {
            moves += u32::from(list.capacity() != capacity);
            capacity = list.capacity();
            assert!(capacity <= capacity_max(list.len()), "{capacity} for {}", list.len());
            moves
        };
        for n in 0..10_000 {
            make_room(&mut list);
            list.push(n);
            look(&list);
        }
        assert!(look(&list) < 50, "grown too often");
        while list.pop().is_some() {
            give_back(&mut list);
            look(&list);
        }
        assert!(look(&list) < 100, "shrunk too often");
        assert!(list.capacity() <= SPARE);
    }
}
