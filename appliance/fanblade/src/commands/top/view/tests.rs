//! Pictures of known values. The tests check what a reader looks for, not where each character stands.

use fanblade_admin::status::{Line as FeedLine, Quantiles, Status, Worker};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::style::Color;

use super::*;
use crate::commands::tap::meter::{self, SubjectRate};
use crate::commands::top::collect::News;
use crate::commands::top::flows::{FlowRow, Flows};

fn status() -> Status {
    let mut status = Status { pid: 9, version: "1.2.3".into(), uptime_ms: 3_725_000, ready: true, ..Status::default() };
    status.epoch = "20191230-7".to_owned();
    status.data.engine = "uring".into();
    status.data.address = "10.0.0.1:7400".to_owned();
    status.totals.sessions = 1234;
    status.feed.state = "live".into();
    status.feed.source = "two lines of Nasdaq".to_owned();
    status.feed.lines = ["A", "B"].map(|name| FeedLine { name: name.to_owned(), ..FeedLine::default() }).to_vec();
    status.workers = [0, 1, 7].map(|index| Worker { index, ..Worker::default() }).to_vec();
    status
}

/// One second later.
fn later() -> Status {
    let mut status = status();
    status.uptime_ms += 1000;
    status.feed.messages = 81_500;
    status.feed.gaps = 2;
    status.feed.gap_messages = 17;
    (status.feed.recovered, status.feed.requests) = (300, 21);
    status.feed.troubles = [("login_refused".into(), 4)].into();
    status.totals.sessions_behind = 5;
    status.totals.frames_delivered = 250_000;
    status.totals.bytes_delivered = 1_000_000;
    for (line, (packets, wins)) in status.feed.lines.iter_mut().zip([(9000, 30), (8000, 10)]) {
        (line.packets, line.wins, line.lead_ns_mean, line.silent_ns) = (packets, wins, 4200, Some(15_000));
    }
    status.feed.lines[1].kernel_drops = 77;
    let worker = &mut status.workers[1];
    (worker.cpu, worker.sessions, worker.sends) = (Some(6), 400, 3330);
    worker.latency_ns = Quantiles { count: 10, p50: 11_000, p99: 99_000, ..Quantiles::default() };
    status.latency_ns.feed_to_publish = Quantiles { count: 1, p50: 1500, p99: 2_500_000, ..Quantiles::default() };
    status
}

fn subjects(count: usize) -> News {
    let busiest = (0..count)
        .map(|at| SubjectRate {
            subject: format!("/NASDAQ/S{at:03}/bbo"),
            frames_per_s: 1000.0 - at as f64,
            bytes_per_s: 4096.0,
            seq: 123_456,
            age_ns: 7_000_000,
        })
        .collect();
    News::Subjects(Ok(meter::Rates {
        epoch: "20191230-7".to_owned(),
        seconds: 1.0,
        frames_per_s: 1.0,
        bytes_per_s: 1.0,
        subjects: 4000,
        subjects_busy: count,
        overtaken: 0,
        busiest,
    }))
}

fn flows() -> News {
    let row = FlowRow {
        client: "192.0.2.7:50123".to_owned(),
        bits_out_per_s: Some(2_500_000.0),
        packets_out_per_s: Some(310.0),
        bytes_out: 3 << 30,
        lifetime: Duration::from_secs(125),
    };
    News::Flows(Ok(Flows { rows: vec![row], is_cut: false }))
}

fn full() -> State {
    let mut state = State::new("10.0.0.1:7401");
    for news in [News::Status(Ok(Box::new(status()))), News::Status(Ok(Box::new(later()))), subjects(50), flows()] {
        state.take(news);
    }
    state
}

fn picture(state: &State, width: u16, height: u16) -> (String, Buffer) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Instant::now())).unwrap();
    let buffer = terminal.backend().buffer().clone();
    (text(&buffer), buffer)
}

/// The cells of the first line that begins with this, inside the pane that the line is in.
#[track_caller]
fn row<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let panes = text.lines().flat_map(|line| line.split('│'));
    let found =
        panes.map(|pane| pane.split_whitespace().collect::<Vec<_>>()).find(|cells| cells.first() == Some(&first));
    found.unwrap_or_else(|| panic!("no row {first:?} in\n{text}"))
}

#[track_caller]
fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn a_wide_terminal_shows_everything() {
    let (text, buffer) = picture(&full(), 140, 45);
    shows(&text, &["fanblade 1.2.3   ready   up 1 h 02 min  epoch 20191230-7  10.0.0.1:7401"]);
    shows(
        &text,
        &["1234 sessions, 5 behind, 250k frames/s and 8.00Mbit/s to them over uring; 3 workers at 10.0.0.1:7400"],
    );
    shows(
        &text,
        &["live  two lines of Nasdaq", "81.5k messages/s", "2 gaps (17 messages)", "troubles: login_refused 4"],
    );
    shows(&text, &["300 recovered by 21 requests"]);
    assert_eq!(row(&text, "A"), ["A", "9.00k", "75.0%", "0", "0", "15.0", "µs", "4.20", "µs"]);
    assert_eq!(row(&text, "B")[..5], ["B", "8.00k", "25.0%", "0", "77"]);
    assert_eq!(row(&text, "1"), ["1", "6", "400", "0", "0", "0", "3.33k", "11.0", "µs", "99.0", "µs"]);
    assert_eq!(row(&text, "7"), ["7", "any", "0", "0", "0", "0", "0", "-", "-"]);
    shows(
        &text,
        &["feed → ring  p50 1.50 µs  p99 2.50 ms", "ring → sent  nothing in the last ten seconds", "p99 over 2 s"],
    );
    assert_eq!(row(&text, "/NASDAQ/S000/bbo"), ["/NASDAQ/S000/bbo", "1.00k", "4.00", "KiB", "7.00", "ms", "123456"]);
    shows(&text, &["50 of 4000 busy", "frames/s▼", "1 to "]);
    assert_eq!(
        row(&text, "192.0.2.7:50123"),
        ["192.0.2.7:50123", "2.50M", "3.00", "GiB", "310", "2", "min", "05", "s"]
    );
    // The curve rises where something was measured.
    assert!(buffer.content().iter().any(|cell| cell.symbol() == "█" && cell.fg == Color::Cyan));
    // Problems are red: the trouble, and the line whose packets were dropped.
    let red = |what: &str| {
        buffer.content().chunks(140).any(|cells| {
            let line: String =
                cells.iter().filter(|cell| cell.fg == Color::Red).map(ratatui::buffer::Cell::symbol).collect();
            line.contains(what)
        })
    };
    assert!(red("troubles: login_refused 4") && red("25.0%") && red("2 gaps") && !red("75.0%"));
}

#[test]
fn a_small_terminal_shows_one_pane_at_a_time() {
    let mut state = full();
    let panes = [
        (Pane::Feed, "81.5k messages/s"),
        (Pane::Latency, "p99 2.50 ms"),
        (Pane::Workers, "worker▼"),
        (Pane::Subjects, "/NASDAQ/S000/bbo"),
        (Pane::Flows, "192.0.2.7:50123"),
    ];
    for (pane, content) in panes {
        assert_eq!(state.focus, pane);
        let (text, _) = picture(&state, 60, 16);
        for (other, other_content) in panes {
            shows(&text, &[other.title()]);
            assert_eq!(text.contains(other_content), other_content == content, "{other_content} in\n{text}");
        }
        state.press(KeyEvent::from(KeyCode::Tab));
    }
    // Of a table's columns the important ones stay.
    state.press(KeyEvent::from(KeyCode::BackTab));
    let (text, _) = picture(&state, 44, 10);
    assert_eq!(row(&text, "192.0.2.7:50123"), ["192.0.2.7:50123", "2.50M"]);
    let (text, _) = picture(&state, 30, 10);
    shows(&text, &["a terminal of 40 by 8"]);
}

#[test]
fn no_size_is_too_odd() {
    let mut state = full();
    for key in [KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::Char('?'), KeyCode::Tab] {
        for width in [0, 1, 2, 30, 39, 40, 41, 53, 80, 109, 110, 200, 500] {
            for height in [0, 1, 2, 7, 8, 9, 13, 24, 29, 30, 31, 100] {
                picture(&state, width, height);
                picture(&State::new("a:1"), width, height);
            }
        }
        state.press(KeyEvent::from(key));
        state.press(KeyEvent::from(KeyCode::End));
    }
}

#[test]
fn scrolling_shows_the_rest() {
    let mut state = full();
    for key in [KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::PageDown, KeyCode::Down] {
        state.press(KeyEvent::from(key));
    }
    let (text, _) = picture(&state, 80, 20);
    shows(&text, &["/NASDAQ/S011/bbo", "12 to 24 of 50"]);
    assert!(!text.contains("/NASDAQ/S010/bbo"));
    // At the end of the list the last rows fill the table.
    state.press(KeyEvent::from(KeyCode::End));
    let (text, _) = picture(&state, 80, 20);
    shows(&text, &["/NASDAQ/S037/bbo", "/NASDAQ/S049/bbo", "38 to 50 of 50"]);
}

#[test]
fn what_cannot_be_shown_says_why() {
    let mut state = State::new("blade-2:7401");
    let (text, _) = picture(&state, 100, 20);
    shows(&text, &["waiting for the first answer", "blade-2:7401"]);
    state.take(News::Status(Err("nothing listens at blade-2:7401".to_owned())));
    let (text, _) = picture(&state, 100, 20);
    shows(&text, &["nothing listens at blade-2:7401; trying again, for 0 s"]);
    let mut stopping = later();
    stopping.stopping = true;
    state.take(News::Status(Ok(Box::new(stopping))));
    state.take(News::Subjects(Err("the blade runs on another machine".to_owned())));
    state.take(News::Flows(Err("the blade runs without eBPF".to_owned())));
    let (text, _) = picture(&state, 140, 40);
    shows(&text, &[" stopping ", "the blade runs on another machine", "the blade runs without eBPF", "- messages/s"]);
    state.take(News::Status(Err("no answer".to_owned())));
    state.lost.as_mut().unwrap().since = Instant::now() - Duration::from_secs(75);
    let (text, _) = picture(&state, 140, 40);
    shows(&text, &[" no answer ", "no answer; trying again, for 1 min 15 s", "two lines of Nasdaq"]);
    state.press(KeyEvent::from(KeyCode::Char('p')));
    state.press(KeyEvent::from(KeyCode::Char('?')));
    let (text, _) = picture(&state, 140, 40);
    shows(&text, &["paused", "Help: any key closes it", "pause the display"]);
}
