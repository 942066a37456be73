//! A connection whose peer may close its own side and still be answered.
//!
//! tungstenite writes nothing more once it has read the end of the stream. So the end is hidden from tungstenite, and
//! reported separately.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::listener::Stream;

/// The stream: at its end, reads wait for ever, and `ended` becomes true.
pub(super) struct OpenEnded {
    stream: Stream,
    ended: watch::Sender<bool>,
}

impl OpenEnded {
    pub(super) fn new(stream: Stream) -> (OpenEnded, watch::Receiver<bool>) {
        let (ended, has_ended) = watch::channel(false);
        (OpenEnded { stream, ended }, has_ended)
    }
}

impl AsyncRead for OpenEnded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (filled, is_room) = (buffer.filled().len(), buffer.remaining() > 0);
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if is_room && buffer.filled().len() == filled => {
                self.ended.send_replace(true);
                Poll::Pending
            }
            other => other,
        }
    }
}

impl AsyncWrite for OpenEnded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
