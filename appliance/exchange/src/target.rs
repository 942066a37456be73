//! Where a line goes: `GROUP:PORT[@IF]`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::str::FromStr;

use fanblade_net::interfaces;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{setsockopt, sockopt};

use super::error::TargetError;

/// A multicast group and the interface by which it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    group: SocketAddrV4,
    /// None: the interface that the routing table names.
    interface: Option<String>,
}

impl Target {
    /// Opens a socket whose packets go there.
    pub(super) fn connect(&self, ttl: u32) -> Result<UdpSocket, TargetError> {
        let socket = match &self.interface {
            Some(name) => {
                // The socket is bound to the interface's address, too. Receivers would drop packets without one.
                let socket = UdpSocket::bind((address_of(name)?, 0))
                    .map_err(|error| TargetError::Bind { name: name.clone(), error })?;
                setsockopt(&socket, sockopt::BindToDevice, &name.into())
                    .map_err(|error| TargetError::BindToDevice { name: name.clone(), error: error.into() })?;
                socket
            }
            None => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(TargetError::Socket)?,
        };
        socket.set_multicast_loop_v4(true).map_err(TargetError::Socket)?;
        socket.set_multicast_ttl_v4(ttl).map_err(TargetError::Socket)?;
        let Target { group, interface } = self;
        socket.connect(group).map_err(|error| TargetError::NoWay {
            group: *group,
            interface: interface.clone(),
            error,
        })?;
        Ok(socket)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (group, interface) = match text.split_once('@') {
            Some((_, "")) => return Err(format!("`{text}` lacks the interface after `@`")),
            Some((group, interface)) => (group, Some(interface.to_owned())),
            None => (text, None),
        };
        let group: SocketAddrV4 = group.parse().map_err(|_| {
            format!("`{group}` is not an IPv4 group and port; write GROUP:PORT[@IF], such as 239.192.1.1:26400@eth0")
        })?;
        if !group.ip().is_multicast() {
            return Err(format!("{} is not a multicast group; those are 224.0.0.0 to 239.255.255.255", group.ip()));
        }
        if group.port() == 0 {
            return Err(format!("`{text}` lacks a port"));
        }
        Ok(Self { group, interface })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        self.interface.iter().try_for_each(|name| write!(f, "@{name}"))
    }
}

/// The first IPv4 address of an interface.
fn address_of(name: &str) -> Result<Ipv4Addr, TargetError> {
    interfaces::require(name)?;
    let interfaces = getifaddrs().map_err(|error| TargetError::Addresses(error.into()))?;
    let mut own = interfaces.filter(|interface| interface.interface_name == name);
    own.find_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
        .ok_or_else(|| TargetError::NoAddress { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_written() {
        for text in ["239.192.1.1:26400", "224.0.2.3:1@lo"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for (text, says) in [
            ("239.192.1.1", "is not an IPv4 group and port"),
            ("ff02::1", "is not an IPv4 group and port"),
            ("127.0.0.1:26400", "127.0.0.1 is not a multicast group"),
            ("239.192.1.1:0", "lacks a port"),
            ("239.192.1.1:26400@", "lacks the interface"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn interfaces_have_to_be_there() {
        let error = "239.192.1.1:26400@loo".parse::<Target>().unwrap().connect(1).unwrap_err();
        assert!(error.to_string().ends_with("did you mean lo?"), "{error}");
        assert_eq!(address_of("lo").unwrap(), Ipv4Addr::LOCALHOST);
    }
}
