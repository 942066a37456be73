//! How long the stages take: from the feed to the ring, from the ring to the sockets.

use std::time::Duration;

use fanblade_admin::status::Quantiles;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Paragraph, RenderDirection, Sparkline};

use super::style::{QUIET, reason};
use crate::commands::top::rates::quantiles;
use crate::commands::top::state::{Moment, State};
use crate::commands::top::target::INTERVAL;
use crate::terminal::figures;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, state: &State) {
    let Some(status) = &state.status else { return reason(frame, area, block, "") };
    let inner = block.inner(area);
    let [curves, _] = columns(inner);
    let shown = state.history.len().min(curves.width.into());
    let span = INTERVAL * u32::try_from(shown).unwrap_or(u32::MAX);
    frame.render_widget(block.title(Line::from(title(span)).right_aligned()), area);
    let halves: [Rect; 2] = Layout::vertical([Constraint::Fill(1); 2]).areas(inner);
    let latency = &status.latency_ns;
    let stages: [Stage<'_>; 2] = [
        ("feed → ring", &latency.feed_to_publish, |moment| moment.feed_to_publish),
        ("ring → sent", &latency.publish_to_send, |moment| moment.publish_to_send),
    ];
    for (area, (name, now, then)) in halves.into_iter().zip(stages) {
        let [above, below] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let text = match quantiles(now) {
            None => format!("{name}  nothing in the last ten seconds"),
            Some((p50, p99)) => {
                format!("{name}  p50 {}  p99 {}", figures::nanoseconds(p50), figures::nanoseconds(p99))
            }
        };
        frame.render_widget(Paragraph::new(text), above);
        let [curve, scale] = columns(below);
        let history: Vec<u64> = state.history.iter().rev().take(shown).map(then).collect();
        let highest = history.iter().copied().max().unwrap_or(0);
        let sparkline = Sparkline::default().data(&history).direction(RenderDirection::RightToLeft);
        frame.render_widget(sparkline.style(CURVE), curve);
        if highest > 0 {
            let label = Text::from(figures::nanoseconds(highest)).right_aligned().style(QUIET);
            frame.render_widget(label, scale);
        }
    }
}

/// A stage's name, its current value, and its place in the history.
type Stage<'a> = (&'a str, &'a Quantiles, fn(&Moment) -> u64);

/// The curve, and the value of its highest point.
fn columns(area: Rect) -> [Rect; 2] {
    Layout::horizontal([Constraint::Fill(1), Constraint::Length(SCALE_WIDTH)]).areas(area)
}

fn title(span: Duration) -> String {
    format!(" p99 over {} ", figures::span(span))
}

const SCALE_WIDTH: u16 = 9;
const CURVE: Style = Style::new().fg(Color::Cyan);
