//! Reserving numbers ahead of their use.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fanblade_feed::queue::{Record, Refused, Sender};

use super::limits::{RESERVE_NUMBERS, SEQ_END_MAX};
use super::state::StateFile;

/// Reserves the first block; returns its end: smaller numbers may be used.
pub(super) fn reserve(state: &StateFile, next_seq: u64) -> io::Result<u64> {
    if !state.is_kept() {
        return Ok(u64::MAX);
    }
    let seq_end = next_seq.saturating_add(RESERVE_NUMBERS).min(SEQ_END_MAX);
    state.write(seq_end)?;
    Ok(seq_end)
}

/// Reserves the next block whenever half of the current one is used, until the feed ends. While the disk refuses the
/// write, the reserved numbers are used up, and after that publishers wait.
pub(super) async fn keep_ahead(state: Arc<StateFile>, sender: Sender, mut seq_end: u64, block: u64) {
    while state.is_kept()
        && seq_end < SEQ_END_MAX
        && sender.until_taken(seq_end.saturating_sub(block / 2)).await.is_ok()
    {
        let wanted = seq_end.saturating_add(block).min(SEQ_END_MAX);
        let written = tokio::task::spawn_blocking({
            let state = Arc::clone(&state);
            move || state.write(wanted)
        });
        match written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => {
                seq_end = wanted;
                sender.set_seq_end(seq_end);
            }
            Err(error) => {
                let text = format!("cannot reserve numbers from {seq_end} on: {error}");
                // If the queue is full, the next attempt reports the fault.
                if sender.try_send(&Record::Trouble { kind: "state_not_written", text: &text }) == Err(Refused::Closed)
                {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use fanblade_feed::queue::{QueueConfig, queue};
    use fanblade_feed::{Data, Feed as _, UnixNs};

    use super::*;

    #[tokio::test]
    async fn blocks_are_reserved_before_they_are_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("publisher.toml");
        let (state, _) = StateFile::open(Some(&path)).unwrap();
        let state = Arc::new(state);
        let (sender, mut feed) = queue(&QueueConfig::new("test", *b"session   "));
        sender.set_seq_end(11);
        let ahead = tokio::spawn(keep_ahead(Arc::clone(&state), sender.clone(), 11, 10));
        let record =
            Record::Update { subject: "/a/b", ts_ns: UnixNs(1), data: Data::Json("1"), received_ns: UnixNs(1) };
        for expected in 1..=100 {
            let seq = loop {
                // A task that waits for room wakes when the next block is on the disk.
                tokio::select! {
                    seq = sender.send(&record) => break seq.unwrap(),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {
                        feed.poll(UnixNs(0), &mut |_| {}).unwrap();
                    }
                }
            };
            assert_eq!(seq, expected);
            let on_disk = std::fs::read_to_string(&path).unwrap_or_else(|_| "next = 11\n".to_owned());
            let next: u64 = on_disk.lines().last().unwrap().strip_prefix("next = ").unwrap().parse().unwrap();
            assert!(seq < next, "{seq} is reserved: {next}");
        }
        drop(feed);
        ahead.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_comes_although_nothing_can_be_reserved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("publisher.toml");
        let (state, _) = StateFile::open(Some(&path)).unwrap();
        // A directory stands where the new file would be written.
        std::fs::create_dir(directory.path().join("publisher.toml.new")).unwrap();
        let (sender, mut feed) = queue(&QueueConfig::new("test", *b"session   "));
        sender.set_seq_end(11);
        let ahead = tokio::spawn(keep_ahead(Arc::new(state), sender.clone(), 11, 10));
        let record =
            Record::Update { subject: "/a/b", ts_ns: UnixNs(1), data: Data::Json("1"), received_ns: UnixNs(1) };
        for _ in 0..10 {
            sender.send(&record).await.unwrap();
        }
        feed.poll(UnixNs(0), &mut |_| {}).unwrap();
        let mut is_told = false;
        while !is_told {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut tell =
                |event: fanblade_feed::Event<'_>| is_told |= matches!(event, fanblade_feed::Event::Trouble(_));
            feed.poll(UnixNs(0), &mut tell).unwrap();
        }
        drop(feed);
        ahead.await.unwrap();
    }

    #[tokio::test]
    async fn numbers_end_and_nobody_turns_round_in_vain() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("publisher.toml");
        let (state, _) = StateFile::open(Some(&path)).unwrap();
        let first_seq = SEQ_END_MAX - 5;
        let seq_end = reserve(&state, first_seq).unwrap();
        assert_eq!(seq_end, SEQ_END_MAX);
        let (sender, mut feed) = queue(&QueueConfig { first_seq, ..QueueConfig::new("test", *b"session   ") });
        sender.set_seq_end(seq_end);
        let record =
            Record::Update { subject: "/a/b", ts_ns: UnixNs(1), data: Data::Json("1"), received_ns: UnixNs(1) };
        for _ in 0..5 {
            sender.try_send(&record).unwrap();
        }
        assert_eq!(sender.try_send(&record), Err(Refused::Full));
        feed.poll(UnixNs(0), &mut |_| {}).unwrap();
        keep_ahead(Arc::new(state), sender, seq_end, RESERVE_NUMBERS).await;
    }
}
