//! A real engine, and what it does told on the worker's thread, which waits for whoever listens.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fanblade_net::{Counters, Engine, Event, FlushStats, IoSlices, SessionId, Unsent};

use super::{PATIENCE, Wrap};

/// A place in what an engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// Before it looks at its sockets.
    Poll = 1,
    /// Before the worker hears that something was received.
    Received,
    /// When all events of a poll have been told, and something was received.
    Polled,
    /// After the worker has asked for a send.
    Sent,
    Flush,
    /// Within the flush, after it has told of a send that was not taken whole.
    Unsent,
    Close,
}

pub(crate) struct Observed {
    inner: Box<dyn Engine>,
    at: Box<dyn FnMut(Step)>,
}

impl Observed {
    pub(crate) fn boxed(inner: Box<dyn Engine>, at: impl FnMut(Step) + 'static) -> Box<dyn Engine> {
        Box::new(Self { inner, at: Box::new(at) })
    }
}

impl Engine for Observed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn poll(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        (self.at)(Step::Poll);
        let (at, mut has_received) = (&mut self.at, false);
        self.inner.poll(timeout, &mut |event| {
            if matches!(event, Event::Received { .. }) {
                has_received = true;
                at(Step::Received);
            }
            sink(event);
        })?;
        if has_received {
            at(Step::Polled);
        }
        Ok(())
    }

    fn send(&mut self, session: SessionId, slices: &IoSlices) {
        self.inner.send(session, slices);
        (self.at)(Step::Sent);
    }

    fn flush(&mut self, sink: &mut dyn FnMut(Unsent)) -> io::Result<FlushStats> {
        (self.at)(Step::Flush);
        let at = &mut self.at;
        self.inner.flush(&mut |unsent| {
            sink(unsent);
            at(Step::Unsent);
        })
    }

    fn want_writable(&mut self, session: SessionId) {
        self.inner.want_writable(session);
    }

    fn pause_reading(&mut self, session: SessionId) {
        self.inner.pause_reading(session);
    }

    fn resume_reading(&mut self, session: SessionId) {
        self.inner.resume_reading(session);
    }

    fn shutdown_write(&mut self, session: SessionId) {
        self.inner.shutdown_write(session);
    }

    fn close(&mut self, session: SessionId) {
        (self.at)(Step::Close);
        self.inner.close(session);
    }

    fn detach(&mut self, session: SessionId) {
        self.inner.detach(session);
    }

    fn attach(&mut self, session: SessionId, socket: OwnedFd) -> io::Result<()> {
        self.inner.attach(session, socket)
    }

    fn pause_accepting(&mut self) {
        self.inner.pause_accepting();
    }

    fn resume_accepting(&mut self) {
        self.inner.resume_accepting();
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn sessions(&self) -> usize {
        self.inner.sessions()
    }

    fn bytes_per_session(&self) -> usize {
        self.inner.bytes_per_session()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

/// Holds a worker at a step of its engine's.
#[derive(Clone, Default)]
pub(crate) struct Hold {
    /// Where; 0 for nowhere.
    step: Arc<AtomicU8>,
    /// Where it stands.
    held: Arc<AtomicU8>,
}

impl Hold {
    pub(crate) fn wrap(&self) -> Wrap {
        let hold = self.clone();
        Box::new(move |engine| Observed::boxed(engine, move |step| hold.meet(step)))
    }

    fn meet(&self, step: Step) {
        while self.step.load(Relaxed) == step as u8 {
            self.held.store(step as u8, Relaxed);
            std::thread::sleep(Duration::from_micros(100));
        }
        self.held.store(0, Relaxed);
    }

    /// From its next such step on the worker stands still.
    pub(crate) fn at(&self, step: Step) {
        self.step.store(step as u8, Relaxed);
    }

    /// Returns when it does.
    pub(crate) fn until_held(&self, step: Step) {
        let begun = Instant::now();
        while self.held.load(Relaxed) != step as u8 {
            assert!(begun.elapsed() < PATIENCE, "the worker does not come to {step:?}");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    pub(crate) fn release(&self) {
        self.step.store(0, Relaxed);
    }
}
