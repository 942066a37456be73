//! The sockets at which publishers connect: TCP ports and Unix sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fanblade_net::ports;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval};
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::OpenError;

/// A bound socket: binding early shows at the start what is wrong with the address.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(std::net::TcpListener),
    Unix(UnixListener),
}

/// A Unix listener, whose file is removed with it.
#[derive(Debug)]
pub(super) struct UnixListener {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

/// A listener that tasks can wait for.
#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix { listener: tokio::net::UnixListener, _file: SocketFile },
}

/// Removes a Unix socket's file when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

/// A connection of either kind.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}
pub(super) type Stream = Box<dyn Transport>;

/// A new connection, and where it comes from.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    /// `tcp` or `unix`.
    pub(super) transport: &'static str,
    /// The peer's address, for the log.
    pub(super) peer: String,
}

impl Listener {
    pub(super) fn tcp(address: SocketAddr) -> Result<Listener, OpenError> {
        let listener = std::net::TcpListener::bind(address)
            .map_err(|error| ports::refused(address, &error, "`listen` in [feed.publisher]:"))?;
        listener.set_nonblocking(true).map_err(|error| OpenError::Tcp { address, error })?;
        Ok(Listener::Tcp(listener))
    }

    /// Listens on a Unix socket. Replaces a file that a dead process has left.
    pub(super) fn unix(path: &Path) -> Result<Listener, OpenError> {
        let failed = |error| OpenError::Unix { path: path.to_owned(), error };
        if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => return Err(OpenError::UnixTaken(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
        let listener = UnixListener { listener, path: path.to_owned() };
        // The socket's owner and group may publish; the directory's mode can restrict them further.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        listener.listener.set_nonblocking(true).map_err(failed)?;
        Ok(Listener::Unix(listener))
    }

    pub(super) fn into_accepting(self) -> io::Result<Accepting> {
        match self {
            Listener::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Accepting::Tcp),
            Listener::Unix(UnixListener { listener, path }) => {
                let file = SocketFile(path);
                let listener = tokio::net::UnixListener::from_std(listener)?;
                Ok(Accepting::Unix { listener, _file: file })
            }
        }
    }
}

impl Accepting {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Accepting::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // A publisher that disappears without closing must not stay in the list for ever.
                setsockopt(&stream, KeepAlive, &true)?;
                setsockopt(&stream, TcpKeepIdle, &30)?;
                setsockopt(&stream, TcpKeepInterval, &10)?;
                setsockopt(&stream, TcpKeepCount, &3)?;
                Ok(Accepted { stream: Box::new(stream), transport: "tcp", peer: peer.to_string() })
            }
            Accepting::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
                let peer = peer.map_or_else(|| "unix".to_owned(), |pid| format!("process {pid}"));
                Ok(Accepted { stream: Box::new(stream), transport: "unix", peer })
            }
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "ws://{address}/v1/publish"),
                Err(error) => write!(f, "a port ({error})"),
            },
            Listener::Unix(UnixListener { path, .. }) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
