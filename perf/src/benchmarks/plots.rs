//! The plots: SVG, so that they can be compared, searched, and enlarged.

use std::fmt::Display;

use anyhow::anyhow;
use plotters::coord::combinators::LogCoord;
use plotters::prelude::*;

use super::results::ResultFile;
use super::tables::{has_latencies, whole};

/// Name and content of each plot.
pub(super) fn all(results: &[ResultFile]) -> anyhow::Result<Vec<(String, String)>> {
    let mut plots = Vec::new();
    for of_one in results.chunk_by(|one, other| one.text("scenario") == other.text("scenario")) {
        let series: Vec<Series> = of_one.iter().filter(|it| has_latencies(it)).map(latencies).collect();
        if let Some(first) = of_one.first().filter(|_| !series.is_empty()) {
            let name = first.text("scenario");
            let plot = Plot {
                title: format!("{name}: share of messages that took longer"),
                x: "latency, ms",
                y: "share",
                y_from: SHARE_MIN,
                is_distribution: true,
                series,
            };
            plots.push((format!("latency-{name}"), plot.draw()?));
        }
    }
    let throughput = by_server(results, &|it| {
        it.number("/delivered_per_s").filter(|per_s| *per_s > 0.0 && it.text("verdict") == "ok")
    });
    if !throughput.is_empty() {
        let plot = Plot {
            title: "messages delivered in a second".to_owned(),
            x: "connections",
            y: "messages/s",
            y_from: 1_000.0,
            is_distribution: false,
            series: throughput.into_iter().chain(published(results)).collect(),
        };
        plots.push(("throughput".to_owned(), plot.draw()?));
    }
    let memory = ["user", "kernel", "kernel_server_end"].iter().flat_map(|kind| {
        let pointer = format!("/bytes_per_session/{kind}");
        let mut series = by_server(results, &|it| it.number(&pointer).filter(|bytes| *bytes > 0.0));
        series.iter_mut().for_each(|it| it.name += &format!(", {}", kind.replace('_', " ")));
        series
    });
    let memory: Vec<Series> = memory.collect();
    if !memory.is_empty() {
        let plot = Plot {
            title: "memory of a session".to_owned(),
            x: "connections",
            y: "bytes",
            y_from: 10.0,
            is_distribution: false,
            series: memory,
        };
        plots.push(("memory".to_owned(), plot.draw()?));
    }
    Ok(plots)
}

type Logarithmic = Cartesian2d<LogCoord<f64>, LogCoord<f64>>;

struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    is_line: bool,
}

/// The share of messages that took longer than x ms.
fn latencies(it: &ResultFile) -> Series {
    let points = it.result["latency_ccdf"].as_array().into_iter().flatten();
    let point = |point: &serde_json::Value| Some((point[0].as_f64()? / 1e3, point[1].as_f64()?.max(SHARE_MIN)));
    let name = format!("{}, {}", it.text("server"), whole(it.number("/subscribers")));
    Series { name, points: points.filter_map(point).collect(), is_line: true }
}

/// A series for each server, over the numbers of connections.
fn by_server(results: &[ResultFile], value: &dyn Fn(&ResultFile) -> Option<f64>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for it in results {
        let Some(point) = it.number("/subscribers").zip(value(it)) else { continue };
        match series.iter_mut().find(|series| series.name == it.text("server")) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name: it.text("server").to_owned(), points: vec![point], is_line: false }),
        }
    }
    series
}

/// What others have published, measured on their machines.
fn published(results: &[ResultFile]) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for it in results.iter().flat_map(|it| it.result["published_by_others"].as_array().into_iter().flatten()) {
        let Some(point) = it["subscribers"].as_f64().zip(it["messages_per_s"].as_f64()) else { continue };
        let name = format!("{} (published)", it["system"].as_str().unwrap_or_default());
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) if series.points.contains(&point) => {}
            Some(series) => series.points.push(point),
            None => series.push(Series { name, points: vec![point], is_line: false }),
        }
    }
    series
}

struct Plot {
    title: String,
    x: &'static str,
    y: &'static str,
    y_from: f64,
    /// The curve falls from one at the upper left.
    is_distribution: bool,
    series: Vec<Series>,
}

impl Plot {
    fn draw(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE).map_err(failed)?;
            let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
            // Whole decades, so that the labels stand apart.
            let x_from = 10f64.powf((points().map(|point| point.0).fold(f64::MAX, f64::min) * 0.99).log10().floor());
            let x_to = 10f64.powf((points().map(|point| point.0).fold(f64::MIN, f64::max) * 1.01).log10().ceil());
            let y_to = points().map(|point| point.1).fold(f64::MIN, f64::max) * 1.5;
            let mut builder = ChartBuilder::on(&area);
            builder.caption(&self.title, ("sans-serif", 22)).margin(12).x_label_area_size(40).y_label_area_size(90);
            let y_to = if self.is_distribution { 1.0 } else { y_to };
            let mut chart = builder
                .build_cartesian_2d((x_from..x_to).log_scale(), (self.y_from..y_to).log_scale())
                .map_err(failed)?;
            self.fill(&mut chart)?;
            area.present().map_err(failed)?;
        }
        svg.push('\n');
        Ok(svg)
    }

    fn fill<'a>(&self, chart: &mut ChartContext<'a, SVGBackend<'a>, Logarithmic>) -> anyhow::Result<()> {
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        for (number, series) in self.series.iter().enumerate() {
            let color = COLORS[number % COLORS.len()];
            let points = series.points.iter().copied();
            let drawn = if series.is_line {
                chart.draw_series(LineSeries::new(points, color.stroke_width(2))).map_err(failed)?
            } else {
                chart.draw_series(points.map(|point| Circle::new(point, 4, color.filled()))).map_err(failed)?
            };
            drawn
                .label(&series.name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], color.filled()));
        }
        chart
            .configure_series_labels()
            .position(if self.is_distribution {
                SeriesLabelPosition::LowerLeft
            } else {
                SeriesLabelPosition::LowerRight
            })
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(failed)
    }
}

/// `1,000,000`, `2.5`, `0.0001`.
fn short(value: f64) -> String {
    if value >= 10.0 { whole(Some(value)) } else { format!("{}", (value * 1e6).round() / 1e6) }
}

fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw the plot: {error}")
}

/// Tableau's colors, which most people can tell apart.
const COLORS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
];
const SIZE: (u32, u32) = (860, 480);
/// Where the plot of a distribution ends.
const SHARE_MIN: f64 = 1e-6;
