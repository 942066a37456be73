//! The engine's threads: each has its share of the clients, and they share nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use fanblade_wire::UnixNs;
use serde_json::Value;

use super::{Audience, Sockets};
use crate::engine::{Engine, Measured, Opened};
use crate::plan::Plan;
use crate::speech::Pong;
use crate::subscribers::Subscribers;
use crate::window::Window;

/// Kernel sockets, as an [`Engine`].
pub(crate) struct Threads {
    plan: Arc<Plan>,
    threads: Vec<Thread>,
    answers: Receiver<anyhow::Result<Answer>>,
    window_end_ns: u64,
}

struct Thread {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
enum Order {
    Open,
    FallIntoHabits,
    Measure(Window),
    Close,
}

enum Answer {
    Started,
    Opened(Opened),
    Measuring,
    Measured(Box<Subscribers>, Effort),
    Closed,
}

/// How busy a thread was while it measured.
#[derive(Clone, Copy, Default)]
struct Effort {
    busy: Duration,
    all: Duration,
    pass_max: Duration,
}

impl Threads {
    /// Starts the threads; returns once all of them are ready.
    pub(crate) fn start(plan: &Arc<Plan>) -> anyhow::Result<Threads> {
        let (answer, answers) = channel();
        let mut threads = Vec::new();
        let count = u32::from(plan.threads);
        for number in 0..count {
            let from = |number: u32| {
                let before = u64::from(plan.connections) * u64::from(number) / u64::from(count);
                // There are no more than that.
                u32::try_from(before).unwrap_or(plan.connections)
            };
            let clients = from(number)..from(number + 1);
            let (orders, inbox) = channel();
            let (plan, answer) = (Arc::clone(plan), answer.clone());
            let cpu = plan.cpus.get(number as usize % plan.cpus.len().max(1)).copied();
            let thread = std::thread::Builder::new().name(format!("swarm-{number}")).spawn(move || {
                let ended = run(&plan, clients, cpu, &inbox, |it| drop(answer.send(Ok(it))));
                if let Err(error) = ended {
                    // Fails if the engine is being dropped and nobody listens.
                    let _ = answer.send(Err(error));
                }
            })?;
            threads.push(Thread { orders: Some(orders), thread: Some(thread) });
        }
        let threads = Threads { plan: Arc::clone(plan), threads, answers, window_end_ns: 0 };
        threads.answers(plan.patience).context("starting")?;
        Ok(threads)
    }

    fn order(&self, order: Order) -> anyhow::Result<()> {
        for thread in &self.threads {
            let orders = thread.orders.as_ref().context("the thread was stopped")?;
            if orders.send(order).is_err() {
                // The thread has ended with an error, which is among the answers.
                break;
            }
        }
        Ok(())
    }

    /// Waits for one answer of each thread.
    fn answers(&self, patience: Duration) -> anyhow::Result<Vec<Answer>> {
        let end = Instant::now() + patience;
        let mut answers = Vec::new();
        while answers.len() < self.threads.len() {
            match self.answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(answer) => answers.push(answer?),
                Err(RecvTimeoutError::Timeout) => bail!("not done after {patience:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("a thread of the swarm has ended"),
            }
        }
        Ok(answers)
    }

    fn patience(&self) -> Duration {
        let rate = self.plan.connect_rate.unwrap_or(u32::MAX);
        self.plan.patience + Duration::from_secs_f64(f64::from(self.plan.connections) / f64::from(rate))
    }
}

impl Engine for Threads {
    fn open(&mut self) -> anyhow::Result<Opened> {
        self.order(Order::Open)?;
        let answers = self.answers(self.patience()).context("opening the connections")?;
        let mut all: Option<Opened> = None;
        for answer in answers {
            let Answer::Opened(opened) = answer else { bail!("another answer than expected") };
            match &mut all {
                None => all = Some(opened),
                Some(all) => all.merge(&opened),
            }
        }
        all.context("the swarm has no threads")
    }

    fn fall_into_habits(&mut self) -> anyhow::Result<()> {
        self.order(Order::FallIntoHabits)
    }

    fn begin(&mut self, window: Window) -> anyhow::Result<()> {
        self.order(Order::Measure(window))?;
        self.answers(self.plan.patience).context("beginning to measure")?;
        self.window_end_ns = window.to_ns;
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<Measured> {
        let rest = Duration::from_nanos(self.window_end_ns.saturating_sub(UnixNs::now().0));
        let answers = self.answers(rest + STRAGGLERS_MAX + STRAGGLERS_MAX).context("measuring")?;
        let mut effort = Effort::default();
        let mut busy_percent: f64 = 0.0;
        let mut parts = Vec::new();
        for answer in answers {
            let Answer::Measured(part, its) = answer else { bail!("another answer than expected") };
            parts.push(*part);
            effort.pass_max = effort.pass_max.max(its.pass_max);
            busy_percent = busy_percent.max(100.0 * its.busy.as_secs_f64() / its.all.as_secs_f64());
        }
        Ok(Measured {
            tally: Subscribers::finish(parts),
            busy_percent,
            pass_max: effort.pass_max,
            transport: Value::Null,
        })
    }

    fn close(&mut self) -> anyhow::Result<()> {
        self.order(Order::Close)?;
        self.answers(self.plan.patience).context("closing the connections").map(drop)
    }

    fn bytes_per_connection(&self) -> usize {
        Subscribers::bytes() + Sockets::bytes()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.orders = None;
        }
        for thread in &mut self.threads {
            if let Some(thread) = thread.thread.take() {
                // A thread that has panicked has said so.
                let _ = thread.join();
            }
        }
    }
}

fn run(
    plan: &Arc<Plan>,
    clients: Range<u32>,
    cpu: Option<usize>,
    inbox: &Receiver<Order>,
    answer: impl Fn(Answer),
) -> anyhow::Result<()> {
    if let Some(cpu) = cpu {
        fanblade_net::affinity::pin_thread(cpu).with_context(|| format!("cannot pin to CPU {cpu}"))?;
    }
    let mut sockets = Sockets::new(plan, clients.clone())?;
    let mut subscribers = Some(Subscribers::new(plan, clients.clone()));
    let mut task = Task::Read;
    answer(Answer::Started);
    loop {
        match inbox.try_recv() {
            Ok(order) => task = begin(order, &mut sockets, &mut subscribers, &clients, &answer)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        let turned = match &mut subscribers {
            Some(subscribers) => sockets.turn(subscribers)?,
            None => sockets.turn(&mut Deaf)?,
        };
        let (next, said) = go_on(task, turned, &mut sockets, &mut subscribers)?;
        task = next;
        if let Some(said) = said {
            answer(said);
        }
    }
}

/// What a thread does besides reading.
#[derive(Clone, Copy)]
enum Task {
    Read,
    Open { begun: Instant, upgraded: Option<Duration> },
    Measure { window: Window, effort: Effort, last: Instant, seen: u64, silent_since: Instant },
    Close,
}

fn begin(
    order: Order,
    sockets: &mut Sockets,
    subscribers: &mut Option<Subscribers>,
    clients: &Range<u32>,
    answer: &impl Fn(Answer),
) -> anyhow::Result<Task> {
    let now = Instant::now();
    Ok(match order {
        Order::Open => {
            if let Some(subscribers) = subscribers {
                subscribers.make_room(clients.len());
            }
            sockets.open();
            Task::Open { begun: now, upgraded: None }
        }
        Order::FallIntoHabits => {
            sockets.fall_into_habits();
            Task::Read
        }
        Order::Measure(window) => {
            let subscribers = subscribers.as_mut().ok_or_else(|| anyhow!("it has been measured already"))?;
            subscribers.begin(window);
            subscribers.begin_changes()?;
            answer(Answer::Measuring);
            Task::Measure { window, effort: Effort::default(), last: now, seen: 0, silent_since: now }
        }
        Order::Close => {
            if let Some(subscribers) = subscribers {
                clients.clone().for_each(|client| subscribers.closed(client));
            }
            sockets.close()?;
            Task::Close
        }
    })
}

/// Continues the task after a turn in which `turned` things happened.
fn go_on(
    task: Task,
    turned: usize,
    sockets: &mut Sockets,
    subscribers: &mut Option<Subscribers>,
) -> anyhow::Result<(Task, Option<Answer>)> {
    Ok(match task {
        Task::Open { begun, mut upgraded } => {
            if upgraded.is_none() && sockets.upgraded() as usize == sockets.len() {
                upgraded = Some(begun.elapsed());
            }
            let ready = subscribers.as_ref().map_or(0, Subscribers::ready) as usize;
            if let Some(trouble) = subscribers.as_ref().and_then(Subscribers::trouble) {
                bail!("only {ready} of {} clients were subscribed: {trouble}", sockets.len());
            }
            if ready < sockets.len() || !sockets.settle() {
                return Ok((Task::Open { begun, upgraded }, None));
            }
            let time = begun.elapsed();
            let handshakes = sockets.handshakes().clone();
            (Task::Read, Some(Answer::Opened(Opened { time, upgrade_time: upgraded.unwrap_or(time), handshakes })))
        }
        Task::Measure { window, mut effort, last, seen, silent_since } => {
            let now = Instant::now();
            let pass = now - last;
            effort.all += pass;
            effort.pass_max = effort.pass_max.max(pass);
            if turned > 0 {
                effort.busy += pass;
            }
            let messages = subscribers.as_ref().map_or(0, Subscribers::messages);
            let silent_since = if messages > seen { now } else { silent_since };
            let over = Duration::from_nanos(UnixNs::now().0.saturating_sub(window.to_ns));
            let is_over = now - silent_since > SILENCE && over > SILENCE || over > STRAGGLERS_MAX;
            if !is_over {
                return Ok((Task::Measure { window, effort, last: now, seen: messages, silent_since }, None));
            }
            let done = subscribers.take().map(|part| Answer::Measured(Box::new(part), effort));
            (Task::Read, done)
        }
        Task::Close if sockets.is_closed() => (Task::Read, Some(Answer::Closed)),
        Task::Close => (Task::Close, None),
        Task::Read => (Task::Read, None),
    })
}

/// An audience that ignores everything, after the counting.
struct Deaf;

impl Audience for Deaf {
    fn opened(&mut self, _: u32) -> anyhow::Result<()> {
        Ok(())
    }

    fn received(&mut self, _: u32, _: &[u8], _: u64, _: &mut Vec<Pong>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Our end stays open, so that its memory can be told from the server's.
    fn ended(&mut self, _: u32, _: i32) -> anyhow::Result<bool> {
        Ok(false)
    }
}

/// If no message of the window comes for this long after its end, there are none left.
const SILENCE: Duration = Duration::from_millis(700);
/// The longest wait, however long they trickle in.
const STRAGGLERS_MAX: Duration = Duration::from_secs(30);
