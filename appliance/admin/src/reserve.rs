//! Descriptors that are kept back for the admin port. Other threads wait for descriptors, too, and take one that is
//! free only for a moment. So the descriptor of a connection that ends passes to the reserve without being free in
//! between.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::DESCRIPTORS_RESERVED;

/// The spare descriptors, and the open file that they duplicate.
#[derive(Debug)]
pub(crate) struct Reserve {
    nothing: File,
    kept: Mutex<Vec<OwnedFd>>,
}

impl Reserve {
    /// A full reserve: a blade starts with descriptors to spare.
    pub(crate) fn new() -> io::Result<Reserve> {
        let nothing = File::open("/dev/null")?;
        let kept =
            (0..DESCRIPTORS_RESERVED).map(|_| nothing.try_clone().map(OwnedFd::from)).collect::<io::Result<_>>()?;
        Ok(Reserve { nothing, kept: Mutex::new(kept) })
    }

    /// Closes one spare descriptor, which makes room for one connection. False: there was none.
    #[must_use]
    pub(crate) fn spend(&self) -> bool {
        self.kept.lock().pop().is_some()
    }

    /// Moves the connection's descriptor to the reserve if the reserve lacks one; else closes it.
    fn take_over(&self, stream: TcpStream) {
        let mut kept = self.kept.lock();
        if kept.len() >= DESCRIPTORS_RESERVED {
            return;
        }
        let Ok(stream) = stream.into_std() else { return };
        let mut descriptor = OwnedFd::from(stream);
        if nix::unistd::dup2(&self.nothing, &mut descriptor).is_ok() {
            kept.push(descriptor);
        }
    }
}

/// A connection whose descriptor passes to the reserve at its end, if the reserve lacks one.
pub(crate) struct Held {
    /// None only during the drop.
    stream: Option<TcpStream>,
    reserve: Arc<Reserve>,
}

impl Held {
    pub(crate) fn new(stream: TcpStream, reserve: Arc<Reserve>) -> Held {
        Held { stream: Some(stream), reserve }
    }

    fn with<T>(
        self: Pin<&mut Self>,
        act: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.get_mut().stream {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.reserve.take_over(stream);
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Held {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}
