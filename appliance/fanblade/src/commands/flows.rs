//! `fanblade flows`: what the kernel counted, from the pinned maps alone.

use std::cmp::Reverse;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use fanblade_steer::{DEFAULT_PIN_DIR, Flow, View};

use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the maps are pinned
    #[arg(long, default_value = DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
    /// Sort by this column
    #[arg(long, value_enum, default_value_t = Order::BytesOut)]
    sort: Order,
    /// Show this many flows; 0: all
    #[arg(long, default_value_t = 50)]
    top: usize,
    /// Show closed flows, too
    #[arg(long)]
    closed: bool,
    /// Print the packet programs' verdicts and the workers as well
    #[arg(long)]
    verdicts: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Order {
    BytesOut,
    BytesIn,
    PacketsOut,
    PacketsIn,
    Newest,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let view = View::open_pinned(&args.pin_dir)?;
    let mut flows: Vec<Flow> = view.flows().filter(|flow| args.closed || !flow.counters.is_closed()).collect();
    let all = flows.len();
    flows.sort_by_key(|flow| {
        Reverse(match args.sort {
            Order::BytesOut => flow.counters.bytes_out,
            Order::BytesIn => flow.counters.bytes_in,
            Order::PacketsOut => flow.counters.packets_out,
            Order::PacketsIn => flow.counters.packets_in,
            Order::Newest => flow.counters.first_ns,
        })
    });
    if args.top > 0 {
        flows.truncate(args.top);
    }
    let mut out = io::BufWriter::new(out::stdout());
    print(&mut out, args, &view, &flows, all)?;
    io::Write::flush(&mut out)?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl io::Write, args: &Args, view: &View, flows: &[Flow], all: usize) -> anyhow::Result<()> {
    let width = flows.iter().map(|flow| flow.client().to_string().len()).max().unwrap_or(0).max("client".len());
    let server = flows.iter().map(|flow| flow.server().to_string().len()).max().unwrap_or(0).max("server".len());
    writeln!(
        out,
        "{:<width$}  {:<server$}  {:>12} {:>14} {:>12} {:>14} {:>10}",
        "client", "server", "packets in", "bytes in", "packets out", "bytes out", "seconds"
    )?;
    for flow in flows {
        let counters = &flow.counters;
        writeln!(
            out,
            "{:<width$}  {:<server$}  {:>12} {:>14} {:>12} {:>14} {:>10.1}{}",
            flow.client().to_string(),
            flow.server().to_string(),
            counters.packets_in,
            counters.bytes_in,
            counters.packets_out,
            counters.bytes_out,
            flow.lifetime().as_secs_f64(),
            if counters.is_closed() { "  closed" } else { "" },
        )?;
    }
    writeln!(out, "{} of {all} flows", flows.len())?;
    if args.verdicts {
        writeln!(out)?;
        for (name, count) in view.verdicts().context("verdicts")? {
            writeln!(out, "{name:<24} {count:>14}")?;
        }
        writeln!(out)?;
        for (index, worker) in view.workers().context("workers")?.iter().enumerate() {
            writeln!(
                out,
                "worker {index:<3} weight {:>4}  connections {:>9}  steered {:>12}",
                worker.weight, worker.connections, worker.steered
            )?;
        }
    }
    Ok(())
}
