//! The simulator's command line.
//!
//! It must be built with `--cfg tokio_unstable` and the feature `probes`; `just sim …` does. Built otherwise, it says so.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use nethical_sim::plan::{Net, Plan, SECONDS_MAX, SECONDS_MIN};

mod command;
#[cfg(not(test))]
mod entropy;

/// Where things lie in memory may not show in a run, so the allocator is free to be chosen by speed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the cluster's code in a fake world: simulated time, network, disks and clocks, from one number.
#[derive(Parser)]
#[command(
    name = "nethical-sim",
    version,
    after_help = "Examples:
  nethical-sim run --seed 42                       one run, its verdict
  nethical-sim run --seed 42 --html run.html       the same, to look at
  nethical-sim fuzz --seeds 500 --jobs 2           many seeds; every failure with its replay command
  nethical-sim shrink --seed 42                    the fewest faults that still fail
  nethical-sim mutants                             prove that planted bugs are found"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed, or one named scenario.
    Run(RunArguments),
    /// Run many seeds; each failure is a line with the command that replays it.
    Fuzz(FuzzArguments),
    /// Measure how fast runs are, on one thread and under fixed conditions.
    Bench(command::bench::BenchArguments),
}

/// Which seeds to run.
#[derive(Args, Clone)]
struct FuzzArguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// How many at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Stop after so many minutes, seeds or not.
    #[arg(long)]
    minutes: Option<u64>,
    /// Simulated seconds of each.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=SECONDS_MAX))]
    seconds: u64,
    /// What carries calls between nodes.
    #[arg(long, value_enum, default_value_t = Net::Message)]
    net: Net,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl FuzzArguments {
    fn plan(&self, seed: u64) -> Plan {
        let shape = nethical_sim::swarm::Shape { net: self.net, ..Default::default() };
        nethical_sim::swarm::draw_within(seed, self.seconds, &shape)
    }

    fn until(&self) -> Option<std::time::Instant> {
        self.minutes.map(|minutes| command::fuzz::now() + std::time::Duration::from_secs(minutes * 60))
    }
}

/// What to run.
#[derive(Args, Clone)]
struct RunArguments {
    /// The seed. Everything in the run follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=SECONDS_MAX))]
    seconds: u64,
    /// What carries calls between nodes.
    #[arg(long, value_enum, default_value_t = Net::Message)]
    net: Net,
    /// A planted bug to run with; `mutants --list` names them.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    #[command(flatten)]
    show: Show,
}

/// What to make of a run.
#[derive(Args, Clone)]
struct Show {
    /// Write the trace there, one event a line, as JSON.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the plan there.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// What nodes log, to standard error, with simulated times: `warn`, `nethical_cluster=debug` …
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl RunArguments {
    fn plan(&self) -> Plan {
        let shape = nethical_sim::swarm::Shape { net: self.net, ..Default::default() };
        let plan = nethical_sim::swarm::draw_within(self.seed, self.seconds, &shape);
        Plan { planted: self.planted.clone(), ..plan }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    // A huge page is zeroed whole, for the little of it that a run touches: a third of a short program's time.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match Arguments::parse().command {
        Command::Run(arguments) => command::run::run(&arguments.plan(), &arguments.show),
        Command::Fuzz(arguments) => command::fuzz::fuzz(&arguments),
        Command::Bench(arguments) => command::bench::bench(&arguments),
    }
}
