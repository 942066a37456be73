//! An exchange to test with. It publishes a file or a simulated market as MoldUDP64 on one or two multicast groups,
//! loses, swaps and doubles packets as it is told, and serves what receivers need to recover: re-requests by UDP, the
//! messages by SoupBinTCP, and snapshots by GLIMPSE. `fanblade replay` is its command.

mod error;
mod faults;
mod limits;
mod line;
mod pace;
mod publisher;
mod report;
mod requests;
mod servers;
mod settings;
mod soup;
mod source;
mod state;
mod store;
mod target;
mod tell;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use fanblade_feed::Session;

pub use error::{ExchangeError, TargetError};
pub use faults::Percent;
pub use pace::Rate;
pub use publisher::Orders;
pub use report::Report;
pub use settings::{Login, Origin, Settings};
pub use target::Target;
pub use tell::Tell;

use line::Line;
use publisher::{Plan, Publisher};
use servers::Servers;
use source::Source;
use store::Store;

/// An exchange that is ready to publish: its lines are open and its servers listen.
#[derive(Debug)]
pub struct Exchange {
    plan: Plan,
    source: Source,
    lines: Vec<Line>,
    servers: Servers,
    store: Arc<Store>,
    orders: Arc<Orders>,
    ready: String,
    tell: Tell,
}

impl Exchange {
    /// Opens everything. Call it within a runtime.
    ///
    /// # Errors
    /// What prevents it, in words for whoever asked for it.
    pub async fn open(settings: &Settings, tell: Tell) -> Result<Exchange, ExchangeError> {
        let (source, store, session) = settings.source(tell)?;
        let store = Arc::new(store);
        let lines = settings.lines(tell)?;
        let servers = Servers::bind(settings, session, &store).await?;
        let b = settings.to_b.as_ref().map_or(String::new(), |target| format!(" b={target}"));
        let ready = format!("session={} a={}{b}{}", in_words(session), settings.to, servers.in_words()?);
        let orders = Arc::new(Orders::default());
        Ok(Exchange { plan: settings.plan(session), source, lines, servers, store, orders, ready, tell })
    }

    /// Says what is ready: `session=… a=… b=… requests=…`
    #[must_use]
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// How to begin and to end it.
    #[must_use]
    pub fn orders(&self) -> Arc<Orders> {
        Arc::clone(&self.orders)
    }

    /// Publishes, on a thread of its own, until that is done or the orders say to stop.
    ///
    /// # Errors
    /// The source cannot be read, or what was published cannot be kept.
    pub async fn run(self) -> Result<Report, ExchangeError> {
        let Exchange { plan, source, lines, servers, store, orders, ready: _, tell } = self;
        let started = Instant::now();
        let publisher = Publisher { plan, source, lines, store: Arc::clone(&store), orders: Arc::clone(&orders) };
        let (published, served) = servers.serve_until(until_published(publisher), &store, &orders, tell).await;
        let lines = published?;
        let mut counters = lines.iter().map(Line::counters);
        Ok(Report {
            session: in_words(plan.session),
            messages: store.next() - 1,
            seconds: started.elapsed().as_secs_f64(),
            line_a: counters.next().unwrap_or_default(),
            line_b: counters.next(),
            requests: served.requests,
            soup: served.soup,
            glimpse: served.glimpse,
        })
    }
}

impl Orders {
    /// Has it begin with the first message.
    pub fn begin(&self) {
        self.begin.store(true, Relaxed);
    }

    /// Has it end, wherever it is.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

async fn until_published(publisher: Publisher) -> Result<Vec<Line>, ExchangeError> {
    let (done, published) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("publisher".to_owned())
        .spawn(move || done.send(publisher.run()))
        .map_err(ExchangeError::Thread)?;
    published.await.map_err(|_| ExchangeError::Panicked)?
}

fn in_words(session: Session) -> String {
    String::from_utf8_lossy(&session).trim_end().to_owned()
}
