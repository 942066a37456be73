//! How a ledger judges what its clients hear.

use super::super::lists::Shape;
use super::super::plan::{Changes, Upgrade};
use super::*;

const WINDOW: Window = Window { from_ns: 10 * S, to_ns: 100 * S };
const S: u64 = 1_000_000_000;

/// Two clients with three of ten subjects each.
fn ledger() -> Ledger {
    let addr = "127.0.0.1:1".parse().unwrap();
    let mut plan = Plan::simple(addr, 2, Some(Upgrade::to(addr, "/").unwrap()));
    plan.subjects.count = 10;
    let lists = Lists::new(Shape { per_client: 3, exponent: 1.0 }, 10, 1).unwrap();
    plan.lists = Some(lists.clone());
    let template = |text: &str| text.parse().unwrap();
    plan.changes = Some(Changes { per_s: 0.0, leave: template("-{subject}"), take: template("+{subject}") });
    Ledger::new(&Arc::new(plan), &lists, 0..2)
}

fn owed(ledger: &Ledger) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    ledger.settle(&Log::of(&[ledger]), WINDOW, |_, it| all.push((it.due, it.lost)));
    all
}

fn of_client(ledger: &Ledger, client: u32) -> Vec<u32> {
    ledger.places[ledger.list(client)].iter().map(|place| place.subject).collect()
}

/// Orders a change, and returns the client, the subject that goes and the one that comes.
fn change(ledger: &mut Ledger, now_ns: u64) -> (u32, u32, u32) {
    let mut said = Vec::new();
    ledger.order(1);
    ledger.speak(now_ns, &mut said);
    let change = *ledger.changes.last().unwrap();
    assert_eq!((said.len(), said[0].client), (1, change.client));
    let (old, new) = (ledger.places[change.at].subject, change.new);
    let mut expected = Vec::new();
    for text in [format!("-{old}"), format!("+{new}")] {
        write_frame(&mut expected, Opcode::Text, change.client.to_le_bytes(), text.as_bytes());
    }
    assert_eq!(said[0].frames, expected);
    (change.client, old, new)
}

fn reply(ledger: &mut Ledger, client: u32, op: &str, subject: u32, now_ns: u64) -> Settled {
    let text = format!(r#"{{"op":"{op}","id":{subject},"epoch":"e","subjects":[{{"subject":"/K/{subject}/v"}}]}}"#);
    ledger.reply(client, text.as_bytes(), now_ns)
}

#[test]
fn what_is_whole_is_owed_and_not_lost() {
    let mut ledger = ledger();
    for subject in of_client(&ledger, 0) {
        for number in 5..8u32 {
            assert_eq!(ledger.hear(0, subject, number, 20 * S + u64::from(number)), Heard::New);
        }
    }
    let both: Vec<u32> = of_client(&ledger, 1).into_iter().filter(|it| of_client(&ledger, 0).contains(it)).collect();
    // The other has heard nothing of those that it shares.
    let lost = 3 * both.len() as u64;
    assert!(lost > 0, "the lists share nothing");
    assert_eq!(owed(&ledger), [(9, 0), (lost, lost)]);
}

#[test]
fn what_comes_late_twice_or_unasked_is_told() {
    let mut ledger = ledger();
    let list = of_client(&ledger, 0);
    let subject = list[0];
    let foreign = (0..10).find(|it| !list.contains(it)).unwrap();
    assert_eq!(ledger.hear(0, subject, 5, 20 * S), Heard::New);
    assert_eq!(ledger.hear(0, subject, 8, 23 * S), Heard::Behind(2));
    assert_eq!(ledger.hear(0, subject, 8, 23 * S), Heard::Again);
    assert_eq!(ledger.hear(0, subject, 7, 22 * S), Heard::Again);
    assert_eq!(ledger.hear(0, foreign, 5, 20 * S), Heard::Unasked);
    assert_eq!(ledger.hear(0, 4_000_000_000, 5, 20 * S), Heard::Unasked);
    assert_eq!(ledger.hear(0, subject, 0, 20 * S), Heard::Absurd);
    assert_eq!(ledger.hear(0, subject, u32::MAX, 20 * S), Heard::Absurd);
    // The log has room for what is near.
    assert_eq!(ledger.hear(0, subject, 9, 24 * S), Heard::New);
}

#[test]
fn losses_at_both_ends_are_found_by_what_another_has_seen() {
    let mut ledger = ledger();
    let shared = of_client(&ledger, 0).into_iter().find(|it| of_client(&ledger, 1).contains(it)).unwrap();
    for number in 3..10u32 {
        let due_ns = u64::from(number) * 10 * S;
        ledger.hear(0, shared, number, due_ns);
        if (5..8).contains(&number) {
            ledger.hear(1, shared, number, due_ns);
        }
    }
    // 3 to 9 are due in the window; 3, 4, 8 and 9 are missing.
    assert_eq!(owed(&ledger), [(7, 0), (7, 4)]);
}

#[test]
fn a_change_ends_one_subject_and_begins_another() {
    let mut ledger = ledger();
    let (client, old, new) = change(&mut ledger, 20 * S);
    let hear = |ledger: &mut Ledger, subject, number, due_ns| ledger.hear(client, subject, number, due_ns);
    assert_eq!(hear(&mut ledger, new, 4, 19 * S), Heard::Unasked);
    assert_eq!(hear(&mut ledger, old, 7, 20 * S), Heard::New);
    assert_eq!(reply(&mut ledger, client, "subscribed", new, 21 * S), Settled::Nothing);
    assert_eq!(reply(&mut ledger, client, "unsubscribed", new, 21 * S), Settled::Nothing);
    assert_eq!(reply(&mut ledger, client, "unsubscribed", old, 21 * S), Settled::Left(old));
    assert_eq!(hear(&mut ledger, old, 8, 21 * S), Heard::Unasked);
    assert!(!ledger.is_settled());
    assert_eq!(reply(&mut ledger, client, "subscribed", new, 22 * S), Settled::Taken(new));
    assert!(ledger.is_settled());
    // The newest message from before the subscription, and the one that follows.
    assert_eq!(hear(&mut ledger, new, 4, 19 * S), Heard::Snapshot);
    assert_eq!(hear(&mut ledger, new, 5, 23 * S), Heard::New);
    assert_eq!(hear(&mut ledger, new, 7, 25 * S), Heard::Behind(1));
    let changed = ledger.changed(WINDOW);
    assert_eq!((changed.made, changed.refused, changed.unanswered), (1, 0, 0));
    let held = Ledger::seen(&[&ledger], &Log::of(&[&ledger]), WINDOW);
    assert_eq!(held[new as usize], of_client(&ledger, 1 - client).contains(&new).then_some(3));
}

#[test]
fn what_was_due_well_before_a_change_or_after_it_must_have_come() {
    let mut ledger = ledger();
    let (client, old, new) = change(&mut ledger, 50 * S);
    reply(&mut ledger, client, "unsubscribed", old, 51 * S);
    reply(&mut ledger, client, "subscribed", new, 51 * S);
    // Somebody else has seen all of both, one each second.
    let mut other = self::ledger();
    for subject in [old, new] {
        for number in 0..90u32 {
            assert!(other.log.0[subject as usize].enter(number + 1, u64::from(number + 10) * S));
        }
    }
    let mut lost = Vec::new();
    ledger.settle(&Log::of(&[&ledger, &other]), WINDOW, |number, it| lost.extend((number == client).then_some(it)));
    // The old one from 10 s to 49 s, but for the last second; the new one from 51 s to 99 s.
    assert_eq!(lost, [Owed { due: 39 + 49, lost: 39 + 49 }]);
}

#[test]
fn a_refusal_and_silence_are_told() {
    let mut ledger = ledger();
    let (client, ..) = change(&mut ledger, 20 * S);
    let error = br#"{"op":"error","id":7,"code":"too_many_requests","message":"slower"}"#;
    let Settled::Refused(why) = ledger.reply(client, error, 21 * S) else { panic!("not refused") };
    assert!(why.contains("too_many_requests"), "{why}");
    change(&mut ledger, 22 * S);
    let changed = ledger.changed(WINDOW);
    assert_eq!((changed.made, changed.refused, changed.unanswered), (0, 1, 1));
}

#[test]
fn changes_keep_their_pace_and_end_with_the_window() {
    let mut ledger = ledger();
    let mut plan = Plan::clone(&ledger.plan);
    plan.changes.as_mut().unwrap().per_s = 2.0;
    ledger.plan = Arc::new(plan);
    ledger.begin(0, WINDOW);
    let mut said = Vec::new();
    for at in 0..400 {
        ledger.speak(at * S / 2, &mut said);
        for client in 0..2 {
            ledger.under_way.remove(&client);
        }
    }
    // Two a second for a hundred seconds, to which two clients are enough.
    assert!((190..=200).contains(&said.len()), "{}", said.len());
}
