//! The threads that collect: from the admin port, the ring, and the kernel's flow table.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use fanblade_admin::status::Status;
use parking_lot::Mutex;

use super::flows::{self, Flows};
use super::http;
use super::target::{INTERVAL, Target};
use crate::commands::tap::find::{self, Choice, Tapped};
use crate::commands::tap::meter::{Meter, Rates};

/// What to collect from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) address: String,
    pub(super) pin_dir: PathBuf,
}

/// What one of the threads has found out, or why it could not.
#[derive(Debug)]
pub(super) enum News {
    Status(Result<Box<Status>, String>),
    Subjects(Result<Rates, String>),
    Flows(Result<Flows, String>),
}

type Shared = Arc<Mutex<Option<Target>>>;

/// The threads end with the receiver.
pub(super) fn start(plan: Plan) -> io::Result<Receiver<News>> {
    let (sender, receiver) = sync_channel(NEWS_MAX);
    let target = Shared::default();
    let Plan { address, pin_dir } = plan;
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.to_owned()).spawn(body);
    let (news, shared) = (sender.clone(), Arc::clone(&target));
    spawn("status", Box::new(move || statuses(&address, &shared, &news)))?;
    let (news, shared) = (sender.clone(), Arc::clone(&target));
    spawn("ring", Box::new(move || subjects(&shared, &news)))?;
    spawn(
        "flows",
        Box::new(move || {
            flows::collect(&pin_dir, || target.lock().clone(), |flows| sender.send(News::Flows(flows)).is_ok());
        }),
    )?;
    Ok(receiver)
}

fn statuses(address: &str, target: &Shared, news: &SyncSender<News>) {
    loop {
        let begun = Instant::now();
        let asked = status(address);
        *target.lock() = asked.as_ref().ok().map(|(_, target)| target.clone());
        if news.send(News::Status(asked.map(|(status, _)| status))).is_err() {
            return;
        }
        thread::sleep(INTERVAL.saturating_sub(begun.elapsed()));
    }
}

fn status(address: &str) -> Result<(Box<Status>, Target), String> {
    let answer = http::get(address, "/v1/status", ANSWER_MAX).map_err(|error| error.to_string())?;
    let status: Box<Status> = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("{address} answered something that is not a blade's status: {error}"))?;
    let target = Target {
        pid: status.pid,
        epoch: status.epoch.clone(),
        port: status.data.port,
        is_local: answer.is_local,
        ebpf_lacks: (!status.ebpf.active).then(|| status.ebpf.reason.clone()),
    };
    Ok((status, target))
}

fn subjects(target: &Shared, news: &SyncSender<News>) {
    let mut open: Option<(Tapped, Meter)> = None;
    let mut strange = 0;
    loop {
        let due = Instant::now() + INTERVAL;
        while Instant::now() < due {
            thread::sleep(RING_STEP);
            if let Some((tapped, meter)) = &mut open {
                meter.pass(&tapped.reader);
            }
        }
        let Some(target) = target.lock().clone() else {
            open = None;
            continue;
        };
        // Another blade, or none, answers at this address now, so the open ring is out of date.
        if open.as_ref().is_some_and(|(tapped, _)| tapped.pid != target.pid) {
            open = None;
        }
        let found = match &mut open {
            Some((tapped, meter)) => Ok(meter.take(&tapped.reader, SUBJECTS_MAX)),
            None => match ring(&target) {
                Ok(tapped) if tapped.reader.epoch().1 == target.epoch => {
                    let meter = Meter::new(&tapped.reader);
                    (open, strange) = (Some((tapped, meter)), 0);
                    continue;
                }
                // The blade may just have begun an epoch; its next answer will tell.
                Ok(_) if strange < STRANGE_MAX => {
                    strange += 1;
                    continue;
                }
                Ok(_) => {
                    Err(format!("process {} here is another blade: the one that answers runs elsewhere", target.pid))
                }
                Err(reason) => Err(reason),
            },
        };
        if news.send(News::Subjects(found)).is_err() {
            return;
        }
    }
}

/// The ring of the blade's process, if it can be read from here. If the blade runs in a container, its process number
/// may mean another process here.
fn ring(target: &Target) -> Result<Tapped, String> {
    if !target.is_local {
        return Err("the blade runs on another machine: only there its ring can be read".to_owned());
    }
    if target.pid == 0 {
        return Err("this blade does not tell which process it is: its version is older".to_owned());
    }
    find::open(&Choice { pid: Some(target.pid), fd: None }).map_err(|error| format!("{error:#}"))
}

/// How long an answer may take. The screen goes on meanwhile, and says that it waits.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Interval between two passes over the ring's index: see `fanblade tap`.
const RING_STEP: Duration = Duration::from_millis(5);
/// How often a ring's epoch may differ from the answer's before the ring counts as another blade's: an answer may be
/// late by as much.
const STRANGE_MAX: u32 = 4;
/// Limit of the subjects that were busy in the last second. The busiest are kept; nobody could scroll through more.
const SUBJECTS_MAX: usize = 10_000;
/// News that wait for the screen. A thread that finds the queue full waits, and its counts go on.
const NEWS_MAX: usize = 16;
