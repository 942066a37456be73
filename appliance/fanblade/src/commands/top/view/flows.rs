//! The connections that receive most, by the kernel's counts.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Block;

use super::grid::{Column, Grid, column};
use super::style::{ALARM, per_second, reason};
use crate::commands::top::state::{Pane, State};
use crate::terminal::figures;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, state: &State) {
    let flows = match &state.flows {
        None => return reason(frame, area, block, "counting"),
        Some(Err(why)) => return reason(frame, area, block, why),
        Some(Ok(flows)) => flows,
    };
    let mut block = block.title(Line::from(format!(" {} open ", flows.rows.len())).right_aligned());
    if flows.is_cut {
        block = block.title_bottom(Line::styled(" the table holds more than was read ", ALARM));
    }
    let (sorted_by, scroll) = (state.sorted_by(Pane::Flows), state.scroll(Pane::Flows));
    Grid { columns: &COLUMNS, sorted_by, rows: flows.rows.len(), scroll }.draw(frame, area, block, |at| {
        let Some(row) = flows.rows.get(at) else { return (Vec::new(), Style::new()) };
        let cells = vec![
            row.client.clone(),
            per_second(row.bits_out_per_s),
            figures::bytes(row.bytes_out as f64),
            per_second(row.packets_out_per_s),
            figures::span(row.lifetime),
        ];
        (cells, Style::new())
    });
}

const COLUMNS: [Column; 5] = [
    column("client", 0, 0),
    column("bit/s out", 10, 0),
    column("bytes out", 10, 44),
    column("packets/s", 9, 54),
    column("lifetime", 11, 68),
];
