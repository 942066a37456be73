//! Who the client is, when a proxy says so in a header: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Each proxy adds at the right end whom it got the request from; what stands further left came with the request, and
//! anybody can have written it. So the list is walked from the right, for as long as who says it is trusted.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use fanblade_wire::handshake::Upgrade;
use serde::Deserialize;

use crate::networks::Networks;

/// Which header counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHeader {
    /// Whichever is present. If both are and disagree, neither counts: a proxy that writes one of them passes on the
    /// other from the client.
    #[default]
    Any,
    /// Only this.
    XForwardedFor,
    /// Only this.
    Forwarded,
}

/// What the headers of a request say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// This is the client; where the headers say nothing, or the peer is no trusted proxy, it is the peer.
    Client(SocketAddr),
    /// They cannot be read, or contradict each other: the client is unknown.
    Unclear,
}

/// The client of a request that came from `peer`.
pub(crate) fn client(peer: SocketAddr, upgrade: &Upgrade<'_>, trusted: &Networks, header: ClientHeader) -> Said {
    if !trusted.contains(peer.ip()) {
        return Said::Client(peer);
    }
    let listed = (header != ClientHeader::Forwarded && !upgrade.x_forwarded_for.is_empty())
        .then(|| walk(peer, trusted, listed(&upgrade.x_forwarded_for)));
    let forwarded = (header != ClientHeader::XForwardedFor && !upgrade.forwarded.is_empty())
        .then(|| walk(peer, trusted, forwarded(&upgrade.forwarded)));
    match (listed, forwarded) {
        (None, None) => Said::Client(peer),
        (Some(said), None) | (None, Some(said)) => said,
        (Some(Said::Client(one)), Some(Said::Client(other))) if one.ip() == other.ip() => {
            // One of them may know the port.
            Said::Client(if one.port() == 0 { other } else { one })
        }
        (Some(_), Some(_)) => Said::Unclear,
    }
}

/// `hops` from left to right; `None`: a proxy that does not say whom, or something that cannot be read.
fn walk(peer: SocketAddr, trusted: &Networks, hops: Vec<Hop>) -> Said {
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        match hop {
            _ if !trusted.contains(client.ip()) => break,
            Hop::Address(address) => client = address,
            // On purpose: the last one known is all that can be known.
            Hop::Hidden => break,
            Hop::Unreadable => return Said::Unclear,
        }
    }
    Said::Client(client)
}

/// One element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Address(SocketAddr),
    Hidden,
    Unreadable,
}

/// All lines of `X-Forwarded-For`: a list over all of them (RFC 9110 section 5.3).
fn listed(lines: &[&str]) -> Vec<Hop> {
    lines.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|node| !node.is_empty()).map(hop).collect()
}

/// All lines of `Forwarded`: elements at commas, their parameters at semicolons (RFC 7239 section 4).
fn forwarded(lines: &[&str]) -> Vec<Hop> {
    let elements = lines.iter().flat_map(|line| split_unquoted(line, ',')).filter(|element| !element.trim().is_empty());
    elements
        .map(|element| {
            let mut found = None;
            for parameter in split_unquoted(element, ';') {
                let Some((name, value)) = parameter.split_once('=') else {
                    if parameter.trim().is_empty() {
                        continue;
                    }
                    return Hop::Unreadable;
                };
                // "Each parameter MUST NOT occur more than once per field-value."
                if name.trim().eq_ignore_ascii_case("for") && found.replace(unquoted(value.trim())).is_some() {
                    return Hop::Unreadable;
                }
            }
            match found {
                Some(Some(node)) => hop(&node),
                Some(None) => Hop::Unreadable,
                // It says other things, of this hop.
                None => Hop::Hidden,
            }
        })
        .collect()
}

/// Splits where the separator is not within a quoted string (RFC 9110 section 5.6.4).
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |char| {
        if is_escaped {
            is_escaped = false;
        } else if is_quoted && char == '\\' {
            is_escaped = true;
        } else if char == '"' {
            is_quoted = !is_quoted;
        } else {
            return !is_quoted && char == separator;
        }
        false
    })
}

/// A token as it is, a quoted string without its quotes; `None` where the quotes are not whole.
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains('"')).then_some(Cow::Borrowed(value));
    };
    let inner = rest.strip_suffix('"')?;
    if !inner.contains(['\\', '"']) {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.push(chars.next()?),
            '"' => return None,
            char => text.push(char),
        }
    }
    Some(Cow::Owned(text))
}

/// `192.0.2.43`, `192.0.2.43:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`; `unknown` and `_names`, which
/// hide an address (RFC 7239 section 6). Of a port that is hidden, or none, 0.
fn hop(node: &str) -> Hop {
    if node.eq_ignore_ascii_case("unknown") || node.starts_with('_') {
        return Hop::Hidden;
    }
    let (ip, port) = match node.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((ip, rest))) => match (ip.parse::<Ipv6Addr>(), rest.strip_prefix(':')) {
            (Ok(ip), Some(port)) => (Some(IpAddr::V6(ip)), Some(port)),
            (Ok(ip), None) if rest.is_empty() => (Some(IpAddr::V6(ip)), None),
            _ => (None, None),
        },
        Some(None) => (None, None),
        None => match node.split_once(':') {
            Some((ip, port)) if !port.contains(':') => (ip.parse().ok(), Some(port)),
            _ => (node.parse().ok(), None),
        },
    };
    let port = match port {
        None => Some(0),
        Some(hidden) if hidden.starts_with('_') => Some(0),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok(),
        Some(_) => None,
    };
    match ip.zip(port) {
        Some((ip, port)) => Hop::Address(SocketAddr::new(ip.to_canonical(), port)),
        None => Hop::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use fanblade_wire::handshake::{self, Head};

    use super::*;

    /// What is said to a blade that trusts 10.0.0.0/8 and ::1, by a peer at 10.0.0.1.
    fn said_by(peer: &str, headers: &str, header: ClientHeader) -> Said {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let Head::Upgrade(upgrade) = handshake::parse(head.as_bytes(), 0) else { panic!("{head}") };
        let trusted = ["10.0.0.0/8", "::1"].iter().map(|network| network.parse().unwrap()).collect();
        client(peer.parse().unwrap(), &upgrade, &trusted, header)
    }

    fn said(headers: &str) -> String {
        match said_by("10.0.0.1:80", headers, ClientHeader::Any) {
            Said::Client(client) => client.to_string(),
            Said::Unclear => "unclear".to_owned(),
        }
    }

    #[test]
    fn the_list_is_walked_from_the_right_for_as_long_as_who_says_it_is_trusted() {
        for (headers, client) in [
            ("", "10.0.0.1:80"),
            ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7:0"),
            ("X-Forwarded-For: 203.0.113.7:4711\r\n", "203.0.113.7:4711"),
            ("x-forwarded-for: 2001:db8::7\r\n", "[2001:db8::7]:0"),
            ("X-Forwarded-For: [2001:db8::7]\r\n", "[2001:db8::7]:0"),
            ("X-Forwarded-For: [2001:db8::7]:4711\r\n", "[2001:db8::7]:4711"),
            ("X-Forwarded-For: ::ffff:203.0.113.7\r\n", "203.0.113.7:0"),
            // What the client has written itself stands left of it, and counts for nothing.
            ("X-Forwarded-For: 1.1.1.1, 203.0.113.7\r\n", "203.0.113.7:0"),
            ("X-Forwarded-For: garbage, 203.0.113.7\r\n", "203.0.113.7:0"),
            ("X-Forwarded-For: 203.0.113.7,10.0.0.9 , 10.0.0.8,\r\n", "203.0.113.7:0"),
            ("X-Forwarded-For: 203.0.113.7, ::1\r\n", "203.0.113.7:0"),
            ("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.7, 10.0.0.9\r\n", "203.0.113.7:0"),
            // All are trusted: the first of them is as far as it goes.
            ("X-Forwarded-For: 10.0.0.9, 10.0.0.8\r\n", "10.0.0.9:0"),
            ("X-Forwarded-For: unknown\r\n", "10.0.0.1:80"),
            ("X-Forwarded-For: 1.1.1.1, unknown, 10.0.0.8\r\n", "10.0.0.8:0"),
            ("X-Forwarded-For: 203.0.113.7:\r\n", "unclear"),
            ("X-Forwarded-For: 203.0.113.7:+80\r\n", "unclear"),
            ("X-Forwarded-For: 203.0.113.7:65536\r\n", "unclear"),
            ("X-Forwarded-For: 203.0.113.7, next\r\n", "unclear"),
            ("X-Forwarded-For: [203.0.113.7]\r\n", "unclear"),
            ("X-Forwarded-For: [::1\r\n", "unclear"),
            ("X-Forwarded-For: \u{e9}\r\n", "unclear"),
            ("X-Forwarded-For:\r\n", "10.0.0.1:80"),
        ] {
            assert_eq!(said(headers), client, "{headers}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (headers, client) in [
            ("Forwarded: for=192.0.2.43\r\n", "192.0.2.43:0"),
            ("Forwarded: For=\"[2001:db8:cafe::17]:4711\"\r\n", "[2001:db8:cafe::17]:4711"),
            ("Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43\r\n", "192.0.2.60:0"),
            ("Forwarded: proto=https; for=\"192.0.2.60:_x\" ;host=\"a,b;for=1.1.1.1\"\r\n", "192.0.2.60:0"),
            ("Forwarded: for=1.1.1.1, for=192.0.2.43, for=10.0.0.9\r\n", "192.0.2.43:0"),
            ("Forwarded: for=192.0.2.43\r\nForwarded: for=\"10.0.0.9\"\r\n", "192.0.2.43:0"),
            ("Forwarded: host=\"\\\",for=1.1.1.1\";for=192.0.2.43\r\n", "192.0.2.43:0"),
            ("Forwarded: for=\"192.0.2.4\\3\"\r\n", "192.0.2.43:0"),
            ("Forwarded: for=_hidden\r\n", "10.0.0.1:80"),
            ("Forwarded: for=unknown, for=10.0.0.9\r\n", "10.0.0.9:0"),
            ("Forwarded: by=10.0.0.1\r\n", "10.0.0.1:80"),
            ("Forwarded: for=1.1.1.1;for=2.2.2.2\r\n", "unclear"),
            ("Forwarded: for=\"1.1.1.1\r\n", "unclear"),
            ("Forwarded: for\r\n", "unclear"),
            ("Forwarded: for=\r\n", "unclear"),
        ] {
            assert_eq!(said(headers), client, "{headers}");
        }
    }

    #[test]
    fn two_headers_count_where_they_agree_or_where_one_is_chosen() {
        let both = "X-Forwarded-For: 203.0.113.7:4711\r\nForwarded: for=1.1.1.1\r\n";
        assert_eq!(said(both), "unclear");
        assert_eq!(said("X-Forwarded-For: 203.0.113.7\r\nForwarded: for=\"203.0.113.7:5\"\r\n"), "203.0.113.7:5");
        let said_by = |header| said_by("10.0.0.1:80", both, header);
        assert_eq!(said_by(ClientHeader::XForwardedFor), Said::Client("203.0.113.7:4711".parse().unwrap()));
        assert_eq!(said_by(ClientHeader::Forwarded), Said::Client("1.1.1.1:0".parse().unwrap()));
    }

    #[test]
    fn nobody_else_is_believed() {
        for peer in ["203.0.113.9:80", "[2001:db8::9]:80", "[::ffff:203.0.113.9]:80"] {
            let said = said_by(peer, "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n", ClientHeader::Any);
            assert_eq!(said, Said::Client(peer.parse().unwrap()), "{peer}");
        }
        let mapped = said_by("[::ffff:10.0.0.1]:80", "X-Forwarded-For: 1.1.1.1\r\n", ClientHeader::Any);
        assert_eq!(mapped, Said::Client("1.1.1.1:0".parse().unwrap()), "a listener of [::] sees IPv4 so");
    }
}
