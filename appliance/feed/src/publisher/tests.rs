//! Layouts to the byte, and any bytes at all.

use proptest::prelude::*;

use super::*;

fn frame(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.write(&mut out);
    out
}

#[test]
fn layouts_are_as_documented() {
    let hello = Request::Hello(Hello { wants_acks: false, name: "px", token: b"secret" });
    assert_eq!(frame(&hello), b"\x14\0\0\0\x01fanblade\x01\x01\x02pxsecret");
    let json = Record { ts_ns: Some(0x0102), subject: "/X/y", value: Value::Json(b"[1]") };
    assert_eq!(frame(&Request::Record(json)), b"\x11\0\0\0\x02\x02\x01\0\0\0\0\0\0\x04/X/y[1]");
    let opaque = Record { ts_ns: None, subject: "/X/y", value: Value::Opaque(&[255]) };
    assert_eq!(frame(&Request::Record(opaque)), b"\x0f\0\0\0\x03\0\0\0\0\0\0\0\0\x04/X/y\xff");

    let mut out = Vec::new();
    Reply::Welcome { data_len_max: 0x0001_0000, epoch: "pub-7" }.write(&mut out);
    assert_eq!(out, b"\x0b\0\0\0\x81\x01\0\0\x01\0pub-7");
    out.clear();
    Reply::Ack { records: 3, seq: 0x0105 }.write(&mut out);
    assert_eq!(out, b"\x11\0\0\0\x82\x03\0\0\0\0\0\0\0\x05\x01\0\0\0\0\0\0");
    out.clear();
    Reply::Error(ErrorReply { record: 2, closes: true, code: "bad", message: "so" }).write(&mut out);
    assert_eq!(out, b"\x10\0\0\0\x83\x02\0\0\0\0\0\0\0\x01\x03badso");
}

#[test]
fn each_fault_is_named() {
    let hello = frame(&Request::Hello(Hello { wants_acks: true, name: "px", token: b"" }));
    let long_token = [&hello[4..], &[b'x'; crate::limits::PUBLISHER_TOKEN_LEN_MAX + 1]].concat();
    let short = |kind, len, field| RequestFault::Short { kind, len, field };
    let table: &[(&[u8], RequestFault)] = &[
        (b"", RequestFault::Empty),
        (b"\x04", RequestFault::Kind(4)),
        (b"\x01fan", short(1, 4, "magic")),
        (b"\x01websocket\x01\0\0", RequestFault::Magic),
        (b"\x01fanblade\x01", short(1, 10, "head")),
        (b"\x01fanblade\x02\0\0", RequestFault::Version(2)),
        (b"\x01fanblade\x01\0\x03px", short(1, 14, "name")),
        (b"\x01fanblade\x01\0\x02p ", RequestFault::Name),
        (b"\x01fanblade\x01\0\x01\xff", RequestFault::Name),
        (&long_token, RequestFault::Token),
        (b"\x02\0\0\0", short(2, 4, "time")),
        (b"\x02\0\0\0\0\0\0\0\0", short(2, 9, "subject")),
        (b"\x03\0\0\0\0\0\0\0\0\x05/X/y", short(3, 14, "subject")),
        (b"\x03\0\0\0\0\0\0\0\0\x01\xff", RequestFault::Subject),
    ];
    for (bytes, fault) in table {
        assert_eq!(Request::parse(bytes), Err(*fault), "{bytes:?}");
        assert_eq!(fault.spares_connection(), matches!(bytes.first(), Some(2 | 3)), "{fault}");
    }
    assert_eq!(split(b"\xff\0\0\0", 254), Err(FrameTooLong { len: 255, len_max: 254 }));
}

proptest! {
    #[test]
    fn any_frames_in_any_pieces(
        lens in prop::collection::vec(0_usize..300, 1..20),
        pieces in prop::collection::vec(1_usize..400, 1..20),
    ) {
        let sent: Vec<Vec<u8>> = lens.iter().enumerate().map(|(at, len)| vec![at.to_le_bytes()[0]; *len]).collect();
        let mut bytes = Vec::new();
        for frame in &sent {
            bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(frame);
        }
        let mut frames = Frames::new(300);
        let mut seen = Vec::new();
        let mut rest = bytes.as_slice();
        for len in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let space = frames.space();
            let len = (*len).min(rest.len()).min(space.len());
            space[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            frames.note_filled(len);
            while let Some(frame) = frames.next_frame().unwrap() {
                seen.push(frame.to_vec());
            }
        }
        prop_assert_eq!(seen, sent);
        prop_assert!(frames.rest().is_empty());
    }

    #[test]
    fn what_is_written_is_read(
        ts_ns in proptest::option::of(1_u64..), subject in "[ -~]{0,255}", data in prop::collection::vec(any::<u8>(), 0..50),
        is_json in any::<bool>(), record in any::<u64>(), seq in any::<u64>(), closes in any::<bool>(), text in "\\PC{0,40}",
    ) {
        let value = if is_json { Value::Json(&data) } else { Value::Opaque(&data) };
        let request = Request::Record(Record { ts_ns, subject: &subject, value });
        let bytes = frame(&request);
        prop_assert_eq!(Request::parse(&bytes[LENGTH_LEN..]), Ok(request));
        for reply in [
            Reply::Ack { records: record, seq },
            Reply::Error(ErrorReply { record, closes, code: "code", message: &text }),
            Reply::Welcome { data_len_max: (seq & 0xffff_ffff) as u32, epoch: &text },
        ] {
            let mut out = Vec::new();
            reply.write(&mut out);
            prop_assert_eq!(Reply::parse(&out[LENGTH_LEN..]), Ok(reply));
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40), kind in 0_u8..5) {
        for frame in [bytes.clone(), [&[kind], bytes.as_slice()].concat(), [b"\x01fanblade\x01", bytes.as_slice()].concat()] {
            let _ = Request::parse(&frame);
            let _ = Reply::parse(&frame);
            let _ = split(&frame, 20);
        }
    }
}
