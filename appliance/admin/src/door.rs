//! Admits connections to the admin port: they are few and short, and silent ones make room for others.
//!
//! A connection carries one request. Until the head of its request has come it is *waiting*, then it is *answered*; the
//! whole connection has a deadline. Beyond `connections_max` the connection that has waited longest is closed, or, if
//! none is waiting, the one that has been answered longest. If the process runs out of descriptors, the port uses the
//! few that were kept back, and then closes half of the waiting connections. So a probe gets through behind any number
//! of silent connections.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{sleep, timeout};

use crate::limits::{
    ACCEPT_RETRY_MS, CONNECTION_MS_MAX, DESCRIPTORS_SHARE, HEAD_LEN_MAX, HEAD_MS_MAX, HEADERS_MAX, SHORTAGE_MS,
};
use crate::reserve::{Held, Reserve};

/// What the admin port counts.
#[derive(Debug, Default)]
pub(crate) struct AdminStats {
    /// Open connections.
    pub(crate) connections: AtomicU64,
    pub(crate) accepted: AtomicU64,
    /// Connections closed to make room.
    pub(crate) shed: AtomicU64,
    /// Connections closed for taking too long.
    pub(crate) timeouts: AtomicU64,
    /// Requests whose host name is not allowed.
    pub(crate) host_refused: AtomicU64,
    /// Failed accepts, mostly for lack of descriptors.
    pub(crate) accept_failures: AtomicU64,
}

/// The listener, and all open connections.
pub(crate) struct Door {
    listener: TcpListener,
    router: Router,
    stats: Arc<AdminStats>,
    connections_max: usize,
    /// Limit of a whole connection.
    duration_max: Duration,
    tasks: JoinSet<()>,
    /// Connections by task.
    guests: HashMap<Id, Guest>,
    /// Tasks, oldest first; some have ended.
    order: VecDeque<Id>,
    reserve: Arc<Reserve>,
}

struct Guest {
    task: AbortHandle,
    /// Its request head has come.
    is_answered: Arc<AtomicBool>,
}

impl Door {
    pub(crate) fn new(
        listener: TcpListener,
        reserve: Reserve,
        router: Router,
        stats: Arc<AdminStats>,
        connections_max: u64,
    ) -> io::Result<Door> {
        let (descriptors, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        let connections_max = connections_max.min(descriptors / DESCRIPTORS_SHARE).max(1);
        Ok(Door {
            listener,
            router,
            stats,
            connections_max: usize::try_from(connections_max).unwrap_or(usize::MAX),
            duration_max: Duration::from_millis(CONNECTION_MS_MAX),
            tasks: JoinSet::new(),
            guests: HashMap::new(),
            order: VecDeque::new(),
            reserve: Arc::new(reserve),
        })
    }

    /// Serves until `stopped` resolves; then finishes the requests that have come.
    pub(crate) async fn serve(mut self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(ended) = self.tasks.join_next_with_id() => self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id)),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Otherwise Nagle's algorithm could delay the end of an answer until an acknowledgement.
                        let _ = stream.set_nodelay(true);
                        self.admit(stream);
                    }
                    Err(error) => self.make_room(&error).await,
                },
            }
        }
        self.guests.values().filter(|guest| !guest.is_answered.load(Relaxed)).for_each(|guest| guest.task.abort());
        while self.tasks.join_next().await.is_some() {}
    }

    fn admit(&mut self, stream: TcpStream) {
        self.stats.accepted.fetch_add(1, Relaxed);
        if self.guests.len() >= self.connections_max {
            self.shed(1);
        }
        let is_answered = Arc::new(AtomicBool::new(false));
        let (router, stats) = (self.router.clone(), Arc::clone(&self.stats));
        let stream = Held::new(stream, Arc::clone(&self.reserve));
        let task = self.tasks.spawn(attend(stream, router, Arc::clone(&is_answered), stats, self.duration_max));
        self.order.push_back(task.id());
        self.guests.insert(task.id(), Guest { task, is_answered });
        self.stats.connections.store(self.guests.len() as u64, Relaxed);
    }

    /// Handles a failed accept: usually a client waits, and there is no descriptor for it.
    async fn make_room(&mut self, error: &io::Error) {
        // Some connections end before they are accepted. That is no fault, and the next one is waiting.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return;
        }
        if self.stats.accept_failures.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                "the admin port cannot accept a connection: {error}; silent connections are closed to make room, and \
                 fanblade_admin_accept_failures_total counts further failures"
            );
        }
        let is_short = matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)
        );
        if is_short && self.reserve.spend() {
            return;
        }
        sleep(Duration::from_millis(SHORTAGE_MS)).await;
        // Let the tasks read what has arrived by now, so that connections with a request do not count as silent.
        for _ in 0..YIELDS {
            tokio::task::yield_now().await;
        }
        let waiting = self.guests.values().filter(|guest| !guest.is_answered.load(Relaxed)).count();
        if is_short && self.shed(waiting.div_ceil(2)) > 0 {
            // The closed connection's descriptor is in the reserve once its task has ended.
            if let Some(ended) = self.tasks.join_next_with_id().await {
                self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        } else {
            sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
        }
    }

    /// Closes `count` connections: waiting ones first, the oldest of them first. Returns how many were closed.
    fn shed(&mut self, count: usize) -> usize {
        self.order.retain(|id| self.guests.contains_key(id));
        let is_waiting = |id: &&Id| self.guests.get(id).is_some_and(|guest| !guest.is_answered.load(Relaxed));
        let mut chosen: Vec<Id> = self.order.iter().filter(is_waiting).take(count).copied().collect();
        if chosen.is_empty() {
            chosen.extend(self.order.front().filter(|_| count > 0));
        }
        for guest in chosen.iter().filter_map(|id| self.guests.remove(id)) {
            guest.task.abort();
        }
        self.stats.shed.fetch_add(chosen.len() as u64, Relaxed);
        chosen.len()
    }

    fn forget(&mut self, id: Id) {
        self.guests.remove(&id);
        self.stats.connections.store(self.guests.len() as u64, Relaxed);
    }
}

/// Serves one connection, from its request to its end.
async fn attend(
    stream: Held,
    router: Router,
    is_answered: Arc<AtomicBool>,
    stats: Arc<AdminStats>,
    duration_max: Duration,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        is_answered.store(true, Relaxed);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS_MAX))
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        // A client may send its request and shut down its side (`nc -N`), and still expects the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(duration_max, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_timeout() => {
            stats.timeouts.fetch_add(1, Relaxed);
        }
        Ok(Err(error)) => tracing::debug!("a connection to the admin port: {error}"),
        Err(_) => {
            stats.timeouts.fetch_add(1, Relaxed);
        }
    }
}

/// Turns of the runtime: one polls the sockets, one lets the tasks read, one is to spare.
const YIELDS: usize = 3;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn who_asks_and_ends_its_side_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // The client shuts down its side long before the answer is made.
        let answer = axum::routing::get(async || {
            sleep(Duration::from_millis(100)).await;
            "the answer"
        });
        let mut door =
            Door::new(listener, Reserve::new().unwrap(), Router::new().route("/", answer), Arc::default(), 10).unwrap();
        door.duration_max = Duration::from_secs(20);
        let serving = tokio::spawn(door.serve(std::future::pending()));
        for _ in 0..5 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("the answer"), "{answer:?}");
        }
        serving.abort();
    }

    #[tokio::test]
    async fn who_does_not_take_a_long_page_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Longer than all buffers between the two ends.
        let router = Router::new().route("/", axum::routing::get(|| async { vec![b'x'; PAGE_LEN] }));
        let stats = Arc::new(AdminStats::default());
        let mut door = Door::new(listener, Reserve::new().unwrap(), router, Arc::clone(&stats), 10).unwrap();
        door.duration_max = Duration::from_millis(500);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(door.serve(async move {
            let _ = stopped.await;
        }));
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        while stats.timeouts.load(Relaxed) == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        let mut taken = Vec::new();
        let _ = slow.read_to_end(&mut taken).await;
        assert!(taken.len() < PAGE_LEN, "{} bytes came", taken.len());
        drop(stop);
        serving.await.unwrap();
        assert_eq!(stats.connections.load(Relaxed), 0);
    }

    const PAGE_LEN: usize = 64 << 20;
}
