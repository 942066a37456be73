//! Targets for the formats that exchanges send.

use fanblade_feed::UnixNs;
use fanblade_feed::itch::Message;
use fanblade_feed::moldudp64::{Kind, Packet as Mold, PacketBuilder};
use fanblade_feed::soupbintcp::{Inbound, Packet as Soup};
use fanblade_market::Market;
use fanblade_market::encode;

use crate::streams::{cut, pieces};

/// MoldUDP64 packets: our builder must write a packet again as it was read.
pub(crate) fn moldudp64(bytes: &[u8]) {
    let packet = match Mold::parse(bytes) {
        Ok(packet) => packet,
        Err(error) => return assert!(error.offset <= bytes.len() && !error.to_string().is_empty()),
    };
    let mut again = PacketBuilder::new(packet.session(), packet.sequence(), bytes.len());
    let mut expected = packet.sequence();
    for message in packet.messages() {
        match message {
            Ok((sequence, offset, message)) => {
                assert_eq!(sequence, expected);
                assert_eq!(bytes.get(offset..offset + message.len()), Some(message));
                expected += 1;
                assert!(again.push(message), "it came out of a packet of this length");
            }
            Err(error) => return assert!(error.offset <= bytes.len() && !error.to_string().is_empty()),
        }
    }
    assert_eq!(again.next_sequence(), expected);
    if let Kind::Messages(_) = packet.kind() {
        assert_eq!(again.finish(), bytes, "what was read whole is written as it was");
    }
}

/// A connection's bytes: cut at other places, they must give the same packets, which are written as they were read.
pub(crate) fn soupbintcp(input: &[u8]) {
    let (lengths, bytes) = cut(input);
    let mut heard = Vec::new();
    let mut rest = bytes;
    let fault = loop {
        match Soup::parse(rest) {
            Ok(Some((packet, len))) => {
                heard.push(format!("{packet:?}"));
                let mut written = Vec::new();
                if packet.write(&mut written).is_ok() {
                    let (again, _) = Soup::parse(&written).unwrap().expect("a whole packet");
                    assert_eq!(format!("{again:?}"), format!("{packet:?}"));
                }
                rest = &rest[len..];
            }
            Ok(None) => break None,
            Err(error) => break Some(error.fault),
        }
    };
    let (mut inbound, mut by_pieces) = (Inbound::new(), Vec::new());
    'all: for mut piece in pieces(bytes, lengths) {
        while !piece.is_empty() {
            let space = inbound.space();
            let len = space.len().min(piece.len());
            space[..len].copy_from_slice(&piece[..len]);
            piece = &piece[len..];
            inbound.filled(len);
            loop {
                match inbound.next_packet() {
                    Ok(Some(packet)) => by_pieces.push(format!("{packet:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(Some(error.fault), fault);
                        break 'all;
                    }
                }
            }
        }
    }
    assert_eq!(heard, by_pieces, "a stream that is cut elsewhere says something else");
}

/// Messages with a length before each, for a market: builds its books and encodes every update that they cause.
pub(crate) fn itch(input: &[u8]) {
    let mut market = Market::with_orders_max("NASDAQ", UnixNs(0), 1_000);
    let (mut json, mut binary, mut subject) = (Vec::new(), Vec::new(), String::new());
    let mut rest = input;
    for seq in 1..=64 {
        let Some((len, after)) = rest.split_first() else { break };
        let (message, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        let applied = market.apply(seq, message, &mut |update| {
            subject.clear();
            update.subject(&mut subject);
            json.clear();
            encode::json(&mut json, &subject, seq, 0, update.ts_ns, &update.image);
            let value: serde_json::Value = serde_json::from_slice(&json).expect("a frame is JSON");
            assert_eq!((&value["s"], &value["q"]), (&subject.as_str().into(), &seq.into()));
            binary.clear();
            encode::binary::write(&mut binary, 1, seq, 0, update.ts_ns, &update.image);
            assert!(!binary.is_empty());
        });
        match applied {
            Ok(()) => assert!(Message::parse(message).is_ok(), "a message that is none was taken"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(market.orders() <= 1_000);
}
