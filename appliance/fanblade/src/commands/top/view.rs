//! Draws the state as widgets. Nothing here changes anything.

mod feed;
mod flows;
mod grid;
mod latency;
mod style;
mod subjects;
mod workers;

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Tabs};

use super::state::{Pane, State};
use crate::terminal::figures;
use style::{ALARM, FOCUS, QUIET, WELL, per_second};

/// Draws everything that fits: all panes where there is room, else the selected one.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: Instant) {
    let area = frame.area();
    if area.width < MINIMUM.0 || area.height < MINIMUM.1 {
        let text = format!("a terminal of {} by {} or more is needed", MINIMUM.0, MINIMUM.1);
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let [header, body, footer] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(vec![title(state), summary(state, now)]), header);
    if area.width >= DASHBOARD.0 && area.height >= DASHBOARD.1 {
        dashboard(frame, body, state);
    } else {
        let [tabs, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(body);
        let titles = Pane::ALL.map(Pane::title);
        frame.render_widget(Tabs::new(titles).select(state.focus as usize).highlight_style(FOCUS), tabs);
        pane(frame, body, state, state.focus);
    }
    let keys = "q quit  ←→ pane  ↑↓ scroll  s sort  p pause  ? help";
    frame.render_widget(Paragraph::new(keys).style(QUIET), footer);
    if state.is_helping {
        help(frame, area);
    }
}

/// A picture as lines of text.
pub(super) fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(buffer.area.width).max(1)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn dashboard(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let feed = feed::height(state).clamp(8, area.height / 3);
    let workers = rows(state.rates.workers.len()).saturating_add(GRID_AROUND).clamp(GRID_AROUND + 1, area.height / 3);
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(feed), Constraint::Length(workers), Constraint::Fill(1)]).areas(area);
    let halves = |area, left, right| Layout::horizontal([Constraint::Fill(left), Constraint::Fill(right)]).areas(area);
    let [left, right] = halves(top, 3, 2);
    pane(frame, left, state, Pane::Feed);
    pane(frame, right, state, Pane::Latency);
    pane(frame, middle, state, Pane::Workers);
    let [left, right] = halves(bottom, 1, 1);
    pane(frame, left, state, Pane::Subjects);
    pane(frame, right, state, Pane::Flows);
}

fn pane(frame: &mut Frame<'_>, area: Rect, state: &State, pane: Pane) {
    let style = if pane == state.focus { FOCUS } else { QUIET };
    let block = Block::bordered().border_style(style).title(format!(" {} ", pane.title()));
    match pane {
        Pane::Feed => feed::draw(frame, area, block, state),
        Pane::Latency => latency::draw(frame, area, block, state),
        Pane::Workers => workers::draw(frame, area, block, state),
        Pane::Subjects => subjects::draw(frame, area, block, state),
        Pane::Flows => flows::draw(frame, area, block, state),
    }
}

/// The heading: which blade, for how long it has run, and its condition.
fn title(state: &State) -> Line<'static> {
    let mut line = Line::from("fanblade ".bold());
    if let Some(status) = &state.status {
        let (condition, style) = match status {
            _ if state.lost.is_some() => (" no answer ", ALARM),
            status if status.stopping => (" stopping ", ALARM),
            status if status.ready => (" ready ", WELL),
            _ => (" not ready ", ALARM),
        };
        line.push_span(Span::from(status.version.to_string()).bold());
        line.push_span("  ");
        line.push_span(Span::styled(condition, style.add_modifier(Modifier::REVERSED)));
        line.push_span(format!("  up {}", figures::span(Duration::from_millis(status.uptime_ms))));
        line.push_span(format!("  epoch {}", status.epoch));
    }
    line.push_span(Span::styled(format!("  {}", state.address), QUIET));
    if state.is_paused {
        line.push_span(Span::styled("  paused", ALARM));
    }
    line
}

/// The blade's condition, or why it is not known.
fn summary(state: &State, now: Instant) -> Line<'static> {
    if let Some(lost) = &state.lost {
        let since = figures::span(now.saturating_duration_since(lost.since));
        return Line::styled(format!("{}; trying again, for {since}", lost.error), ALARM);
    }
    let Some(status) = &state.status else { return Line::styled("waiting for the first answer", QUIET) };
    if !status.ailment.is_empty() {
        return Line::styled(status.ailment.clone(), ALARM);
    }
    let (frames, bits) = (per_second(state.rates.frames), per_second(state.rates.bits));
    let behind = match status.totals.sessions_behind {
        0 => String::new(),
        behind => format!(", {behind} behind"),
    };
    Line::from(format!(
        "{} sessions{behind}, {frames} frames/s and {bits}bit/s to them over {}; {} workers at {}",
        status.totals.sessions,
        status.data.engine,
        status.workers.len(),
        status.data.address,
    ))
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines = HELP.lines().map(Line::from).collect::<Vec<_>>();
    let (width, height) =
        (HELP_WIDTH.min(area.width), u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    let block = Block::bordered().border_style(FOCUS).title(" Help: any key closes it ");
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

const HELP: &str = "\
q, Ctrl-C            quit
Tab, ← →             the next or previous pane
↑ ↓ PgUp PgDn Home   scroll the pane
s                    sort the pane by another column (▼)
p, space             pause the display, go on
?                    this help

Rates are over the last second, latencies over the
last ten. \"behind\": sessions that are owed frames.
Subjects come from the ring and flows from the
kernel, both only on the blade's own machine.";
const HELP_WIDTH: u16 = 54;

/// Columns and rows below which nothing can be read.
const MINIMUM: (u16, u16) = (40, 8);
/// From this size on all panes are shown at once.
const DASHBOARD: (u16, u16) = (110, 30);
/// Borders and heading of a table.
const GRID_AROUND: u16 = 3;

#[cfg(test)]
mod tests;
