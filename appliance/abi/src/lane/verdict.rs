//! The decisions of the lanes' programs: one counter per verdict, each with a name.

use crate::verdict::verdicts;

/// The program that a verdict belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneHook {
    /// `lane_send`: every run, which is one item at most.
    Send,
    /// `lane_receive`: every packet.
    Receive,
    /// `lane_guard`: every packet that the interface sends.
    Guard,
    /// `lane_giveback`: every packet that was held back and is given to the kernel.
    Giveback,
}

verdicts! {
    /// What a program of the lanes decided about a packet. Each packet gets exactly one, so the sum over a hook's
    /// verdicts is the number of packets that the hook has seen.
    LaneVerdict,
    /// Value of `LANE_VERDICTS` (one entry, a copy per CPU): a named counter for each [`LaneVerdict`], in its order.
    LaneCounters,
    LaneHook;

    /// The item's packet was made and sent on to the device.
    SendSent send_sent Send;
    /// No item is left.
    SendNoWork send_no_work Send;
    /// No lane has the item's index, or another connection has it now.
    SendGone send_gone Send;
    /// The lane is between lane and socket, or to be raised.
    SendHeld send_held Send;
    /// The client's window is full.
    SendWindow send_window Send;
    /// As much is in flight as the lane may have.
    SendInFlight send_in_flight Send;
    /// Longer than the lane's segments, or than any.
    SendTooLong send_too_long Send;
    /// Not the next bytes of the lane: an item before it was refused.
    SendOutOfTurn send_out_of_turn Send;
    /// No path has the index that the lane names.
    SendNoPath send_no_path Send;
    /// The lane's packets leave by another interface than those of this run.
    SendOtherInterface send_other_interface Send;
    /// The payload is not within the slots.
    SendNoSlot send_no_slot Send;
    /// The packet that the program was run over is too short, or could not be cut.
    SendFailed send_failed Send;

    /// Neither IPv4 nor IPv6: passed.
    ReceiveNotIp receive_not_ip Receive;
    /// IP, but not TCP: passed.
    ReceiveNotTcp receive_not_tcp Receive;
    /// A fragment: passed.
    ReceiveFragment receive_fragment Receive;
    /// Shorter than its own headers say: passed.
    ReceiveRunt receive_runt Receive;
    /// Headers that contradict themselves: passed.
    ReceiveMalformed receive_malformed Receive;
    /// More VLAN tags or IPv6 extension headers than we look through: passed.
    ReceiveTooDeep receive_too_deep Receive;
    /// TCP to another port: passed.
    ReceiveNotOurs receive_not_ours Receive;
    /// TCP to one of our ports, of no lane: passed.
    ReceiveNoLane receive_no_lane Receive;
    /// Of a lane that is held or to be raised: given to userspace as it is.
    ReceiveHeld receive_held Receive;
    /// Of such a lane, but the ring buffer was full or the frame too long for it: dropped.
    ReceiveHeldLost receive_held_lost Receive;
    /// Wrong checksum: dropped.
    ReceiveBadSum receive_bad_sum Receive;
    /// Taken: it has said all that it has to say.
    ReceiveTaken receive_taken Receive;
    /// Taken, and its payload given to userspace.
    ReceiveData receive_data Receive;
    /// Its payload found no room in the ring buffer: dropped.
    ReceiveDataLost receive_data_lost Receive;
    /// Dropped, and userspace asked for an acknowledgement.
    ReceiveAnswer receive_answer Receive;
    /// An acknowledgement is due, but the ring buffer was full: dropped.
    ReceiveAnswerLost receive_answer_lost Receive;
    /// A reset outside the window: dropped.
    ReceiveResetOutside receive_reset_outside Receive;
    /// An acknowledgement older than the largest window: dropped, and userspace asked for an acknowledgement.
    ReceiveTooOld receive_too_old Receive;
    /// Without the flag ACK: dropped.
    ReceiveNoAck receive_no_ack Receive;
    /// The lane is to be raised: given to userspace as it is, with the reason.
    ReceiveRaised receive_raised Receive;
    /// The lane is to be raised, but the ring buffer was full: dropped. The lane is marked.
    ReceiveRaisedLost receive_raised_lost Receive;

    /// Not a reset of a lane: on to the next program.
    GuardPassed guard_passed Guard;
    /// The kernel, which knows nothing of the lane, resets its connection: dropped.
    GuardDropped guard_dropped Guard;

    /// The kernel takes it.
    GivebackPassed giveback_passed Giveback;
}
