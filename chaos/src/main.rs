//! `nethical-chaos`: one disturbed link between two programs of this machine, until its time is over or Ctrl-C.
//!
//! Ends with a line of counts for each direction. Touches nothing but its own sockets.
#![allow(clippy::disallowed_methods, reason = "the outermost layer of a tool that works in real time")]

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use nethical_chaos::plan::{Cut, Direction, Plan};
use nethical_chaos::relay::Relay;

/// A hostile network for real nodes on this machine.
#[derive(Debug, Parser)]
#[command(name = "nethical-chaos", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay UDP from one loopback address to another, late, with losses and one-way cuts.
    #[command(after_help = "Example:\n  nethical-chaos relay --listen 127.0.0.1:9702 --target 127.0.0.1:9102 \
        --latency-ms 40 --loss-percent 2 --cut to-target@10..20 --seconds 60")]
    Relay(RelayArgs),
}

#[derive(Debug, Args)]
struct RelayArgs {
    /// Loopback address to listen at.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Loopback address to pass on to.
    #[arg(long, value_name = "ADDRESS")]
    target: SocketAddr,
    /// Delay of each way, milliseconds.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    latency_ms: u64,
    /// Up to this much more, drawn for each datagram, milliseconds.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    jitter_ms: u64,
    /// Of a hundred datagrams, how many are lost.
    #[arg(long, default_value_t = 0, value_name = "P", value_parser = clap::value_parser!(u8).range(0..=100))]
    loss_percent: u8,
    /// A one-way cut in seconds since the start, such as to-target@10..20; may be repeated.
    #[arg(long, value_name = "CUT")]
    cut: Vec<Cut>,
    /// The same seed loses the same datagrams.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// How long to run.
    #[arg(long, default_value_t = 60, value_name = "T", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Command::Relay(args) = Cli::parse().command;
    let plan = Plan {
        seed: args.seed,
        latency: Duration::from_millis(args.latency_ms),
        jitter: Duration::from_millis(args.jitter_ms),
        loss_percent: args.loss_percent,
        cuts: args.cut,
    };
    let relay = Relay::start(args.listen, args.target, plan).await?;
    eprintln!("relaying {} -> {} for {} s, seed {}", relay.address(), args.target, args.seconds, args.seed);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(args.seconds)) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    let counts = *relay.counts().borrow();
    for direction in Direction::ALL {
        let (name, count) = (direction.as_str(), counts[direction as usize]);
        println!(
            "{name}: taken {}, passed {}, lost {}, cut {}, overflowed {}",
            count.taken, count.passed, count.lost, count.cut, count.overflowed
        );
    }
    Ok(())
}
