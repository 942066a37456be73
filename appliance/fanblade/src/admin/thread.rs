//! The admin port's thread. It waits for no other thread, so that it can tell which of them stands still.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::blade::Blade;
use crate::config::AdminConfig;
use crate::vitals::Watch;

/// The thread that serves the admin port.
pub(crate) struct AdminThread {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    has_ended: bool,
}

impl AdminThread {
    pub(crate) fn start(listener: TcpListener, blade: Arc<Blade>, config: &AdminConfig) -> io::Result<AdminThread> {
        let (config, stalled) = (config.clone(), Duration::from_millis(config.stalled_ms.get_ref().0));
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
                    served = super::serve(listener, blade, config, stopped) => if let Err(error) = served {
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for its end, which comes unasked only if it fails.
    pub(crate) async fn until_ended(&mut self) {
        let _ = (&mut self.ended).await;
        self.has_ended = true;
    }

    /// Lets it answer what it has been asked, for a while. Readers see the end as the end of their connection.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        if !self.has_ended {
            let _ = timeout(CLOSE_MAX, self.ended).await;
        }
    }
}

const CLOSE_MAX: Duration = Duration::from_millis(500);
