//! The feed: its condition, what came by its lines, what went wrong.

use fanblade_admin::status::Feed;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use super::grid::{Column, Grid, column};
use super::style::{ALARM, QUIET, WELL, per_second, reason};
use crate::commands::top::state::{Pane, State};
use crate::terminal::figures;

/// Rows that the pane could use.
pub(super) fn height(state: &State) -> u16 {
    let lines = state.rates.lines.len();
    let table = if lines > 0 { lines + 1 } else { 0 };
    u16::try_from(TEXT_ROWS + table + BORDER_ROWS).unwrap_or(u16::MAX)
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, state: &State) {
    let Some(status) = &state.status else { return reason(frame, area, block, "") };
    let (feed, rates) = (&status.feed, &state.rates);
    let style = match feed.state.as_ref() {
        "live" => WELL,
        "waiting" | "finished" => Style::new(),
        _ => ALARM,
    };
    // Above: the state, rates, totals and troubles as text.
    let text = vec![
        Line::from(vec![Span::styled(feed.state.to_string(), style), format!("  {}", feed.source).into()]),
        Line::from(format!(
            "{} messages/s, {} packets/s; {} frames/s into the ring",
            per_second(rates.messages),
            per_second(rates.packets),
            per_second(rates.published)
        )),
        Line::from(format!(
            "{} messages; {} orders, {} instruments, {} subjects",
            figures::count(feed.messages as f64),
            feed.orders,
            feed.instruments,
            status.ring.subjects
        )),
        Line::from(vec![
            counted(feed.gaps, "gaps"),
            format!(" ({} messages), ", feed.gap_messages).into(),
            counted(feed.subject_gaps, "subject gaps"),
            ", ".into(),
            counted(feed.malformed, "malformed"),
        ]),
        Line::from(format!(
            "{} recovered by {} requests, {} duplicates, {} suspected",
            feed.recovered, feed.requests, feed.duplicates, feed.suspected
        )),
        troubles(feed),
    ];
    let inner = block.inner(area);
    let rows = u16::try_from(TEXT_ROWS).unwrap_or(u16::MAX);
    let [above, below] = Layout::vertical([Constraint::Length(rows), Constraint::Fill(1)]).areas(inner);
    frame.render_widget(block, area);
    frame.render_widget(Paragraph::new(text), above);
    // Below: a table of the lines, where the feed has any.
    if rates.lines.is_empty() {
        return;
    }
    let grid = Grid { columns: &COLUMNS, sorted_by: None, rows: rates.lines.len(), scroll: state.scroll(Pane::Feed) };
    grid.draw(frame, below, Block::new(), |at| {
        let Some(line) = rates.lines.get(at) else { return (Vec::new(), Style::new()) };
        let cells = vec![
            line.name.clone(),
            per_second(line.packets),
            line.wins_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%")),
            line.gaps.to_string(),
            line.kernel_drops.to_string(),
            line.silent_ns.map_or_else(|| "never".to_owned(), figures::nanoseconds),
            figures::nanoseconds(line.lead_ns_mean),
        ];
        let is_silent = line.silent_ns.is_none_or(|silent_ns| silent_ns > SILENT_NS_USUAL_MAX);
        (cells, if line.kernel_drops > 0 || is_silent { ALARM } else { Style::new() })
    });
}

fn troubles(feed: &Feed) -> Line<'static> {
    if feed.troubles.is_empty() {
        return Line::styled("no troubles", QUIET);
    }
    let kinds: Vec<String> = feed.troubles.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    Line::styled(format!("troubles: {}", kinds.join(", ")), ALARM)
}

/// Red if there are any.
fn counted(count: u64, what: &str) -> Span<'static> {
    Span::styled(format!("{count} {what}"), if count > 0 { ALARM } else { Style::new() })
}

/// Lines that carry nothing else send a heartbeat every second.
const SILENT_NS_USUAL_MAX: u64 = 3_000_000_000;
const TEXT_ROWS: usize = 6;
const BORDER_ROWS: usize = 2;
const COLUMNS: [Column; 7] = [
    column("line", 0, 0),
    column("packets/s", 9, 0),
    column("wins", 6, 0),
    column("gaps", 8, 0),
    column("drops", 8, 50),
    column("silent", 9, 56),
    column("lead", 9, 64),
];
