//! The subjects that were busy in the last second, from the ring.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Block;

use super::grid::{Column, Grid, column};
use super::style::{ALARM, reason};
use crate::commands::top::state::{Pane, State};
use crate::terminal::figures;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, state: &State) {
    let rates = match &state.subjects {
        None => return reason(frame, area, block, "counting"),
        Some(Err(why)) => return reason(frame, area, block, why),
        Some(Ok(rates)) => rates,
    };
    let busy = format!(" {} of {} busy ", rates.subjects_busy, rates.subjects);
    let mut block = block.title(Line::from(busy).right_aligned());
    if rates.overtaken > 0 {
        block = block.title_bottom(Line::styled(format!(" {} not counted ", rates.overtaken), ALARM));
    }
    let (sorted_by, scroll) = (state.sorted_by(Pane::Subjects), state.scroll(Pane::Subjects));
    Grid { columns: &COLUMNS, sorted_by, rows: rates.busiest.len(), scroll }.draw(frame, area, block, |at| {
        let Some(row) = rates.busiest.get(at) else { return (Vec::new(), Style::new()) };
        let cells = vec![
            row.subject.clone(),
            figures::count(row.frames_per_s),
            figures::bytes(row.bytes_per_s),
            figures::nanoseconds(row.age_ns),
            row.seq.to_string(),
        ];
        (cells, Style::new())
    });
}

const COLUMNS: [Column; 5] = [
    column("subject", 0, 0),
    column("frames/s", 9, 0),
    column("JSON/s", 10, 44),
    column("age", 8, 54),
    column("newest seq", 12, 68),
];
