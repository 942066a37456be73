//! A table that fits its place: the less important columns go first, rows are scrolled.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Row, Table};

/// A column; the first one holds text and takes the room that the others leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: u16,
    /// Shown if the table is at least this wide.
    pub(super) from_width: u16,
}

pub(super) const fn column(title: &'static str, width: u16, from_width: u16) -> Column {
    Column { title, width, from_width }
}

/// What a table shows.
pub(super) struct Grid<'a> {
    pub(super) columns: &'a [Column],
    pub(super) sorted_by: Option<&'static str>,
    pub(super) rows: usize,
    pub(super) scroll: usize,
}

impl Grid<'_> {
    /// `row` makes the cells of a row, for all columns; it is called only for visible rows.
    pub(super) fn draw(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        block: Block<'_>,
        row: impl Fn(usize) -> (Vec<String>, Style),
    ) {
        let inner = block.inner(area);
        let sight = usize::from(inner.height.saturating_sub(1));
        let from = self.scroll.min(self.rows.saturating_sub(sight));
        let to = self.rows.min(from + sight);
        let block = if self.rows > sight && sight > 0 {
            block.title_bottom(Line::from(format!(" {} to {to} of {} ", from + 1, self.rows)).right_aligned())
        } else {
            block
        };
        let is_shown = |column: &Column| column.from_width <= inner.width;
        let cells = |texts: Vec<String>| {
            let shown = texts.into_iter().zip(self.columns).enumerate().filter(|(_, (_, column))| is_shown(column));
            Row::new(shown.map(|(at, (text, _))| {
                let text = Text::from(text);
                Cell::from(if at == 0 { text } else { text.right_aligned() })
            }))
        };
        let titles = self.columns.iter().map(|column| match self.sorted_by == Some(column.title) {
            true => format!("{}▼", column.title),
            false => column.title.to_owned(),
        });
        let widths =
            self.columns.iter().enumerate().filter(|(_, column)| is_shown(column)).map(|(at, column)| match at {
                0 => Constraint::Fill(1),
                _ => Constraint::Length(column.width),
            });
        let rows = (from..to).map(|at| {
            let (texts, style) = row(at);
            cells(texts).style(style)
        });
        let table = Table::new(rows, widths).header(cells(titles.collect()).bold()).block(block);
        frame.render_widget(table, area);
    }
}
