//! The admin port's thread. It waits for no other thread, so that it can tell which of them stands still.

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

/// The admin port before anybody is served: it has all the descriptors that it needs. A blade opens it before its data
/// port, whose clients may take whatever descriptors there are.
pub struct AdminPort {
    thread: AdminThread,
    listener: tokio::net::TcpListener,
    reserve: Reserve,
    /// The thread waits for what it is to serve, and ends if that does not come.
    begin: mpsc::Sender<(Door, Watch)>,
}

impl AdminPort {
    /// Opens it.
    ///
    /// # Errors
    /// The listener is none, there is no thread, or there are not enough descriptors.
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
        // The thread has the runtime from here on: one must not be dropped within another, where this is called.
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let Ok((door, watch)) = begun.recv() else { return };
            let watch = runtime.spawn(watch.run());
            let stopped = async {
                let _ = stopped.await;
            };
            runtime.block_on(async {
                tokio::select! {
                    () = door.serve(stopped) => {}
                    // It has panicked: without a watch this thread is of no use.
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
        // A thread that has gone is noticed by `AdminThread::until_ended`.
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
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for its end, which comes unasked only if it fails.
    pub async fn until_ended(&mut self) {
        let _ = (&mut self.ended).await;
        self.has_ended = true;
    }

    /// Lets it answer what it has been asked, for a while. Readers see the end as the end of their connection.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if !self.has_ended {
            let _ = timeout(CLOSE_MAX, self.ended).await;
        }
    }
}

const CLOSE_MAX: Duration = Duration::from_millis(500);
