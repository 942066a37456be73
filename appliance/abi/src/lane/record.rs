//! What the receiving program tells userspace, through a ring buffer.

/// The head of a record in `RECORDS`; `len` bytes follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Index of the lane.
    pub lane: u32,
    /// The lane's [`super::Sending::generation`] when the packet came.
    pub generation: u16,
    /// [`Record::DATA`] and others.
    pub kind: u8,
    /// With [`Record::RAISE`] the [`super::Reason`], else 0.
    pub reason: u8,
    /// Bytes that follow.
    pub len: u32,
    /// The interface that the packet came by: where it comes by again if it is given to the kernel.
    pub interface: u32,
}

impl Record {
    /// The payload of a segment, the next of its lane. The lane expects what is behind it a moment later: an answer at
    /// once may still acknowledge less, and whoever takes the lane waits for running programs first.
    pub const DATA: u8 = 1;
    /// The client wants to know where we are: send it an acknowledgement. No bytes.
    pub const ANSWER: u8 = 2;
    /// A frame of a lane that is held or to be raised, from its Ethernet header on. The lane does not know of it.
    pub const HELD: u8 = 3;
    /// The frame because of which a lane is to be raised, from its Ethernet header on. The lane is marked as
    /// [`super::Receiving::raised`]. No bytes if the frame was longer than [`FRAME_LEN_MAX`].
    pub const RAISE: u8 = 4;
}

/// The longest frame that a record can hold, in bytes: a jumbo frame with its tags. What is longer was joined by a
/// card or by a peer on the same machine, which sends it again in smaller pieces when nobody acknowledges it.
pub const FRAME_LEN_MAX: u32 = 10_224;

/// Bytes of the ring buffer for up to `lanes_max` lanes: a power of two, as the kernel wants it. A short request of
/// every sixth lane at once finds room.
#[must_use]
pub const fn ring_len(lanes_max: u32) -> u32 {
    let wanted = if lanes_max < RING_LEN_LIMIT / BYTES_PER_LANE { lanes_max * BYTES_PER_LANE } else { RING_LEN_LIMIT };
    if wanted < RING_LEN_MIN { RING_LEN_MIN } else { wanted.next_power_of_two() }
}

const BYTES_PER_LANE: u32 = 8;
const RING_LEN_MIN: u32 = 1 << 20;
const RING_LEN_LIMIT: u32 = 1 << 26;

const _: () = assert!(size_of::<Record>() == 16);

#[cfg(test)]
mod tests {
    use super::ring_len;

    #[test]
    fn the_ring_is_a_power_of_two_within_its_limits() {
        assert_eq!([ring_len(0), ring_len(1 << 17), ring_len(131_073)], [1 << 20, 1 << 20, 1 << 21]);
        assert_eq!([ring_len(8_388_608), ring_len(u32::MAX)], [1 << 26, 1 << 26]);
    }
}
