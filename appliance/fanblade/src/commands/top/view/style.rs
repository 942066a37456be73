//! Styles that several panes share.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::widgets::{Block, Paragraph};

use crate::terminal::figures;

/// A rate that may not be known yet.
pub(super) fn per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), figures::count)
}

/// The text in place of a table that cannot be shown.
pub(super) fn reason(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, text: &str) {
    let paragraph = Paragraph::new(text.to_owned()).wrap(ratatui::widgets::Wrap { trim: true }).style(QUIET);
    frame.render_widget(paragraph.block(block), area);
}

pub(super) const FOCUS: Style = Style::new().fg(Color::Yellow);
pub(super) const QUIET: Style = Style::new().fg(Color::DarkGray);
pub(super) const WELL: Style = Style::new().fg(Color::Green);
pub(super) const ALARM: Style = Style::new().fg(Color::Red);
