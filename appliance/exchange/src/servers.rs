//! What an exchange serves beside its lines, together.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fanblade_feed::Session;
use parking_lot::Mutex;

use super::error::ExchangeError;
use super::limits::STATE_FOLLOW_INTERVAL;
use super::publisher::Orders;
use super::requests::{RequestCounters, RequestServer};
use super::settings::Settings;
use super::soup::{Counters, Gate, Service, SoupCounts, SoupServer};
use super::state::State;
use super::store::Store;
use super::tell::Tell;

/// The servers that were asked for.
#[derive(Debug)]
pub(super) struct Servers {
    requests: Option<RequestServer>,
    soup: Option<SoupServer>,
    glimpse: Option<(SoupServer, Arc<Mutex<State>>)>,
}

/// What the servers did.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) requests: Option<RequestCounters>,
    pub(super) soup: Option<SoupCounts>,
    pub(super) glimpse: Option<SoupCounts>,
}

impl Servers {
    pub(super) async fn bind(settings: &Settings, session: Session, store: &Arc<Store>) -> Result<Self, ExchangeError> {
        let gate = |service| Gate {
            session,
            credentials: settings.login,
            service,
            store: Arc::clone(store),
            counters: Counters::default(),
        };
        let mut servers = Self { requests: None, soup: None, glimpse: None };
        if let Some(address) = settings.requests {
            let (packet_len, drop) = (settings.packet_len_max.into(), settings.drop_requests);
            servers.requests =
                Some(RequestServer::bind(address, session, packet_len, drop, settings.seed, Arc::clone(store))?);
        }
        if let Some(address) = settings.soup {
            servers.soup = Some(SoupServer::bind(address, gate(Service::Messages)).await?);
        }
        if let Some(address) = settings.glimpse {
            let state = Arc::new(Mutex::new(State::new()));
            let server = SoupServer::bind(address, gate(Service::Snapshot(Arc::clone(&state)))).await?;
            servers.glimpse = Some((server, state));
        }
        Ok(servers)
    }

    /// Where they are: ` requests=… soup=… glimpse=…`
    pub(super) fn in_words(&self) -> Result<String, ExchangeError> {
        let addresses = [
            ("requests", self.requests.as_ref().map(RequestServer::local_addr)),
            ("soup", self.soup.as_ref().map(SoupServer::local_addr)),
            ("glimpse", self.glimpse.as_ref().map(|(server, _)| server.local_addr())),
        ];
        let mut words = String::new();
        for (server, address) in addresses {
            if let Some(address) = address {
                let address = address.map_err(|error| ExchangeError::Address { server, error })?;
                let _ = write!(words, " {server}={address}");
            }
        }
        Ok(words)
    }

    /// Serves until `published` ends, and returns its result.
    pub(super) async fn serve_until<T>(
        self,
        published: impl Future<Output = T>,
        store: &Arc<Store>,
        orders: &Arc<Orders>,
        tell: Tell,
    ) -> (T, Served) {
        let requests = self.requests.map(|server| {
            let orders = Arc::clone(orders);
            std::thread::spawn(move || server.run(&orders))
        });
        let follower = self.glimpse.as_ref().map(|(_, state)| {
            let (state, store, orders) = (Arc::clone(state), Arc::clone(store), Arc::clone(orders));
            std::thread::spawn(move || follow(&state, &store, &orders))
        });
        let serve = async |server: Option<&SoupServer>| -> T {
            if let Some(server) = server {
                server.run().await;
            }
            std::future::pending().await
        };
        let glimpse = self.glimpse.as_ref().map(|(server, _)| server);
        let result = tokio::select! {
            result = published => result,
            result = serve(self.soup.as_ref()) => result,
            result = serve(glimpse) => result,
        };
        orders.stop.store(true, Relaxed);
        let left_out = follower.and_then(|thread| thread.join().ok()).unwrap_or(0);
        if left_out > 0 {
            tell(format_args!("the snapshots lacked {left_out} orders: there was no room for more"));
        }
        let served = Served {
            requests: requests.and_then(|thread| thread.join().ok()),
            soup: self.soup.as_ref().map(SoupServer::counts),
            glimpse: glimpse.map(SoupServer::counts),
        };
        (result, served)
    }
}

/// Keeps the state near the publisher, so that a snapshot is made quickly. Returns how many orders it had no room for.
fn follow(state: &Mutex<State>, store: &Store, orders: &Orders) -> u64 {
    while !orders.stop.load(Relaxed) {
        // Where the store cannot be read, snapshots fail, and their clients see the connection end.
        let _ = state.lock().follow(store);
        std::thread::sleep(STATE_FOLLOW_INTERVAL);
    }
    state.lock().orders_left_out()
}
