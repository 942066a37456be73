//! The admin port's thread. It waits for no other thread, so that it can tell which of them is stalled.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fanblade_blade::{Blade, Watch};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::door::Door;
use crate::reserve::Reserve;
use crate::server;
use crate::settings::Settings;

/// The admin port before it serves: it has all the descriptors that it needs. A blade opens it before its data port,
/// whose clients may take whatever descriptors there are.
pub struct AdminPort {
    thread: AdminThread,
    listener: tokio::net::TcpListener,
    reserve: Reserve,
    /// The thread waits for the door and the watch, and ends if they do not come.
    begin: mpsc::Sender<(Door, Watch)>,
}

impl AdminPort {
    /// Opens the admin port.
    ///
    /// # Errors
    /// The listener is unusable, the thread cannot be started, or there are not enough descriptors.
    pub fn open(listener: TcpListener) -> io::Result<AdminPort> {
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let (begin, begun) = mpsc::channel::<(Door, Watch)>();
        let registered = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)
        };
        // From here on the thread owns the runtime, since a runtime must not be dropped within another one, as this
        // function's caller is.
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let Ok((door, watch)) = begun.recv() else { return };
            let watch = runtime.spawn(watch.run());
            let stopped = async {
                let _ = stopped.await;
            };
            runtime.block_on(async {
                tokio::select! {
                    () = door.serve(stopped) => {}
                    // The watch has panicked: without it this thread is of no use.
                    _ = watch => {}
                }
            });
            runtime.shutdown_background();
            let _ = done.send(());
        })?;
        let thread = AdminThread { address, stop, ended, has_ended: false };
        Ok(AdminPort { thread, listener: registered?, reserve: Reserve::new()?, begin })
    }

    /// Begins to serve.
    ///
    /// # Errors
    /// The limit of descriptors cannot be read.
    pub fn serve(self, blade: &Arc<Blade>, settings: Settings) -> io::Result<AdminThread> {
        let watch = Watch::new(Arc::clone(blade), settings.stalled);
        let door = server::door(self.listener, self.reserve, Arc::clone(blade), settings)?;
        // If the thread has gone, `AdminThread::until_ended` notices.
        let _ = self.begin.send((door, watch));
        Ok(self.thread)
    }
}

/// The thread that serves the admin port.
pub struct AdminThread {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    has_ended: bool,
}

impl AdminThread {
    /// The address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the thread's end. It ends by itself only if it fails.
    pub async fn until_ended(&mut self) {
        let _ = (&mut self.ended).await;
        self.has_ended = true;
    }

    /// Stops the thread, which first answers pending requests for a limited time. Clients see the end of their
    /// connection.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if !self.has_ended {
            let _ = timeout(CLOSE_MAX, self.ended).await;
        }
    }
}

const CLOSE_MAX: Duration = Duration::from_millis(500);
