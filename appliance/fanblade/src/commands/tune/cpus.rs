//! Sets of CPUs, as the kernel writes them: lists (`0-3,8`) and masks (`ff,00000003`).

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Some of the machine's CPUs.
pub(crate) type Cpus = BTreeSet<usize>;

/// Reads a list such as `0-3,8`; an empty one is an empty set. None: it is none.
pub(crate) fn parse_list(text: &str) -> Option<Cpus> {
    let mut cpus = Cpus::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Reads a mask such as `ff,00000003`: groups of 32 CPUs, the highest first. None: it is none.
pub(crate) fn parse_mask(text: &str) -> Option<Cpus> {
    let mut cpus = Cpus::new();
    for (group, word) in text.trim().split(',').rev().enumerate() {
        let word = u32::from_str_radix(word, 16).ok().filter(|_| group < CPUS_MAX / 32)?;
        cpus.extend((0..32).filter(|bit| word >> bit & 1 == 1).map(|bit| group * 32 + bit));
    }
    Some(cpus)
}

/// `0-3,8`.
pub(crate) fn list(cpus: &Cpus) -> String {
    let mut text = String::new();
    let mut rest = cpus.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|cpu| *cpu == last + 1) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match last == first {
            true => write!(text, "{comma}{first}"),
            false => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}

/// `ff,00000003`.
pub(crate) fn mask(cpus: &Cpus) -> String {
    let groups = cpus.last().map_or(1, |last| last / 32 + 1);
    let words = (0..groups).rev().map(|group| {
        let bits = (0..32).filter(|bit| cpus.contains(&(group * 32 + bit)));
        format!("{:08x}", bits.fold(0_u32, |word, bit| word | 1 << bit))
    });
    words.collect::<Vec<_>>().join(",")
}

/// More than any kernel is built for (CONFIG_NR_CPUS): a number beyond is none of a CPU.
const CPUS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_are_read_as_the_kernel_writes_them() {
        let cpus = |list: &[usize]| Some(list.iter().copied().collect::<Cpus>());
        assert_eq!(parse_list("0-2,5,7-8\n"), cpus(&[0, 1, 2, 5, 7, 8]));
        assert_eq!((parse_list(""), parse_list("\n")), (cpus(&[]), cpus(&[])));
        for wrong in ["-1", "3-1", "a", "0-99999999999", "1,,x", "0-"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
        assert_eq!(parse_mask("f"), cpus(&[0, 1, 2, 3]));
        assert_eq!(parse_mask("00000001,00000003\n"), cpus(&[0, 1, 32]));
        assert_eq!((parse_mask("00000000"), parse_mask("x"), parse_mask("")), (cpus(&[]), None, None));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for text in ["", "0", "0-3", "1,3,5-7,64", "31-32,127"] {
            let cpus = parse_list(text).unwrap();
            assert_eq!((list(&cpus).as_str(), parse_mask(&mask(&cpus))), (text, Some(cpus)));
        }
        assert_eq!(mask(&parse_list("0-1,32").unwrap()), "00000001,00000003");
    }
}
