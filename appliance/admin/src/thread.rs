//! The admin port's thread. It waits for no other thread, so that it can tell which of them stands still.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use fanblade_blade::{Blade, Watch};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::server;
use crate::settings::Settings;

/// The thread that serves the admin port.
pub struct AdminThread {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    has_ended: bool,
}

impl AdminThread {
    /// Starts it.
    ///
    /// # Errors
    /// There is no thread, or the listener is none.
    pub fn start(listener: TcpListener, blade: &Arc<Blade>, settings: Settings) -> io::Result<AdminThread> {
        let (blade, stalled) = (Arc::clone(blade), settings.stalled);
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let watch = runtime.spawn(Watch::new(Arc::clone(&blade), stalled).run());
            let stopped = async {
                let _ = stopped.await;
            };
            runtime.block_on(async {
                tokio::select! {
                    served = server::serve(listener, blade, settings, stopped) => if let Err(error) = served {
                        tracing::error!("the admin port has ended: {error}");
                    },
                    // It has panicked: without a watch this thread is of no use.
                    _ = watch => {}
                }
            });
            runtime.shutdown_background();
            let _ = done.send(());
        })?;
        Ok(AdminThread { address, stop, ended, has_ended: false })
    }

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
