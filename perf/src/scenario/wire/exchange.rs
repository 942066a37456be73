//! The exchange: trades of one instrument, each in a packet of its own.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use fanblade_feed::itch::{Header, Trade, stock};
use fanblade_feed::moldudp64::PacketBuilder;
use zerocopy::IntoBytes as _;

pub(super) struct Exchange {
    socket: UdpSocket,
    builder: PacketBuilder,
}

impl Exchange {
    /// Begins a session on a multicast group on loopback.
    pub(super) fn open(group: SocketAddrV4) -> anyhow::Result<Exchange> {
        // A socket that is bound to an interface's address sends to groups through that interface.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(group)?;
        let mut builder = PacketBuilder::new(*b"WIRE      ", 1, PACKET_LEN_MAX);
        socket.send(builder.finish())?;
        Ok(Exchange { socket, builder })
    }

    /// Sends the next message. Loopback delivers it to all receivers before this returns.
    pub(super) fn send(&mut self) -> anyhow::Result<()> {
        let number = self.builder.next_sequence();
        let trade = Trade {
            header: Header::new(Trade::KIND, 1, 0, number),
            reference: 0.into(),
            side: b'B',
            shares: 100.into(),
            stock: stock(SYMBOL),
            price: 2_897_200.into(),
            match_number: number.into(),
        };
        self.builder.push(trade.as_bytes());
        self.socket.send(self.builder.finish())?;
        self.builder.reset();
        Ok(())
    }
}

pub(super) const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 192, 77, 2), 26_478);
pub(super) const SUBJECT: &str = "/NASDAQ/WIRE/trade";
const SYMBOL: &str = "WIRE";
const PACKET_LEN_MAX: usize = 200;
