//! Builds Ethernet frames.

use fanblade_steer::abi::packet::{ACK, FIN, RST, SYN};
use fanblade_steer::abi::{Verdict, packet};

use super::PORT;

/// One line of the packet table: a frame, and the result that the programs should give.
pub struct Case {
    pub name: &'static str,
    pub frame: Vec<u8>,
    /// `Ok`: a TCP segment, with this length of the IP packet; else why the frame is none.
    pub expected: Result<u32, packet::Other>,
    /// If it is a segment: does it go to one of our ports, or come from one if `to_us` is false?
    pub is_ours: bool,
}

impl Case {
    /// The verdict of `ingress`; the verdict of `egress` has the same place among the egress verdicts.
    pub fn ingress_verdict(&self) -> Verdict {
        match self.expected {
            Ok(_) if self.is_ours => Verdict::IngressCounted,
            Ok(_) => Verdict::IngressNotOurs,
            Err(packet::Other::NotIp) => Verdict::IngressNotIp,
            Err(packet::Other::NotTcp) => Verdict::IngressNotTcp,
            Err(packet::Other::Fragment) => Verdict::IngressFragment,
            Err(packet::Other::Runt) => Verdict::IngressRunt,
            Err(packet::Other::Malformed) => Verdict::IngressMalformed,
            Err(packet::Other::TooDeep) => Verdict::IngressTooDeep,
        }
    }

    pub fn egress_verdict(&self) -> Verdict {
        Verdict::ALL
            [self.ingress_verdict() as usize + (Verdict::EgressCounted as usize - Verdict::IngressCounted as usize)]
    }
}

/// The packet table. `to_us`: the frames go to our port, else they come from our port.
pub fn table(to_us: bool) -> Vec<Case> {
    use packet::Other::{Fragment, Malformed, NotIp, NotTcp, Runt, TooDeep};
    let v4 = |flags, payload| ipv4(&[], 0, TCP, &tcp(ports(to_us), flags, payload));
    let v6 = |extensions: &[(u8, Vec<u8>)]| ipv6(extensions, TCP, &tcp(ports(to_us), ACK, 10));
    let mut cases = Vec::new();
    let mut case = |name, frame, expected, is_ours| cases.push(Case { name, frame, expected, is_ours });

    // IPv4: flags, padding, options, tags, other ports and protocols, fragments.
    case("SYN", ethernet(&[], IPV4, &v4(SYN, 0)), Ok(40), true);
    case("SYN ACK", ethernet(&[], IPV4, &v4(SYN | ACK, 0)), Ok(40), true);
    case("ACK", ethernet(&[], IPV4, &v4(ACK, 0)), Ok(40), true);
    case("data", ethernet(&[], IPV4, &v4(ACK, 1000)), Ok(1040), true);
    case("FIN", ethernet(&[], IPV4, &v4(FIN | ACK, 0)), Ok(40), true);
    case("RST", ethernet(&[], IPV4, &v4(RST, 0)), Ok(40), true);
    let mut padded = ethernet(&[], IPV4, &v4(ACK, 0));
    padded.resize(60, 0);
    case("Ethernet padding is not counted", padded, Ok(40), true);
    let options = [1; 40];
    let with_options = ipv4(&options, 0, TCP, &tcp(ports(to_us), ACK, 5));
    case("IP options", ethernet(&[], IPV4, &with_options), Ok(20 + 40 + 25), true);
    case("VLAN", ethernet(&[VLAN], IPV4, &v4(ACK, 3)), Ok(43), true);
    case("VLAN in VLAN", ethernet(&[QINQ, VLAN], IPV4, &v4(ACK, 3)), Ok(43), true);
    case("VLAN in VLAN in VLAN", ethernet(&[QINQ, VLAN, VLAN], IPV4, &v4(ACK, 3)), Err(TooDeep), false);
    case("VLAN, nothing within", ethernet(&[VLAN], IPV4, &[]), Err(Runt), false);
    case("other port", ethernet(&[], IPV4, &ipv4(&[], 0, TCP, &tcp([50_000, 80], ACK, 0))), Ok(40), false);
    case("port 0", ethernet(&[], IPV4, &ipv4(&[], 0, TCP, &tcp([0, 0], ACK, 0))), Ok(40), false);
    case("UDP to the same port", ethernet(&[], IPV4, &ipv4(&[], 0, 17, &tcp(ports(to_us), 0, 0))), Err(NotTcp), false);
    case("ICMP", ethernet(&[], IPV4, &ipv4(&[], 0, 1, &[8; 8])), Err(NotTcp), false);
    case("ARP", ethernet(&[], 0x0806, &[0; 28]), Err(NotIp), false);
    case("length instead of a type", ethernet(&[], 100, &[0; 100]), Err(NotIp), false);
    case(
        "first fragment",
        ethernet(&[], IPV4, &ipv4(&[], 0x2000, TCP, &tcp(ports(to_us), ACK, 8))),
        Err(Fragment),
        false,
    );
    case("later fragment", ethernet(&[], IPV4, &ipv4(&[], 0x0010, TCP, &[0; 64])), Err(Fragment), false);
    case("do not fragment", ethernet(&[], IPV4, &ipv4(&[], 0x4000, TCP, &tcp(ports(to_us), ACK, 8))), Ok(48), true);

    // IPv6: tags, extension headers, fragments, other protocols.
    case("IPv6", ethernet(&[], IPV6, &v6(&[])), Ok(70), true);
    case("IPv6 in VLAN in VLAN", ethernet(&[QINQ, VLAN], IPV6, &v6(&[])), Ok(70), true);
    let hop_by_hop = (0, extension(0));
    let destination = (60, extension(2));
    let routing = (43, extension(1));
    let authentication = (51, vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let all = [hop_by_hop.clone(), destination, routing, authentication];
    case("IPv6 extension headers", ethernet(&[], IPV6, &v6(&all)), Ok(70 + 8 + 24 + 16 + 24), true);
    let longest = (60, extension(255));
    case("IPv6, longest extension header", ethernet(&[], IPV6, &v6(&[longest])), Ok(70 + 2048), true);
    let seven = vec![hop_by_hop.clone(); 7];
    case("IPv6, seven extension headers", ethernet(&[], IPV6, &v6(&seven)), Ok(70 + 56), true);
    let eight = vec![hop_by_hop; 8];
    case("IPv6, eight extension headers", ethernet(&[], IPV6, &v6(&eight)), Err(TooDeep), false);
    let fragment = |offset_and_more: u16| {
        let [high, low] = offset_and_more.to_be_bytes();
        v6(&[(44, vec![0, 0, high, low, 0, 0, 0, 1])])
    };
    case("IPv6 first fragment", ethernet(&[], IPV6, &fragment(1)), Err(Fragment), false);
    case("IPv6 later fragment", ethernet(&[], IPV6, &fragment(8)), Err(Fragment), false);
    case("IPv6 atomic fragment", ethernet(&[], IPV6, &fragment(0)), Ok(78), true);
    case("IPv6 UDP", ethernet(&[], IPV6, &ipv6(&[], 17, &[0; 8])), Err(NotTcp), false);
    case("IPv6 ESP", ethernet(&[], IPV6, &ipv6(&[], 50, &[0; 32])), Err(NotTcp), false);
    case("IPv6 no next header", ethernet(&[], IPV6, &ipv6(&[], 59, &[0; 8])), Err(NotTcp), false);
    case("IPv6 extension header cut off", ethernet(&[], IPV6, &ipv6(&[], 60, &[0, 0])), Err(Runt), false);

    // Frames that end too early.
    let whole = ethernet(&[], IPV4, &v4(ACK, 100));
    case("cut off within IPv4", whole[..14 + 19].to_vec(), Err(Runt), false);
    case("cut off within TCP", whole[..14 + 20 + 19].to_vec(), Err(Runt), false);
    case("cut off within the payload", whole[..whole.len() - 1].to_vec(), Err(Runt), false);
    let whole = ethernet(&[], IPV6, &v6(&[]));
    case("cut off within IPv6", whole[..14 + 39].to_vec(), Err(Runt), false);

    // Headers that contradict themselves.
    let mut wrong = ethernet(&[], IPV4, &v4(ACK, 0));
    wrong[14] = 0x65;
    case("version 6 in IPv4", wrong.clone(), Err(Malformed), false);
    wrong[14] = 0x44;
    case("IPv4 header of 16 bytes", wrong.clone(), Err(Malformed), false);
    wrong[14] = 0x45;
    wrong[14 + 3] = 39;
    case("IPv4 total length within TCP", wrong.clone(), Err(Malformed), false);
    wrong[14 + 3] = 40;
    wrong[14 + 20 + 12] = 0x40;
    case("TCP header of 16 bytes", wrong.clone(), Err(Malformed), false);
    wrong[14 + 20 + 12] = 0xf0;
    case("TCP header longer than the packet", wrong, Err(Malformed), false);
    let mut wrong = ethernet(&[], IPV6, &v6(&[]));
    wrong[14] = 0x45;
    case("version 4 in IPv6", wrong, Err(Malformed), false);
    cases
}

pub const CLIENT: [u8; 4] = [10, 0, 0, 2];
pub const SERVER: [u8; 4] = [10, 0, 0, 1];

fn ports(to_us: bool) -> [u16; 2] {
    if to_us { [50_000, PORT] } else { [PORT, 50_000] }
}

fn ethernet(tags: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for (number, tag) in (1_u16..).zip(tags) {
        frame.extend(tag.to_be_bytes());
        frame.extend(number.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4(options: &[u8], fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
    packet.extend(u16::try_from(header_len + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(CLIENT);
    packet.extend(SERVER);
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// `extensions`: kind and bytes of each; their first byte becomes the kind of the next header.
fn ipv6(extensions: &[(u8, Vec<u8>)], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, (_kind, bytes)) in extensions.iter().enumerate() {
        let start = body.len();
        body.extend(bytes);
        body[start] = extensions.get(index + 1).map_or(protocol, |(kind, _bytes)| *kind);
    }
    body.extend(payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    packet.extend([extensions.first().map_or(protocol, |(kind, _bytes)| *kind), 64]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(body);
    packet
}

fn extension(units: u8) -> Vec<u8> {
    let mut bytes = vec![0; (usize::from(units) + 1) * 8];
    bytes[1] = units;
    bytes
}

fn tcp(ports: [u16; 2], flags: u8, payload_len: usize) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports[0].to_be_bytes());
    segment.extend(ports[1].to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment.extend(vec![b'x'; payload_len]);
    segment
}

const TCP: u8 = 6;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
