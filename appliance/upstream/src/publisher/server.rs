//! The publishers' thread: accepts connections, and ends them all when the blade stops.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use fanblade_feed::injected;
use futures_util::future::OptionFuture;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use super::connection;
use super::limits::{FAREWELL_MS_MAX, GREETINGS_MAX, RESERVE_NUMBERS, STATE_WRITE_MS_MAX};
use super::listener::Accepting;
use super::numbering;
use super::shared::{Shared, until_stop};
use super::state::StateFile;

/// Runs until `stopped`, tells all publishers, and writes down where the numbering stopped.
pub(super) async fn serve(
    accepting: Vec<Accepting>,
    shared: Arc<Shared>,
    state: Arc<StateFile>,
    seq_end: u64,
    mut stopped: watch::Receiver<bool>,
) {
    let sender = shared.sender.clone();
    let ahead = numbering::keep_ahead(Arc::clone(&state), sender.clone(), seq_end, RESERVE_NUMBERS);
    let mut ahead = Some(tokio::spawn(ahead));
    let mut tasks = JoinSet::new();
    for accepting in accepting {
        tasks.spawn(accept(accepting, Arc::clone(&shared), stopped.clone()));
    }
    // If reserving or accepting ended, publishers would wait for ever: a panic of one of these tasks is passed on.
    loop {
        tokio::select! {
            () = until_stop(&mut stopped) => break,
            Some(ended) = OptionFuture::from(ahead.as_mut()), if ahead.is_some() => {
                ahead = None;
                pass_panic_on(ended);
            }
            Some(ended) = tasks.join_next() => pass_panic_on(ended),
            () = until_asked_to_panic() => {}
        }
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(FAREWELL_MS_MAX), all).await.is_err() {
        tracing::info!("some publishers have not read their last replies");
        tasks.shutdown().await;
    }
    // If the task is just writing the state, that write comes first.
    if let Some(ahead) = ahead {
        ahead.abort();
    }
    write_down(&state, sender.taken() + 1).await;
}

/// Writes down where the numbering stops, if the disk answers.
async fn write_down(state: &Arc<StateFile>, next_seq: u64) {
    let limit = Duration::from_millis(STATE_WRITE_MS_MAX);
    let written = tokio::task::spawn_blocking({
        let state = Arc::clone(state);
        move || state.write(next_seq)
    });
    let fault = match tokio::time::timeout(limit, written).await {
        Ok(Ok(Ok(()))) => return tracing::debug!("the numbering stops before {next_seq}"),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk has not answered within {STATE_WRITE_MS_MAX} ms"),
    };
    tracing::error!(
        "that the numbering stops before {next_seq} could not be written: {fault}. The next start leaves out up to \
         {RESERVE_NUMBERS} reserved numbers; subscribers see that as a gap, and none is used twice"
    );
}

fn pass_panic_on(ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        resume_unwind(panic);
    }
}

/// For tests only: release builds wait here for ever.
async fn until_asked_to_panic() {
    while cfg!(debug_assertions) {
        injected::panic_if_asked("publishers");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
    std::future::pending::<()>().await;
}

/// Accepts until `stopped`, then waits for its connections.
async fn accept(accepting: Accepting, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let mut ending = stopped.clone();
    let greetings = Arc::new(Semaphore::new(GREETINGS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = Arc::clone(&greetings).acquire_owned().await;
            (permit, accepting.accept().await)
        };
        tokio::select! {
            () = until_stop(&mut ending) => break,
            (permit, accepted) = next => match (permit, accepted) {
                (Ok(permit), Ok(accepted)) => {
                    connections.spawn(connection::serve(accepted, Arc::clone(&shared), permit, stopped.clone()));
                }
                (_, Err(error)) => {
                    shared.tell("accept", &format!("cannot accept a publisher: {error}")).await;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                // Nobody closes the semaphore.
                (Err(_), _) => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(accepting);
    while connections.join_next().await.is_some() {}
}

/// If descriptors have run out, an immediate retry would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
