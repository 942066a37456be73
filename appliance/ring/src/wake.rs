//! Waking a worker only when it sleeps.
//!
//! The worker announces its sleep and then looks once more whether there is something to do; the publisher publishes
//! and then looks whether somebody sleeps. Each stores, then loads what the other stores: without a full fence between
//! on both sides each may miss the other, and the worker sleeps on a full ring. Costs the publisher one fence a
//! publish, and a system call only for a worker that really sleeps.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::RingError;
use crate::sync::{AtomicBool, Ordering, fence};

/// A worker's two halves: the publisher rings, the worker sleeps.
pub fn pair() -> Result<(Waker, Sleeper), RingError> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell = EventFd::from_flags(flags).map_err(RingError::system("eventfd"))?;
    let shared = Arc::new(Shared { handshake: Handshake::new(), bell });
    Ok((Waker(Arc::clone(&shared)), Sleeper(shared)))
}

/// The publisher's half. Clones ring the same worker.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Wakes the worker if it sleeps. The caller has stored before what the worker is to find.
    pub fn wake(&self) {
        publisher_fence();
        self.wake_after_fence();
    }

    /// Another sleeper for the same bell, of a worker that takes the place of one that has ended: who rings need not
    /// know. Only one of them may sleep.
    #[must_use]
    pub fn successor(&self) -> Sleeper {
        let sleeper = Sleeper(Arc::clone(&self.0));
        // The other may have left it in any state.
        sleeper.clear();
        sleeper
    }

    /// The same, where one [`publisher_fence`] serves several workers.
    pub(crate) fn wake_after_fence(&self) {
        if self.0.handshake.must_ring() {
            // It fails only if the counter is full, and then the worker is awake already.
            let _ = self.0.bell.write(1);
        }
    }
}

/// The worker's half.
#[derive(Debug)]
pub struct Sleeper(Arc<Shared>);

impl Sleeper {
    /// Announces the sleep. The caller then looks for work once more, and only without any blocks on [`fd`](Self::fd).
    pub fn prepare(&self) {
        self.0.handshake.prepare();
    }

    /// Becomes readable when the worker is to wake.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }

    /// Says that the worker is awake again. `true`: the bell has been rung, and must be silenced before the next sleep.
    /// That is a system call, and can wait until the work is done.
    #[must_use]
    pub fn rise(&self) -> bool {
        self.0.handshake.clear()
    }

    /// Silences the bell after [`rise`](Self::rise).
    pub fn silence(&self) {
        // The bell has been rung, or is about to be. If it rings after this, that costs one needless wake-up.
        let _ = self.0.bell.read();
    }

    /// Says that the worker is awake again, and silences the bell.
    pub fn clear(&self) {
        if self.rise() {
            self.silence();
        }
    }
}

#[derive(Debug)]
struct Shared {
    handshake: Handshake,
    bell: EventFd,
}

/// The word between the two.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// Set by the worker, cleared by whoever is first: the publisher that rings, or the worker that needs no bell.
    pub(crate) sleeping: AtomicBool,
}

impl Handshake {
    pub(crate) fn new() -> Self {
        Self { sleeping: AtomicBool::new(false) }
    }

    pub(crate) fn prepare(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Publisher, after [`publisher_fence`]: true for exactly one caller per sleep.
    pub(crate) fn must_ring(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }

    /// Worker: true if the bell has been rung for this sleep.
    pub(crate) fn clear(&self) -> bool {
        !self.sleeping.swap(false, Ordering::AcqRel)
    }
}

/// Between the publisher's stores and its look at the sleepers; pairs with the fence in [`Handshake::prepare`].
pub(crate) fn publisher_fence() {
    fence(Ordering::SeqCst);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::{Sleeper, pair};

    fn rung(sleeper: &Sleeper) -> bool {
        poll(&mut [PollFd::new(sleeper.fd().as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn the_bell_rings_once_per_sleep_and_not_for_the_awake() {
        let (waker, sleeper) = pair().unwrap();
        waker.wake();
        assert!(!rung(&sleeper));
        sleeper.prepare();
        assert!(!rung(&sleeper));
        waker.wake();
        waker.clone().wake();
        assert!(rung(&sleeper));
        sleeper.clear();
        assert!(!rung(&sleeper));
        sleeper.prepare();
        sleeper.clear();
        waker.wake();
        assert!(!rung(&sleeper));
    }

    #[test]
    fn whoever_takes_a_sleepers_place_is_rung_by_the_same_waker() {
        let (waker, sleeper) = pair().unwrap();
        // It ends asleep; its bell is rung once, unheard.
        sleeper.prepare();
        waker.wake();
        drop(sleeper);
        let successor = waker.successor();
        assert!(!rung(&successor), "what was for another is no news");
        successor.prepare();
        waker.wake();
        assert!(rung(&successor));
    }
}
