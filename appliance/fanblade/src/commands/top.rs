//! `fanblade top`: a running blade at a glance, in a terminal.
//!
//! `collect` asks the admin port, the ring and the pinned maps; `state` keeps the answers and the key presses; `view`
//! draws the state. Only `screen` knows a real terminal.

mod collect;
mod flows;
mod http;
mod rates;
mod screen;
mod state;
mod target;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event};

use crate::terminal::interrupt::Interrupt;
use crate::terminal::out;
use collect::{News, Plan};
use screen::Screen;
use state::{Reaction, State};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The blade's admin port
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:7401", value_parser = http::address)]
    address: String,
    /// Print one picture as text, with the rates of one second, and exit
    #[arg(long)]
    once: bool,
    /// Where the maps are pinned
    #[arg(long, value_name = "DIR", default_value = fanblade_steer::DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
    /// Shown in the heading in place of the admin port, such as the machine's addresses
    #[arg(long, value_name = "TEXT", conflicts_with = "once")]
    heading: Option<String>,
    /// End once the blade has not answered for so many seconds: for a console that then shows why
    #[arg(long, value_name = "SECONDS", conflicts_with = "once", value_parser = clap::value_parser!(u64).range(1..))]
    end_when_lost: Option<u64>,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let state = State::new(args.heading.as_deref().unwrap_or(&args.address));
    let lost_max = args.end_when_lost.map(Duration::from_secs);
    let is_once = args.once;
    if !is_once && !io::stdout().is_terminal() {
        bail!("standard output is not a terminal; `fanblade top --once` prints one picture as text");
    }
    let news =
        collect::start(Plan { address: args.address, pin_dir: args.pin_dir }).context("cannot start a thread")?;
    if is_once { once(state, &news) } else { watch(state, &news, lost_max) }
}

/// Draws until a key, a signal, or `lost_max` without an answer ends it.
fn watch(mut state: State, news: &Receiver<News>, lost_max: Option<Duration>) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::watch().context("cannot watch signals")?;
    screen::end_with_terminal().context("cannot start a thread")?;
    let mut screen = Screen::open().context("cannot open the terminal")?;
    loop {
        news.try_iter().for_each(|news| state.take(news));
        screen.draw(|frame| view::draw(frame, &state, Instant::now())).context("cannot draw on the terminal")?;
        if interrupt.has_come() {
            return Ok(ExitCode::SUCCESS);
        }
        if let (Some(lost), Some(lost_max)) = (&state.lost, lost_max)
            && lost.since.elapsed() >= lost_max
        {
            bail!("no answer for {} s: {}", lost_max.as_secs(), lost.error);
        }
        let mut wait = REDRAW_INTERVAL;
        // Handle all keys pressed meanwhile, then draw one picture.
        while event::poll(wait).context("cannot read the terminal")? {
            wait = Duration::ZERO;
            if let Event::Key(key) = event::read().context("cannot read the terminal")?
                && state.press(key) == Reaction::Quit
            {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn once(mut state: State, news: &Receiver<News>) -> anyhow::Result<ExitCode> {
    let deadline = Instant::now() + ONCE_MAX;
    while !state.is_complete() {
        match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Status(Err(error))) => bail!("{error}"),
            Ok(news) => state.take(news),
            // Show what has come by then; panes without data say that they wait.
            Err(RecvTimeoutError::Timeout) if state.status.is_some() => break,
            Err(_) => bail!("no answer from {} within {} s", state.address, ONCE_MAX.as_secs()),
        }
    }
    let (width, height) = ONCE_SIZE;
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| view::draw(frame, &state, Instant::now()))?;
    let text = view::text(terminal.backend().buffer());
    out::print(text)?;
    Ok(ExitCode::SUCCESS)
}

/// Interval between redraws, since the times on the screen advance.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Time for two answers a second apart, and some to spare.
const ONCE_MAX: Duration = Duration::from_secs(6);
const ONCE_SIZE: (u16, u16) = (120, 40);
