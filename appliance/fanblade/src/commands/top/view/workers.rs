//! The workers: their sessions, how much they send, and their latencies.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Block;

use super::grid::{Column, Grid, column};
use super::style::{ALARM, per_second};
use crate::commands::top::state::{Pane, State};
use crate::terminal::figures;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, state: &State) {
    let workers = &state.rates.workers;
    let (sorted_by, scroll) = (state.sorted_by(Pane::Workers), state.scroll(Pane::Workers));
    Grid { columns: &COLUMNS, sorted_by, rows: workers.len(), scroll }.draw(frame, area, block, |at| {
        let Some(worker) = workers.get(at) else { return (Vec::new(), Style::new()) };
        let latency = |pick: fn((u64, u64)) -> u64| {
            worker.latency_ns.map(pick).map_or_else(|| "-".to_owned(), figures::nanoseconds)
        };
        let cells = vec![
            worker.index.to_string(),
            worker.cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string()),
            worker.sessions.to_string(),
            worker.behind.to_string(),
            per_second(worker.frames),
            per_second(worker.bits),
            per_second(worker.sends),
            latency(|(p50, _)| p50),
            latency(|(_, p99)| p99),
        ];
        (cells, if worker.behind > 0 { ALARM } else { Style::new() })
    });
}

const COLUMNS: [Column; 9] = [
    column("worker", 0, 0),
    column("cpu", 4, 70),
    column("sessions", 9, 0),
    column("behind", 7, 0),
    column("frames/s", 9, 0),
    column("bit/s", 7, 48),
    column("sends/s", 8, 64),
    column("p50", 8, 76),
    column("p99", 8, 56),
];
