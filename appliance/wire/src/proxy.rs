//! The PROXY protocol, versions 1 and 2 (haproxy.org/download/2.9/doc/proxy-protocol.txt): before the client's first
//! byte a balancer says who the client is.
//!
//! Whether a peer may say so, and must, is the caller's business: the protocol forbids to guess (section 2, "the
//! receiver MUST be configured").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes of all of it. It may be more than have come: extensions at its end (TLVs) are not looked at, and are to be
    /// dropped as they come.
    pub len: usize,
    /// The client. `None`: the connection's own address stands (a check by the balancer itself, a Unix socket, an
    /// address that it does not know).
    pub client: Option<SocketAddr>,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// They do not begin like a header.
    #[error("a connection from this address begins with a PROXY protocol header, and this one does not")]
    Missing,
    /// Version 1 has one line.
    #[error("the PROXY protocol header of version 1 is longer than {V1_LEN_MAX} bytes")]
    TooLong,
    /// Version 1, but not to the letter.
    #[error("the PROXY protocol header of version 1 is not \"PROXY TCP4|TCP6 client server port port\"")]
    Line,
    /// A version, command, family or protocol of version 2 that it does not have.
    #[error("the PROXY protocol header of version 2 has an unknown version, command, family or protocol")]
    Unknown,
    /// The addresses of version 2 are cut.
    #[error("the PROXY protocol header of version 2 is too short for its addresses")]
    Short,
}

/// Does something begin like a header?
pub fn is_like_header(bytes: &[u8]) -> bool {
    bytes.starts_with(V1) || bytes.starts_with(V2)
}

/// Reads the header at the beginning of `bytes`, which are all that came so far; `None` while it is not whole. That is
/// decided within 232 bytes.
///
/// # Errors
/// Why the bytes are no header.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    if bytes.starts_with(V1) {
        return parse_v1(bytes);
    }
    if bytes.starts_with(V2) {
        return parse_v2(bytes);
    }
    if V1.starts_with(bytes) || V2.starts_with(bytes) { Ok(None) } else { Err(ProxyError::Missing) }
}

/// Section 2.1: one line of text.
fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let within = bytes.get(..V1_LEN_MAX).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_LEN_MAX { Ok(None) } else { Err(ProxyError::TooLong) };
    };
    let line = within.get(V1.len()..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(ProxyError::Line)?;
    let len = end + 2;
    let mut words = line.split(' ');
    let client = match words.next() {
        // "the receiver must ignore anything presented before the CRLF".
        Some("UNKNOWN") => return Ok(Some(ProxyHeader { len, client: None })),
        Some("TCP4") => pair::<Ipv4Addr>(&mut words).map(IpAddr::V4),
        Some("TCP6") => pair::<Ipv6Addr>(&mut words).map(IpAddr::V6),
        _ => None,
    };
    let client = client.ok_or(ProxyError::Line)?;
    let (Some(port), Some(_), None) = (words.next().and_then(port), words.next().and_then(port), words.next()) else {
        return Err(ProxyError::Line);
    };
    Ok(Some(ProxyHeader { len, client: Some(SocketAddr::new(client.to_canonical(), port)) }))
}

/// The client's address, the first of the two.
fn pair<'a, T: std::str::FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Option<T> {
    let (client, server) = (words.next()?.parse().ok()?, words.next()?.parse::<T>());
    server.is_ok().then_some(client)
}

/// Digits alone: Rust's own parser takes a sign.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Section 2.2: 16 bytes, then addresses, then extensions.
fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let Some(&[version_command, family, high, low]) = bytes.get(V2.len()..V2_HEAD_LEN) else { return Ok(None) };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    let len = V2_HEAD_LEN + body_len;
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Unknown),
    };
    if is_local {
        // "the receiver must […] use the real connection endpoints"; what it says of addresses counts for nothing.
        return Ok(Some(ProxyHeader { len, client: None }));
    }
    let (address_len, is_stream) = match (family >> 4, family & 0xf) {
        (family @ 0..=3, protocol @ 0..=2) => (V2_ADDRESSES_LEN[usize::from(family)], protocol == 1),
        // "Receivers should drop connections presenting unexpected values here."
        _ => return Err(ProxyError::Unknown),
    };
    if body_len < address_len {
        return Err(ProxyError::Short);
    }
    let Some(addresses) = bytes.get(V2_HEAD_LEN..V2_HEAD_LEN + address_len) else { return Ok(None) };
    let client = match addresses {
        &[a, b, c, d, _, _, _, _, high, low, _, _] if is_stream => {
            Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))))
        }
        addresses if is_stream && address_len == V2_ADDRESSES_LEN[2] => addresses
            .first_chunk::<16>()
            .zip(addresses.get(32..34).and_then(|port| port.first_chunk::<2>()))
            .map(|(ip, port)| SocketAddr::new(Ipv6Addr::from(*ip).to_canonical(), u16::from_be_bytes(*port))),
        _ => None,
    };
    Ok(Some(ProxyHeader { len, client }))
}

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// "so a 108-byte buffer is always enough to store all the line and a trailing zero".
const V1_LEN_MAX: usize = 107;
const V2_HEAD_LEN: usize = 16;
/// By family: unspecified, IPv4, IPv6, Unix.
const V2_ADDRESSES_LEN: [usize; 4] = [0, 12, 36, 216];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[version_command, family], &len, body].concat()
    }

    fn ipv4() -> Vec<u8> {
        [&[203, 0, 113, 7, 192, 0, 2, 1][..], &4711u16.to_be_bytes(), &7400u16.to_be_bytes()].concat()
    }

    fn ipv6() -> Vec<u8> {
        let (client, server): (Ipv6Addr, Ipv6Addr) = ("2001:db8::7".parse().unwrap(), "::1".parse().unwrap());
        [&client.octets()[..], &server.octets(), &4711u16.to_be_bytes(), &7400u16.to_be_bytes()].concat()
    }

    /// Whole, and with something behind it; every part of it is not whole yet.
    #[track_caller]
    fn reads(header: &[u8], decided_at: usize, client: Option<&str>) {
        let expected = ProxyHeader { len: header.len(), client: client.map(|client| client.parse().unwrap()) };
        for cut in 0..decided_at {
            assert_eq!(parse(&header[..cut]), Ok(None), "cut at {cut}");
        }
        for cut in decided_at..=header.len() {
            assert_eq!(parse(&header[..cut]), Ok(Some(expected)), "cut at {cut}");
        }
        assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat()), Ok(Some(expected)));
        assert!(is_like_header(header));
    }

    #[test]
    fn version_1_is_read_whole_and_in_parts() {
        for (line, client) in [
            ("PROXY TCP4 203.0.113.7 192.0.2.1 4711 7400\r\n", Some("203.0.113.7:4711")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::7 ::1 4711 7400\r\n", Some("[2001:db8::7]:4711")),
            ("PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 7400\r\n", Some("203.0.113.7:4711")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        ] {
            reads(line.as_bytes(), line.len(), client);
        }
    }

    #[test]
    fn version_2_is_read_whole_and_in_parts() {
        reads(&v2(0x21, 0x11, &ipv4()), 28, Some("203.0.113.7:4711"));
        reads(&v2(0x21, 0x21, &ipv6()), 52, Some("[2001:db8::7]:4711"));
        // Extensions need not have come.
        reads(&v2(0x21, 0x11, &[&ipv4()[..], &[4; 3000]].concat()), 28, Some("203.0.113.7:4711"));
        // A balancer's own check; a Unix socket; nothing known; datagrams, which this connection does not carry.
        reads(&v2(0x20, 0x00, &[]), 16, None);
        reads(&v2(0x20, 0x11, &ipv4()), 16, None);
        reads(&v2(0x20, 0xff, &[9; 300]), 16, None);
        reads(&v2(0x21, 0x31, &[0; 216]), 232, None);
        reads(&v2(0x21, 0x00, &[]), 16, None);
        reads(&v2(0x21, 0x00, &[1; 50]), 16, None);
        reads(&v2(0x21, 0x12, &ipv4()), 28, None);
    }

    #[test]
    fn what_is_no_header_is_told_at_once() {
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\r\n"[..], ProxyError::Missing),
            (b"\x16\x03\x01", ProxyError::Missing),
            (b"PROXY\tTCP4", ProxyError::Missing),
            (b"proxy TCP4", ProxyError::Missing),
            (b"\r\nGET /", ProxyError::Missing),
            (b"\r\n\r\n\0\r\nQUIT\r", ProxyError::Missing),
            (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n", ProxyError::Line),
            (b"PROXY TCP4 ::1 ::1 1 1\r\n", ProxyError::Line),
            (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", ProxyError::Line),
            (b"PROXY \r\n", ProxyError::Line),
            (b"PROXY TCP4 \xff\r\n", ProxyError::Line),
        ] {
            assert_eq!(parse(bytes), Err(error), "{}", bytes.escape_ascii());
        }
        let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        assert_eq!(parse(&endless[..106]), Ok(None));
        assert_eq!(parse(&endless[..107]), Err(ProxyError::TooLong));
        for (bytes, error) in [
            (v2(0x11, 0x11, &ipv4()), ProxyError::Unknown),
            (v2(0x22, 0x11, &ipv4()), ProxyError::Unknown),
            (v2(0x21, 0x41, &ipv4()), ProxyError::Unknown),
            (v2(0x21, 0x13, &ipv4()), ProxyError::Unknown),
            (v2(0x21, 0x11, &ipv4()[..11]), ProxyError::Short),
            (v2(0x21, 0x21, &ipv4()), ProxyError::Short),
            (v2(0x21, 0x31, &[0; 215]), ProxyError::Short),
        ] {
            assert_eq!(parse(&bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_is_decided_soon(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for start in [&b""[..], V1, V2, &V2[..4], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"] {
                let all = [start, &bytes].concat();
                if let Ok(None) = parse(&all) {
                    prop_assert!(all.len() < 232);
                }
            }
        }
    }
}
