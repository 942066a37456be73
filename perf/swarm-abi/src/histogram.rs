//! Latencies by size: 128 buckets for each doubling, so that a bucket's middle is right to 0.4 %.

/// From a microsecond to 36 minutes. As 64-bit counters they fit the 32 KiB that an entry of a per-CPU map may have.
pub const BUCKETS: usize = ((EXPONENT_MAX - EXPONENT_MIN + 1) as usize) << STEPS_LOG2;

/// The bucket of a latency. The first bucket has all shorter latencies, too, and the last one all longer ones.
#[inline(always)]
#[must_use]
pub fn bucket(ns: u64) -> usize {
    let ns = if ns < 1 << EXPONENT_MIN { 1 << EXPONENT_MIN } else { ns };
    let exponent = exponent(ns);
    if exponent > EXPONENT_MAX {
        return BUCKETS - 1;
    }
    let step = (ns >> (exponent - STEPS_LOG2)) & (STEPS - 1);
    ((exponent - EXPONENT_MIN) as usize) << STEPS_LOG2 | step as usize
}

/// The middle of a bucket.
#[expect(clippy::cast_possible_truncation, reason = "there are no more buckets than BUCKETS")]
#[must_use]
pub const fn bucket_middle_ns(bucket: usize) -> u64 {
    let (exponent, step) = ((bucket as u64 >> STEPS_LOG2) as u32 + EXPONENT_MIN, bucket as u64 & (STEPS - 1));
    let width = 1 << (exponent - STEPS_LOG2);
    (STEPS + step) * width + width / 2
}

/// Number of the highest bit, by halving: the machine of these programs has no instruction for it.
#[inline(always)]
fn exponent(mut value: u64) -> u32 {
    let mut exponent = 0;
    let mut half = 32;
    while half > 0 {
        if value >> half != 0 {
            value >>= half;
            exponent += half;
        }
        half /= 2;
    }
    exponent
}

const STEPS_LOG2: u32 = 7;
const STEPS: u64 = 1 << STEPS_LOG2;
const EXPONENT_MIN: u32 = 10;
const EXPONENT_MAX: u32 = 40;

const _: () = assert!(BUCKETS * size_of::<u64>() <= 32 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buckets_middle_is_in_it_and_right_to_half_a_percent() {
        for number in 0..BUCKETS {
            assert_eq!(bucket(bucket_middle_ns(number)), number);
        }
        for ns in [1_024, 1_500, 65_535, 65_536, 999_999_999, (1 << 41) - 1] {
            let middle = bucket_middle_ns(bucket(ns));
            assert!(middle.abs_diff(ns) * 200 <= ns, "{ns} {middle}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX), bucket(1 << 41)), (0, BUCKETS - 1, BUCKETS - 1));
    }
}
