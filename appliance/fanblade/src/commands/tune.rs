//! `fanblade tune`: which CPU does what on this machine, and cards, interrupts, governors and other programs set to
//! agree.
//!
//! Reading ([`machine`], [`card`]) and writing ([`apply`]) are apart from deciding ([`placement`], [`items`]), which
//! is pure. What is set lasts until the machine is started again; nothing is put back.

mod apply;
mod card;
mod cpus;
mod host;
mod items;
mod machine;
mod placement;
#[cfg(test)]
pub(crate) mod recorded;
mod refusals;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::{FeedSource, Files};
use crate::terminal::out;
use items::Wanted;

use apply::apply;
use items::items;
use machine::{Machine, Named};
use refusals::Refusals;

pub(crate) use apply::{State, look};
pub(crate) use host::Host;
pub(crate) use items::{Item, Stage};
pub(crate) use machine::{allowed, is_running};
pub(crate) use placement::Placement;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Print the plan and what would change; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the keys `workers` and `cpus` that agree with the plan; change nothing
    #[arg(long, conflicts_with = "dry_run")]
    toml: bool,
    /// The clients' interface; may be repeated [default: every network card]
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// The blade's configuration, which names the feed's interfaces and says whether the sequencer sleeps
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Wait until all cards are switched on, at most so long: most drivers have interrupts only then
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600))]
    wait: u64,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let host = Host::here();
    let (mut named, wanted) = of_config(args.config.as_deref());
    named.clients.clone_from(&args.interface);
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let mut machine = Machine::read(&host, &named);
    while machine.cards.iter().any(|card| !card.is_up) && Instant::now() < deadline {
        std::thread::sleep(POLL_INTERVAL);
        machine = Machine::read(&host, &named);
    }
    let placement = Placement::new(&machine);
    if args.toml {
        out::print(Toml(&placement))?;
        return Ok(ExitCode::SUCCESS);
    }
    out::print(Plan(&machine, &placement))?;
    let mut states: Vec<(Item, State)> = Vec::new();
    for is_card in [true, false] {
        let is_now = |item: &Item| (item.stage == Stage::Card) == is_card;
        for item in items(&machine, &placement, wanted).into_iter().filter(is_now) {
            let state = if args.dry_run { look(&host, &item) } else { apply(&host, &item) };
            out::print(Line(&item, &state))?;
            states.push((item, state));
        }
        // Queues and interrupts are new ones if their number has changed.
        machine = if args.dry_run { machine } else { Machine::read(&host, &named) };
    }
    out::say(Summary(&states))?;
    if !args.dry_run
        && let Err(error) = refusals::keep(&host, &states)
    {
        out::tell(format_args!("fanblade tune: what was refused is not kept for `fanblade doctor`: {error}"));
    }
    // In a sweep the kernel rightly refuses a part: files of interrupts that it binds itself may not even be opened.
    let may_not = |(item, state): &(Item, State)| {
        item.stage != Stage::Sweep && matches!(state, State::Refused { is_permission: true, .. })
    };
    Ok(if states.iter().any(may_not) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The feed's interfaces, and whether the sequencer never sleeps.
fn feed(file: &Path) -> Result<(Vec<String>, bool), String> {
    let files = Files { config: Some(file.to_owned()), sizing: None };
    let (config, _) = files.load().map_err(|error| error.to_string())?;
    let FeedSource::Moldudp64(short) = &config.feed.source else { return Ok((Vec::new(), false)) };
    let settings = &config.feed.moldudp64;
    let lines = short.as_ref().unwrap_or_else(|| settings.lines.get_ref());
    Ok((lines.iter().filter_map(|line| line.interface.clone()).collect(), settings.busy))
}

/// What the blade's configuration says about cards. A wrong one is `fanblade run`'s to refuse: the plan goes without
/// it.
fn of_config(config: Option<&Path>) -> (Named, Wanted) {
    match config.map(feed).transpose() {
        Ok(feed) => {
            let (feed, is_busy) = feed.unwrap_or_default();
            (Named { clients: Vec::new(), feed }, Wanted { is_busy })
        }
        Err(error) => {
            out::tell(format_args!("fanblade: the plan goes without the configuration: {error}"));
            (Named::default(), Wanted::default())
        }
    }
}

/// This machine's placement, for `fanblade size`.
pub(crate) fn placement_here(config: Option<&Path>) -> Placement {
    Placement::new(&Machine::read(&Host::here(), &of_config(config).0))
}

/// What [`main`] would set on a machine, and what was refused when it last did, for `fanblade doctor`.
pub(crate) fn items_on(host: &Host, config: Option<&Path>) -> (Vec<Item>, Refusals) {
    let (named, wanted) = of_config(config);
    let machine = Machine::read(host, &named);
    (items(&machine, &Placement::new(&machine), wanted), refusals::read(host))
}

/// `[data]` for a configuration.
struct Toml<'a>(&'a Placement);

/// What was found and decided.
struct Plan<'a>(&'a Machine, &'a Placement);

/// One item, and how it stands.
struct Line<'a>(&'a Item, &'a State);

struct Summary<'a>(&'a [(Item, State)]);

impl fmt::Display for Toml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[data]\nworkers = {}", self.0.workers)?;
        match self.0.cpus().as_slice() {
            [] => Ok(()),
            cpus => writeln!(f, "cpus = {cpus:?}"),
        }
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan(machine, placement) = self;
        for card in &machine.cards {
            let node = card.node.map_or("does not say on which node".to_owned(), |node| format!("node {node}"));
            let queues =
                card.channels.as_ref().map_or(String::new(), |channels| format!(", up to {} queues", channels.max));
            let role = if card.is_feed { "the feed's" } else { "the clients'" };
            let up = if card.is_up { "" } else { ", down" };
            writeln!(f, "{:<10} {}: {role}, {}, {node}{queues}{up}", "card", card.name, card.driver)?;
        }
        for (name, why) in &machine.passed_over {
            writeln!(f, "{:<10} {name}: {why}", "left out")?;
        }
        for (what, result, why) in &placement.steps {
            writeln!(f, "{what:<10} {result}: {why}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(Item { name, goal, why, acts, .. }, state) = self;
        let word = match state {
            State::Left => "-",
            State::Unchanged => "unchanged",
            State::Differs(_) => "would set",
            State::Set => "set",
            State::Refused { .. } => "refused",
        };
        write!(f, "{word:<10} {name}: {goal} ({why})")?;
        match state {
            State::Differs(count) if acts.len() > 1 => write!(f, "; {count} of {} differ", acts.len())?,
            State::Refused { count, reason, .. } => write!(f, "; {count} of {}: {reason}", acts.len())?,
            _ => {}
        }
        writeln!(f)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: fn(&State) -> bool| self.0.iter().filter(|(_, state)| is(state)).count();
        let unchanged = count(|state| *state == State::Unchanged);
        let (differs, set) = (count(|state| matches!(state, State::Differs(_))), count(|state| *state == State::Set));
        match (differs, set, count(|state| matches!(state, State::Refused { .. }))) {
            (0, 0, 0) => write!(f, "\nunchanged"),
            (0, set, refused) => write!(f, "\n{set} set, {unchanged} unchanged, {refused} refused"),
            (differs, ..) => write!(f, "\n{differs} would be set, {unchanged} unchanged"),
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(200);
const AFTER_HELP: &str = "What is set lasts until the machine is started again. What a machine or a driver does not offer is a line of \
the output, and no failure; the exit code is 1 where this user may not set something.";
