//! An HTTP client that reads one answer.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;

/// The answer to a GET: status line and headers, body.
///
/// # Panics
///
/// There is no answer.
#[track_caller]
pub fn http(address: SocketAddr, path: &str) -> (String, String) {
    try_http(address, path).unwrap_or_else(|error| panic!("{address}{path}: {error}"))
}

/// The same, but without an answer it returns an error: the server may not be ready yet.
pub fn try_http(address: SocketAddr, path: &str) -> io::Result<(String, String)> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_ref().set_read_timeout(Some(PATIENCE))?;
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head)? > 0 {}
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = String::new();
    stream.take(length.unwrap_or(u64::MAX)).read_to_string(&mut body)?;
    Ok((head, body))
}
