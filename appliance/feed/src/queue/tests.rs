//! Order, numbers, limits and waking.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll as Polled, Wake, Waker};

use super::*;
use crate::{Condition, Data, Event, Feed as _, Poll, Session, Stale, UnixNs, Unpublished};

const SESSION: Session = *b"session   ";

fn update<'a>(subject: &'a str, text: &'a str) -> Record<'a> {
    Record::Update { subject, ts_ns: UnixNs(7), data: Data::Json(text), received_ns: UnixNs(9) }
}

/// What one poll says, in words.
fn poll(feed: &mut QueueFeed) -> (Vec<String>, Poll) {
    let mut said = Vec::new();
    let poll = feed.poll(UnixNs(1), &mut |event| said.push(format!("{event:?}"))).unwrap();
    (said, poll)
}

fn seqs(feed: &mut QueueFeed) -> Vec<u64> {
    let mut seqs = Vec::new();
    while feed
        .poll(UnixNs(1), &mut |event| {
            if let Event::Update { seq, .. } = event {
                seqs.push(seq);
            }
        })
        .unwrap()
        == Poll::Busy
    {}
    seqs
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The conditions that somebody sees who looks after each poll.
fn conditions(feed: &mut QueueFeed) -> Vec<Condition> {
    let mut seen = Vec::new();
    while poll(feed).1 == Poll::Busy {
        seen.push(feed.condition());
    }
    seen.push(feed.condition());
    seen.dedup();
    seen
}

#[test]
fn a_break_is_seen_however_short_it_was() {
    const BREAK: Condition = Condition::Stale(Stale::Disconnected);
    let (sender, mut feed) = queue(&QueueConfig::new("test", SESSION));
    conditions(&mut feed);
    for condition in [BREAK, Condition::CatchingUp, Condition::Live] {
        sender.set_condition(condition);
    }
    assert_eq!(conditions(&mut feed), [BREAK, Condition::Live]);
    for condition in [BREAK, Condition::Live, BREAK, Condition::Live, BREAK].repeat(100) {
        sender.set_condition(condition);
    }
    assert_eq!(conditions(&mut feed), [BREAK], "two of a row are kept");
    sender.set_condition(Condition::Live);
    sender.try_send(&update("/a/b", "1")).unwrap();
    sender.set_condition(BREAK);
    sender.try_send(&update("/a/b", "2")).unwrap();
    sender.set_condition(Condition::Live);
    assert_eq!(conditions(&mut feed), [Condition::Live, BREAK, Condition::Live]);
}

#[test]
fn records_come_out_as_they_went_in() {
    let (sender, mut feed) = queue(&QueueConfig { first_seq: 41, ..QueueConfig::new("test", SESSION) });
    assert_eq!(sender.taken(), 40);
    assert_eq!(sender.try_send(&update("/a/b", "1")), Ok(41));
    sender.set_condition(Condition::CatchingUp);
    sender.set_condition(Condition::Stale(Stale::Disconnected));
    assert_eq!(sender.try_send(&Record::SubjectGap { subject: "/a/b", from: 3, to: 5 }), Ok(41));
    assert_eq!(sender.try_send(&Record::Trouble { kind: "odd", text: "it is" }), Ok(41));
    let opaque =
        Record::Update { subject: "/a/c", ts_ns: UnixNs(8), data: Data::Opaque(&[0, 255]), received_ns: UnixNs(9) };
    assert_eq!(sender.try_send(&opaque), Ok(42));
    assert_eq!(feed.condition(), Condition::Live);
    let mut events = Vec::new();
    let mut note = |event: Event<'_>| match event {
        Event::SessionStart { session } => events.push(format!("session {}", session.escape_ascii())),
        Event::Trouble(trouble) => events.push(format!("{} {trouble}", trouble.kind())),
        Event::Update { seq, subject, ts_ns, data, received_ns, .. } => {
            events.push(format!("{seq} {subject} {ts_ns} {data:?} {received_ns}"));
        }
        other => events.push(format!("{other:?}")),
    };
    while feed.poll(UnixNs(1), &mut note).unwrap() == Poll::Busy {}
    let expected = [
        "session session   ",
        "SnapshotStart",
        "SnapshotEnd { seq: 41 }",
        "41 /a/b 7 Json(\"1\") 9",
        "SubjectGap { subject: \"/a/b\", from: 3, to: 5 }",
        "odd it is",
        "42 /a/c 8 Opaque([0, 255]) 9",
    ];
    assert_eq!(events, expected);
    assert_eq!(feed.condition(), Condition::Stale(Stale::Disconnected));
    assert_eq!(sender.taken(), 42);
    let counters = feed.counters();
    assert_eq!((counters.messages, counters.gaps, counters.gap_messages), (2, 1, 2));
    assert_eq!(poll(&mut feed).0, [""; 0], "the session is told once");
}

#[test]
fn a_full_queue_refuses_and_wakes_who_waits_in_turn() {
    let config = QueueConfig { records_max: 3, bytes_max: 100, ..QueueConfig::new("test", SESSION) };
    let (sender, mut feed) = queue(&config);
    for seq in 1..=3 {
        assert_eq!(sender.try_send(&update("/a/b", "1")), Ok(seq));
    }
    assert_eq!(sender.try_send(&update("/a/b", "1")), Err(Refused::Full), "three records");
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let record = update("/a/b", "2");
    let mut waiting = pin!(sender.send(&record));
    for _ in 0..3 {
        assert_eq!(waiting.as_mut().poll(&mut context), Polled::Pending);
    }
    assert_eq!(bell.rung(), 0);
    assert_eq!(seqs(&mut feed), [1, 2, 3]);
    assert_eq!(bell.rung(), 1, "woken once, though it was polled thrice");
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Ready(Ok(4)));

    let long = "x".repeat(96);
    assert_eq!(sender.try_send(&update("/a/b", &long)), Err(Refused::Full), "100 bytes beside 5");
    assert_eq!(seqs(&mut feed), [4]);
    let longer = "x".repeat(1_000);
    assert_eq!(sender.try_send(&update("/a/b", &longer)), Ok(5), "what is longer than the queue goes alone");
    assert_eq!(sender.try_send(&update("/a/b", "1")), Err(Refused::Full));
    assert_eq!(seqs(&mut feed), [5]);
}

#[test]
fn numbers_are_used_only_once_they_are_reserved() {
    let (sender, mut feed) = queue(&QueueConfig::new("test", SESSION));
    sender.set_seq_end(2);
    assert_eq!(sender.try_send(&update("/a/b", "1")), Ok(1));
    assert_eq!(sender.try_send(&update("/a/b", "2")), Err(Refused::Full));
    assert_eq!(sender.try_send(&Record::Trouble { kind: "odd", text: "" }), Ok(1), "it needs no number");
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let record = update("/a/b", "2");
    let mut waiting = pin!(sender.send(&record));
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Pending);
    sender.set_seq_end(3);
    assert_eq!(bell.rung(), 1);
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Ready(Ok(2)));
    assert_eq!(seqs(&mut feed), [1, 2]);
}

#[test]
fn taken_is_what_the_sink_has_had() {
    let (sender, mut feed) = queue(&QueueConfig::new("test", SESSION));
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    for _ in 0..crate::limits::POLL_MESSAGES_MAX + 10 {
        sender.try_send(&update("/a/b", "1")).unwrap();
    }
    let newest = sender.next_seq() - 1;
    let mut waiting = pin!(sender.until_taken(newest));
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Pending);
    assert_eq!(poll(&mut feed).1, Poll::Busy, "one poll is bounded");
    assert_eq!(bell.rung(), 1);
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Pending, "not yet");
    seqs(&mut feed);
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Ready(Ok(newest)));

    let mut waiting = pin!(sender.until_taken(newest + 1));
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Pending);
    drop(feed);
    assert_eq!(waiting.as_mut().poll(&mut context), Polled::Ready(Err(Refused::Closed)));
    assert_eq!(sender.try_send(&update("/a/b", "1")), Err(Refused::Closed));
}

#[test]
fn what_the_sink_could_not_publish_is_told_to_whose_it_was() {
    let (sender, mut feed) = queue(&QueueConfig::new("test", SESSION));
    let (first, first_receipts) = sender.with_receipts();
    let (second, second_receipts) = sender.with_receipts();
    for number in 0..10 {
        let from = [&first, &second, &sender][number % 3];
        assert_eq!(from.try_send(&update("/a/b", "1")), Ok(number as u64 + 1));
    }
    feed.poll(UnixNs(1), &mut |event| {
        if let Event::Update { seq, answer, .. } = event
            && seq % 2 == 0
        {
            answer.refuse(Unpublished::RingFull);
        }
    })
    .unwrap();
    assert_eq!(sender.taken(), 10);
    let told =
        |receipts: &Receipts, seq| receipts.take_unpublished(seq).iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
    assert_eq!((told(&first_receipts, 3), told(&first_receipts, 10)), (vec![], vec![4, 10]));
    assert_eq!((told(&second_receipts, 2), told(&second_receipts, 10)), (vec![2], vec![8]), "each is told once");
    // Whoever has gone is told nothing, and nothing is kept for it.
    drop(second_receipts);
    second.try_send(&update("/a/b", "1")).unwrap();
    let mut refuse_all = |event: Event<'_>| {
        if let Event::Update { answer, .. } = event {
            answer.refuse(Unpublished::TooLong);
        }
    };
    feed.poll(UnixNs(1), &mut refuse_all).unwrap();
    assert_eq!(sender.shared_receipts(), 1);
    drop(first_receipts);
    assert_eq!(sender.shared_receipts(), 0);
}

#[test]
fn threads_wake_each_other_and_nothing_is_lost() {
    const EACH: u64 = 20_000;
    let config = QueueConfig { records_max: 64, bytes_max: 1_024, ..QueueConfig::new("test", SESSION) };
    let (sender, mut feed) = queue(&config);
    let senders: Vec<_> = (0..3)
        .map(|number| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let subject = format!("/thread/{number}");
                for count in 0..EACH {
                    block_on(sender.send(&update(&subject, &count.to_string()))).unwrap();
                }
            })
        })
        .collect();
    let mut expected_seq = 1;
    let mut counts = [0; 3];
    while expected_seq <= 3 * EACH {
        let polled = feed.poll(UnixNs(1), &mut |event| {
            let Event::Update { seq, subject, data: Data::Json(text), .. } = event else { return };
            assert_eq!(seq, expected_seq);
            expected_seq += 1;
            let count = &mut counts[subject.strip_prefix("/thread/").unwrap().parse::<usize>().unwrap()];
            assert_eq!(text, count.to_string());
            *count += 1;
        });
        if polled.unwrap() != Poll::Busy && expected_seq <= 3 * EACH {
            // Much longer than the test may take: only a wake ends it.
            feed.wait(std::time::Duration::from_secs(100));
        }
    }
    assert_eq!(counts, [EACH; 3]);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

/// The smallest executor there is.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Polled::Ready(value) => return value,
            Polled::Pending => std::thread::park(),
        }
    }
}
