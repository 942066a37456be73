//! One GET of the admin port.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use fanblade_dial::look_up;
use fanblade_net::dial::Dial;

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("cannot find {address}: {source}")]
    Resolve { address: String, source: io::Error },
    #[error("nothing listens at {0}; is the blade running? Its admin port is printed when it starts")]
    Refused(String),
    #[error("no answer from {address}: {source}")]
    Broken { address: String, source: io::Error },
    #[error("no answer from {address} within {} s", .limit.as_secs())]
    Late { address: String, limit: Duration },
    #[error("{address} answered more than {BODY_LEN_MAX} bytes; it is not the admin port of a blade")]
    TooLong { address: String },
    #[error("{address} answered {status}; it is not the admin port of a blade")]
    Status { address: String, status: String },
}

/// A body, and the addresses between which it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// Both ends have the same address, so the blade is on this machine.
    pub(super) is_local: bool,
}

/// HOST:PORT, also from an address copied from a browser.
pub(super) fn address(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let has_port = bare.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if has_port && !bare.contains('/') {
        Ok(bare.to_owned())
    } else {
        Err("an admin port is written HOST:PORT, such as 127.0.0.1:7401".to_owned())
    }
}

pub(super) fn get(address: &str, path: &str, limit: Duration) -> Result<Answer, HttpError> {
    let deadline = Instant::now() + limit;
    let broken = |source: io::Error| match source.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => HttpError::Late { address: address.to_owned(), limit },
        _ => HttpError::Broken { address: address.to_owned(), source },
    };
    let targets =
        look_up(address, limit).map_err(|source| HttpError::Resolve { address: address.to_owned(), source })?;
    let dial = Dial::new(&targets, 0, left(deadline).map_err(broken)?, Instant::now()).and_then(Dial::wait);
    let mut stream = dial.map_err(|error| match error {
        error if error.is_refused() => HttpError::Refused(address.to_owned()),
        error if error.is_late() => HttpError::Late { address: address.to_owned(), limit },
        error => HttpError::Broken { address: address.to_owned(), source: io::Error::other(error) },
    })?;
    stream.set_nonblocking(false).map_err(broken)?;
    let is_local = match (stream.local_addr(), stream.peer_addr()) {
        (Ok(here), Ok(there)) => here.ip() == there.ip(),
        _ => false,
    };
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    // The Host header is an address, which the admin port always accepts.
    let host = stream.peer_addr().map_err(broken)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.set_write_timeout(Some(limit)).and_then(|()| stream.write_all(request.as_bytes())).map_err(broken)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline).map_err(broken)?)).map_err(broken)?;
        match stream.read(&mut chunk).map_err(broken)? {
            0 => break,
            len => bytes.extend(chunk.iter().take(len)),
        }
        if bytes.len() > BODY_LEN_MAX {
            return Err(HttpError::TooLong { address: address.to_owned() });
        }
    }
    let no_answer = |status: &str| HttpError::Status { address: address.to_owned(), status: status.to_owned() };
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| no_answer("no HTTP"))?;
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes);
    match head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")?.split_once(' ')) {
        Some((_, status)) if status.starts_with("200") => Ok(Answer { body, is_local }),
        Some((_, status)) => Err(no_answer(status)),
        None => Err(no_answer("no HTTP")),
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The status of `WORKERS_MAX` workers takes a hundredth of this. A longer body is refused, since it cannot be a
/// status.
const BODY_LEN_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What `get` returns for a server that answers with these bytes and closes.
    fn answered(bytes: &'static [u8]) -> Result<Answer, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let len = stream.read(&mut request).unwrap();
            assert!(request[..len].starts_with(b"GET /v1/status HTTP/1.0\r\nHost: 127.0.0.1:"));
            let _ = stream.write_all(bytes);
        });
        let answer = get(&address, "/v1/status", Duration::from_secs(20));
        server.join().unwrap();
        answer
    }

    #[test]
    fn answers_are_read_and_others_refused() {
        let answer = answered(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{}\r\n\r\n").unwrap();
        assert_eq!((answer.body.as_slice(), answer.is_local), (b"{}\r\n\r\n".as_slice(), true));
        let error = |bytes| answered(bytes).unwrap_err().to_string();
        assert!(
            error(b"HTTP/1.1 404 Not Found\r\n\r\nthere are")
                .contains("answered 404 Not Found; it is not the admin port")
        );
        assert!(error(b"SSH-2.0-OpenSSH_9.6\r\n").contains("answered no HTTP"));
        assert!(error(b"").contains("answered no HTTP"));
        static LONG: [u8; BODY_LEN_MAX + 100_000] = [b'x'; BODY_LEN_MAX + 100_000];
        assert!(error(&LONG).contains("more than"));
    }

    #[test]
    fn silence_and_nobody_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let error = get(&address, "/", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, HttpError::Late { .. }), "{error}");
        drop(listener);
        let error = get(&address, "/", Duration::from_secs(20)).unwrap_err();
        assert!(matches!(error, HttpError::Refused(_)), "{error}");
        let error = get("no-such-host.invalid:1", "/", Duration::from_secs(20)).unwrap_err();
        assert!(matches!(error, HttpError::Resolve { .. }), "{error}");
    }

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (text, address) in [
            ("127.0.0.1:7401", "127.0.0.1:7401"),
            ("http://blade-1:7401/", "blade-1:7401"),
            ("[::1]:7401", "[::1]:7401"),
        ] {
            assert_eq!(super::address(text).as_deref(), Ok(address));
        }
        for text in ["blade-1", ":7401", "127.0.0.1:", "127.0.0.1:99999", "http://a:1/v1/status", ""] {
            assert!(super::address(text).is_err(), "{text}");
        }
    }
}
