//! Frames as clients send them, in one piece and in all pieces; RFC 6455 sections 5 to 8, Autobahn's sections 6 and 7.

use proptest::prelude::*;

use super::*;
use crate::client;

const LIMITS: InboundLimits = InboundLimits { message_len_max: 70_000, skipped_len_max: 0, fragments_max: 8 };

/// An event that outlives the call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    TooLong(bool, u64),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Owned {
        match event {
            Event::Text(text) => Owned::Text(text.into()),
            Event::Binary(bytes) => Owned::Binary(bytes.into()),
            Event::Ping(bytes) => Owned::Ping(bytes.into()),
            Event::Pong(bytes) => Owned::Pong(bytes.into()),
            Event::Close { code, reason } => Owned::Close(code, reason.into()),
            Event::TooLong { is_text, len } => Owned::TooLong(is_text, len),
        }
    }
}

type Outcome = (Vec<Owned>, Result<(), InboundError>);

/// Pushes the stream cut at these positions (ascending).
fn receive_cut(stream: &[u8], cuts: impl IntoIterator<Item = usize>, limits: &InboundLimits) -> (Inbound, Outcome) {
    let mut inbound = Inbound::new();
    let mut events = Vec::new();
    let mut outcome = Ok(());
    let mut from = 0;
    for to in cuts.into_iter().chain([stream.len()]) {
        let mut bytes = stream[from..to].to_vec();
        from = to;
        let result = inbound.push(&mut bytes, limits, &mut |event| {
            events.push(event.into());
            Flow::Continue
        });
        outcome = outcome.and(result);
    }
    (inbound, (events, outcome))
}

fn receive(stream: &[u8]) -> Outcome {
    receive_cut(stream, [], &LIMITS).1
}

fn frame(is_final: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client::write_fragment(&mut out, is_final, opcode, [0x37, 0xfa, 0x21, 0x3d], payload);
    out
}

fn error_of(stream: &[u8]) -> InboundError {
    receive(stream).1.unwrap_err()
}

#[test]
fn idle_state_is_small() {
    assert!(size_of::<Inbound>() <= 16);
}

#[test]
fn examples_of_section_5_7() {
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(receive(&hello), (vec![Owned::Text("Hello".into())], Ok(())));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(receive(&pong), (vec![Owned::Pong(b"Hello".to_vec())], Ok(())));
    let fragmented = [frame(false, Opcode::Text, b"Hel"), frame(true, Opcode::Continuation, b"lo")].concat();
    assert_eq!(receive(&fragmented), (vec![Owned::Text("Hello".into())], Ok(())));
}

#[test]
fn a_whole_message_is_lent_from_the_callers_buffer() {
    let mut stream = [frame(true, Opcode::Text, b"one"), frame(true, Opcode::Binary, b"two")].concat();
    let range = stream.as_ptr_range();
    let mut inbound = Inbound::new();
    let mut seen = 0;
    inbound
        .push(&mut stream, &LIMITS, &mut |event| {
            let bytes = match event {
                Event::Text(text) => text.as_bytes(),
                Event::Binary(bytes) => bytes,
                other => panic!("{other:?}"),
            };
            assert!(range.contains(&bytes.as_ptr()));
            seen += 1;
            Flow::Continue
        })
        .unwrap();
    assert_eq!(seen, 2);
    assert!(inbound.partial.is_none());
}

#[test]
fn nothing_is_held_once_a_message_is_whole() {
    let stream = [
        frame(false, Opcode::Text, b"a"),
        frame(true, Opcode::Ping, b"p"),
        frame(true, Opcode::Continuation, b"b"),
        frame(true, Opcode::Binary, b""),
        frame(true, Opcode::Ping, b"q"),
    ]
    .concat();
    let (inbound, (events, outcome)) = receive_cut(&stream, 1..stream.len(), &LIMITS);
    assert_eq!(outcome, Ok(()));
    assert_eq!(events.len(), 4);
    assert!(inbound.partial.is_none());
}

/// Fragments, interjected control frames, all three length forms, multi-byte characters, and a close at the end.
fn sample_stream() -> Vec<u8> {
    [
        frame(true, Opcode::Text, "κόσμε".as_bytes()),
        frame(true, Opcode::Ping, b""),
        frame(false, Opcode::Text, &"κόσμε".as_bytes()[..3]),
        frame(true, Opcode::Ping, b"amid"),
        frame(false, Opcode::Continuation, b""),
        frame(true, Opcode::Pong, &[9; 125]),
        frame(true, Opcode::Continuation, &"κόσμε".as_bytes()[3..]),
        frame(true, Opcode::Binary, &[5; 130]),
        frame(true, Opcode::Text, b""),
        frame(true, Opcode::Close, &[0x03, 0xe8, b'b', b'y', b'e']),
        frame(true, Opcode::Text, b"after the end"),
    ]
    .concat()
}

fn sample_events() -> Vec<Owned> {
    vec![
        Owned::Text("κόσμε".into()),
        Owned::Ping(vec![]),
        Owned::Ping(b"amid".to_vec()),
        Owned::Pong(vec![9; 125]),
        Owned::Text("κόσμε".into()),
        Owned::Binary(vec![5; 130]),
        Owned::Text(String::new()),
        Owned::Close(Some(1000), "bye".into()),
    ]
}

#[test]
fn every_pair_of_cuts_gives_the_same_events() {
    let stream = sample_stream();
    let expected = (sample_events(), Ok(()));
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let (inbound, outcome) = receive_cut(&stream, [first, second], &LIMITS);
            assert_eq!(outcome, expected, "cut at {first} and {second}");
            assert!(inbound.is_finished());
        }
    }
    assert_eq!(receive_cut(&stream, 1..stream.len(), &LIMITS).1, expected, "byte by byte");
}

#[test]
fn stop_drops_what_follows_for_good() {
    let mut stream = [frame(true, Opcode::Text, b"one"), frame(true, Opcode::Text, b"two")].concat();
    let mut inbound = Inbound::new();
    let mut seen = 0;
    for _ in 0..2 {
        inbound
            .push(&mut stream, &LIMITS, &mut |_| {
                seen += 1;
                Flow::Stop
            })
            .unwrap();
    }
    assert_eq!(seen, 1);
}

#[test]
fn fragments_out_of_order() {
    let (text, more) = (Opcode::Text, Opcode::Continuation);
    assert_eq!(error_of(&frame(true, more, b"x")), InboundError::UnexpectedContinuation);
    assert_eq!(error_of(&frame(false, more, b"x")), InboundError::UnexpectedContinuation);
    let interleaved = [frame(false, text, b"x"), frame(true, text, b"y")].concat();
    assert_eq!(error_of(&interleaved), InboundError::ExpectedContinuation);
    let twice_final = [frame(false, text, b"x"), frame(true, more, b"y"), frame(true, more, b"z")].concat();
    assert_eq!(receive(&twice_final), (vec![Owned::Text("xy".into())], Err(InboundError::UnexpectedContinuation)));
}

#[test]
fn a_flood_of_empty_fragments_ends() {
    let mut stream = frame(false, Opcode::Text, b"");
    for _ in 1..LIMITS.fragments_max {
        stream.extend(frame(false, Opcode::Continuation, b""));
    }
    assert_eq!(receive(&stream), (vec![], Ok(())));
    stream.extend(frame(false, Opcode::Continuation, b""));
    assert_eq!(error_of(&stream), InboundError::TooManyFragments);
    assert_eq!(InboundError::TooManyFragments.close_code(), close::POLICY);
}

#[test]
fn too_big_is_known_from_the_header_alone() {
    let limits = InboundLimits { message_len_max: 10, ..LIMITS };
    let header_only = |stream: &[u8]| receive_cut(stream, [], &limits).1.1;
    assert_eq!(header_only(&frame(true, Opcode::Binary, &[0; 10])), Ok(()));
    assert_eq!(header_only(&frame(true, Opcode::Binary, &[0; 11])[..6]), Err(InboundError::TooBig));
    let fragments = [frame(false, Opcode::Binary, &[0; 6]), frame(true, Opcode::Continuation, &[0; 5])].concat();
    assert_eq!(header_only(&fragments[..12 + 6]), Err(InboundError::TooBig));
    let exabytes = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(header_only(&exabytes), Err(InboundError::TooBig));
    assert_eq!(InboundError::TooBig.close_code(), close::TOO_BIG);
}

#[test]
fn what_is_too_long_is_dropped_as_it_comes_told_at_its_end_and_the_next_message_is_whole() {
    let limits = InboundLimits { message_len_max: 10, skipped_len_max: 100, fragments_max: 8 };
    let (text, more) = (Opcode::Text, Opcode::Continuation);
    let long = [b'x'; 60];
    let stream = [
        frame(true, text, b"0123456789"),
        // In one frame; of bytes; in fragments, of which only the last is too much, with a ping within.
        frame(true, text, &long),
        frame(true, Opcode::Binary, &long[..11]),
        frame(false, text, b"01234"),
        frame(true, Opcode::Ping, b"p"),
        frame(false, more, b"56789"),
        frame(false, more, b""),
        frame(true, more, b"a"),
        frame(true, text, b"next"),
        // What is not kept is not judged either.
        frame(true, text, &[0xff; 20]),
        frame(true, text, b""),
    ]
    .concat();
    let expected = vec![
        Owned::Text("0123456789".into()),
        Owned::TooLong(true, 60),
        Owned::TooLong(false, 11),
        Owned::Ping(b"p".to_vec()),
        Owned::TooLong(true, 11),
        Owned::Text("next".into()),
        Owned::TooLong(true, 20),
        Owned::Text(String::new()),
    ];
    for step in 1..stream.len() {
        let (inbound, outcome) = receive_cut(&stream, (step..stream.len()).step_by(step), &limits);
        assert_eq!(outcome, (expected.clone(), Ok(())), "in pieces of {step}");
        assert!(inbound.partial.is_none(), "in pieces of {step}");
    }
    // Nothing of it is held meanwhile, whether or not its beginning was.
    let halves = [frame(false, text, b"0123456789"), frame(true, more, &long)].concat();
    let (inbound, outcome) = receive_cut(&halves[..halves.len() - 1], [], &limits);
    assert_eq!(outcome, (vec![], Ok(())));
    assert_eq!(inbound.partial.unwrap().message.unwrap().payload.capacity(), 0);
}

#[test]
fn what_is_dropped_has_its_limits_too() {
    let limits = InboundLimits { message_len_max: 10, skipped_len_max: 100, fragments_max: 8 };
    let outcome = |stream: &[u8]| receive_cut(stream, [], &limits).1;
    assert_eq!(outcome(&frame(true, Opcode::Text, &[b'x'; 100])).1, Ok(()));
    assert_eq!(outcome(&frame(true, Opcode::Text, &[b'x'; 101])[..6]).1, Err(InboundError::TooBig));
    let mut fragments = frame(false, Opcode::Text, &[b'x'; 60]);
    fragments.extend(&frame(false, Opcode::Continuation, &[b'x'; 41])[..6]);
    assert_eq!(outcome(&fragments), (vec![], Err(InboundError::TooBig)));
    let mut flood = frame(false, Opcode::Text, &[b'x'; 60]);
    for _ in 1..=limits.fragments_max {
        flood.extend(frame(false, Opcode::Continuation, b""));
    }
    assert_eq!(outcome(&flood).1, Err(InboundError::TooManyFragments));
}

/// Autobahn's section 6: the position at which each of these is beyond repair.
#[test]
fn invalid_utf8_fails_at_the_byte_that_makes_it_so() {
    let cases: [(&[u8], usize); 9] = [
        (b"\xce\xba\xf4\x90\x80\x80edited", 4), // above U+10FFFF, known at its second byte (6.4.1, 6.4.3)
        (b"\xce\xba\xed\xa0\x80edited", 4),     // a surrogate
        (b"a\x80", 2),                          // a continuation byte alone
        (b"a\xc0\xaf", 2),                      // overlong; C0 begins no character
        (b"\xe0\x80\xaf", 2),                   // overlong, three bytes
        (b"\xf0\x80\x80\xaf", 2),               // overlong, four bytes
        (b"\xf8\x88\x80\x80\x80", 1),           // five bytes
        (b"\xe1\xbd\xb9\xff", 4),               // FF is never valid
        (b"\xf0\x90\x80x", 4),                  // a character cut short by another
    ];
    for (payload, fatal) in cases {
        // In one frame, chopped byte by byte (6.4.3, 6.4.4); and each byte a fragment of its own (6.4.1, 6.4.2).
        let chopped = frame(true, Opcode::Text, payload);
        let header_len = chopped.len() - payload.len();
        let before_fatal = &chopped[..header_len + fatal - 1];
        assert_eq!(receive_cut(before_fatal, 1..before_fatal.len(), &LIMITS).1.1, Ok(()), "{payload:x?}");
        assert_eq!(receive(before_fatal).1, Ok(()), "{payload:x?}");
        let up_to_fatal = &chopped[..header_len + fatal];
        assert_eq!(receive(up_to_fatal).1, Err(InboundError::InvalidUtf8), "{payload:x?}");
        assert_eq!(receive_cut(up_to_fatal, 1..up_to_fatal.len(), &LIMITS).1.1, Err(InboundError::InvalidUtf8));

        let limits = InboundLimits { fragments_max: 100, ..LIMITS };
        let mut fragments = frame(false, Opcode::Text, &payload[..1]);
        let mut failed_at = receive_cut(&fragments, [], &limits).1.1.err().map(|_| 1);
        for (i, byte) in payload.iter().enumerate().skip(1) {
            fragments.extend(frame(false, Opcode::Continuation, &[*byte]));
            let failed = receive_cut(&fragments, [], &limits).1.1.is_err();
            failed_at = failed_at.or(failed.then_some(i + 1));
        }
        assert_eq!(failed_at, Some(fatal), "{payload:x?}");
    }
    assert_eq!(InboundError::InvalidUtf8.close_code(), close::INVALID_DATA);
}

#[test]
fn text_that_ends_amid_a_character_is_invalid() {
    assert_eq!(error_of(&frame(true, Opcode::Text, &"κόσμε".as_bytes()[..3])), InboundError::InvalidUtf8);
    let fragments = [frame(false, Opcode::Text, b"ok"), frame(true, Opcode::Continuation, b"\xce")].concat();
    assert_eq!(error_of(&fragments), InboundError::InvalidUtf8);
}

#[test]
fn close_payloads() {
    let close_with = |payload: &[u8]| receive(&frame(true, Opcode::Close, payload));
    assert_eq!(close_with(b""), (vec![Owned::Close(None, String::new())], Ok(())));
    assert_eq!(close_with(&[3, 233]), (vec![Owned::Close(Some(1001), String::new())], Ok(())));
    let longest = [&[3, 232][..], &[b'*'; 123]].concat();
    assert_eq!(close_with(&longest), (vec![Owned::Close(Some(1000), "*".repeat(123))], Ok(())));
    assert_eq!(close_with(&[3]).1, Err(InboundError::CloseLength));
    assert_eq!(close_with(&[3, 232, 0xce]).1, Err(InboundError::CloseReason));
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535u16] {
        assert_eq!(close_with(&code.to_be_bytes()), (vec![], Err(InboundError::CloseCode(code))));
    }
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999u16] {
        assert_eq!(close_with(&code.to_be_bytes()), (vec![Owned::Close(Some(code), String::new())], Ok(())));
    }
}

#[test]
fn error_texts_fit_a_close_frame() {
    for error in [InboundError::ReservedOpcode(15), InboundError::CloseLength, InboundError::CloseCode(65535)] {
        assert!(error.to_string().len() <= crate::limits::CLOSE_REASON_LEN_MAX);
    }
}

/// A message: its events in order, and the frames that carry it.
fn message() -> impl Strategy<Value = (Vec<Owned>, Vec<u8>)> {
    let control = (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..=125));
    let content = prop_oneof![
        4 => "\\PC{0,40}".prop_map(|text| (Opcode::Text, text.into_bytes())),
        3 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (Opcode::Binary, bytes)),
        1 => proptest::collection::vec(any::<u8>(), 65_530..65_545).prop_map(|bytes| (Opcode::Binary, bytes)),
    ];
    let cuts = proptest::collection::vec((any::<prop::sample::Index>(), proptest::option::of(control)), 0..4);
    (content, cuts, any::<[u8; 4]>()).prop_map(|((opcode, payload), mut cuts, mask)| {
        let (mut events, mut stream) = (Vec::new(), Vec::new());
        let mut ends: Vec<usize> = cuts.iter().map(|(index, _)| index.index(payload.len() + 1)).collect();
        ends.sort_unstable();
        let mut from = 0;
        for (i, to) in ends.iter().copied().chain([payload.len()]).enumerate() {
            let opcode = if i == 0 { opcode } else { Opcode::Continuation };
            client::write_fragment(&mut stream, i == ends.len(), opcode, mask, &payload[from..to]);
            from = to;
            if let Some((is_ping, bytes)) = cuts.get_mut(i).and_then(|(_, control)| control.take()) {
                client::write_frame(&mut stream, if is_ping { Opcode::Ping } else { Opcode::Pong }, mask, &bytes);
                events.push(if is_ping { Owned::Ping(bytes) } else { Owned::Pong(bytes) });
            }
        }
        events.push(match opcode {
            Opcode::Text => Owned::Text(String::from_utf8(payload).unwrap()),
            _ => Owned::Binary(payload),
        });
        (events, stream)
    })
}

proptest! {
    #[test]
    fn any_valid_stream_in_any_pieces(
        messages in proptest::collection::vec(message(), 1..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let expected: Vec<Owned> = messages.iter().flat_map(|(events, _)| events.clone()).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|(_, stream)| stream.clone()).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let (inbound, outcome) = receive_cut(&stream, cuts, &LIMITS);
        prop_assert_eq!(outcome, (expected, Ok(())));
        prop_assert!(inbound.partial.is_none());
    }

    /// Random bytes, mostly behind a plausible first byte and mask bit, so that they get past the first check.
    #[test]
    fn garbage_never_panics_and_never_depends_on_the_pieces(
        mut stream in proptest::collection::vec(any::<u8>(), 0..600),
        plausible in any::<Option<(u8, u8)>>(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        if let (Some((first, second)), [a, b, ..]) = (plausible, &mut stream[..]) {
            *a = first & 0x8a;
            *b = second | 0x80;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(receive_cut(&stream, cuts, &LIMITS).1, receive(&stream));
        prop_assert_eq!(receive_cut(&stream, 1..stream.len(), &LIMITS).1, receive(&stream));
    }

    /// A valid stream with one byte changed: the interesting neighbours of what is valid.
    #[test]
    fn one_wrong_byte_never_panics_and_never_depends_on_the_pieces(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut stream = sample_stream();
        let at = at.index(stream.len());
        stream[at] = byte;
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(receive_cut(&stream, cuts, &LIMITS).1, receive(&stream));
    }
}
