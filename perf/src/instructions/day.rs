//! The program that runs under callgrind: it plays a day, with a function of its own for each type of message.

use std::hint::black_box;

use anyhow::ensure;
use clap::Args;
use serde_json::json;

use fanblade_feed::UnixNs;

use crate::feed::{Day, DayArgs, Desk, Path, Stage};

#[derive(Debug, Clone, Args)]
pub(crate) struct PlayArgs {
    #[command(flatten)]
    pub(crate) day: DayArgs,
    /// Warm-up messages, not counted except for types that come only before the open
    #[arg(long)]
    pub(crate) warmup_messages: u64,
}

/// Plays the day, and prints how many packets and messages were counted.
pub(crate) fn run(args: &PlayArgs) -> anyhow::Result<()> {
    let day = args.day.make()?;
    let warmup = day.packets_of(args.warmup_messages);
    ensure!(warmup < day.packets(), "the day has only {} messages, all within the warm-up", day.messages());
    let mut path = Path::new(Stage::Publish)?;
    path.play(&day, 0..warmup, |desk, seq, bytes, received_ns| match bytes.first() {
        Some(kind) if BEFORE_THE_OPEN.contains(kind) => by_kind(desk, seq, bytes, received_ns),
        _ => desk.message(seq, bytes, received_ns),
    });
    let before = path.figures();
    counted_day(&mut path, &day, warmup);
    let figures = path.figures().since(&before);
    ensure!(figures.faults == 0, "the day was not played exactly: {figures:?}");
    println!("{}", json!({"packets": figures.packets, "messages": figures.messages}));
    Ok(())
}

/// Types that are counted during the warm-up, too, because they hardly come after it.
pub(super) const BEFORE_THE_OPEN: &[u8] = b"SRH";

/// Plays all that follows the warm-up, in a function with a name, by which its instructions can be looked up.
#[inline(never)]
fn counted_day(path: &mut Path, day: &Day, warmup: usize) {
    path.play(day, warmup..day.packets(), by_kind);
}

/// One function for each type. Each passes another value to `black_box`, because the compiler merges functions that do
/// the same.
macro_rules! kinds {
    ($($kind:literal $name:ident,)*) => {
        /// Type byte and name of the function.
        pub(super) const KINDS: &[(u8, &str)] = &[$(($kind, stringify!($name)),)*];

        fn by_kind(desk: &mut Desk, seq: u64, bytes: &[u8], received_ns: UnixNs) {
            match bytes.first() {
                $(Some($kind) => $name(desk, seq, bytes, received_ns),)*
                _ => desk.message(seq, bytes, received_ns),
            }
        }

        $(
            #[inline(never)]
            fn $name(desk: &mut Desk, seq: u64, bytes: &[u8], received_ns: UnixNs) {
                black_box($kind);
                desk.message(seq, bytes, received_ns);
            }
        )*
    };
}

kinds! {
    b'A' message_a_add,
    b'F' message_f_add_mpid,
    b'E' message_e_executed,
    b'C' message_c_executed_price,
    b'X' message_x_cancel,
    b'D' message_d_delete,
    b'U' message_u_replace,
    b'P' message_p_trade,
    b'Q' message_q_cross,
    b'B' message_b_broken,
    b'I' message_i_imbalance,
    b'H' message_h_action,
    b'R' message_r_directory,
    b'S' message_s_system,
}
