//! Addresses of Ethernet interfaces.

use std::fmt;
use std::str::FromStr;

/// Address of an Ethernet interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Mac).ok_or_else(|| format!("`{text}` is not a MAC address; write it like 02:00:00:00:00:01"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read_as_they_are_written() {
        assert_eq!("02:fa:00:00:00:10".parse(), Ok(Mac([2, 0xfa, 0, 0, 0, 16])));
        assert_eq!(Mac([2, 0xfa, 0, 0, 0, 16]).to_string(), "02:fa:00:00:00:10");
        assert!("02:fa".parse::<Mac>().is_err() && "02:fa:00:00:00:zz".parse::<Mac>().is_err());
    }
}
