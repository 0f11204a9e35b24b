//! The simulator's command line.
//!
//! It must be built with `--cfg tokio_unstable` and the feature `probes`; `just sim …` does. Built otherwise, it says so.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use nethical_sim::plan::{Net, Plan, Runtime, SECONDS_MAX, SECONDS_MIN};

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
  nethical-sim scenarios                           everything that has a name
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
    /// Run a plan from a file.
    Replay {
        /// The plan, as `run --plan` or `shrink` wrote it.
        plan: PathBuf,
        #[command(flatten)]
        show: Show,
    },
    /// Find the fewest faults of a failing run that still fail, and write them as a plan.
    Shrink {
        /// A plan's file; without it, the seed is drawn.
        plan: Option<PathBuf>,
        #[command(flatten)]
        run: RunArguments,
        /// Where the smaller plan goes.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Stop after so many minutes with what was found by then.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// Run each seed in two processes and compare the digests; name the first event that differs.
    VerifyDeterminism(FuzzArguments),
    /// Show that every planted bug is found by a check, and that the same seeds are clean without it.
    Mutants(MutantArguments),
    /// Count in how many runs each thing was seen that must be seen sometimes.
    Coverage(FuzzArguments),
    /// Run the named scenarios and hold each against what is expected of it.
    Scenarios(command::scenarios::Arguments),
    /// Measure how fast runs are, on one thread and under fixed conditions.
    Bench(command::bench::BenchArguments),
    /// Print the digests of some seeds, a line each.
    #[command(hide = true)]
    Digests {
        #[arg(long)]
        seconds: u64,
        #[arg(long, value_enum, default_value_t = Net::Message)]
        net: Net,
        #[arg(long, value_enum, default_value_t = Runtime::One)]
        runtime: Runtime,
        seeds: Vec<u64>,
    },
}

/// Which planted bugs to look for, and how hard.
#[derive(Args, Clone)]
struct MutantArguments {
    /// Only this one.
    #[arg(long, value_name = "BUG")]
    bug: Option<String>,
    /// Name them all and stop.
    #[arg(long)]
    list: bool,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Seeds in which each must be found.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// How many seeds at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Simulated seconds of each.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=SECONDS_MAX))]
    seconds: u64,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
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
    /// What runs the nodes: one runtime for all, or a runtime for each life of a node, as a second opinion.
    #[arg(long, value_enum, default_value_t = Runtime::One)]
    runtime: Runtime,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl FuzzArguments {
    fn plan(&self, seed: u64) -> Plan {
        let shape = nethical_sim::swarm::Shape { net: self.net, runtime: self.runtime, ..Default::default() };
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
    /// What runs the nodes: one runtime for all, or a runtime for each life of a node, as a second opinion.
    #[arg(long, value_enum, default_value_t = Runtime::One)]
    runtime: Runtime,
    /// A planted bug to run with; `mutants --list` names them.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// A named scenario in place of the seed's own plan; `scenarios --list` names them.
    #[arg(long, value_name = "NAME", conflicts_with = "seconds")]
    scenario: Option<String>,
    #[command(flatten)]
    show: Show,
}

/// What to make of a run.
#[derive(Args, Clone)]
struct Show {
    /// Write the trace there, one event a line, as JSON.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draw the run as a page there, to be opened in a browser.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the plan there.
    #[arg(long = "plan", id = "plan-file", value_name = "FILE")]
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
    fn plan(&self) -> anyhow::Result<Plan> {
        let shape = nethical_sim::swarm::Shape { net: self.net, runtime: self.runtime, ..Default::default() };
        let plan = match &self.scenario {
            Some(name) => {
                Plan { net: self.net, runtime: self.runtime, ..command::scenarios::find(name)?.plan(self.seed) }
            }
            None => nethical_sim::swarm::draw_within(self.seed, self.seconds, &shape),
        };
        Ok(Plan { planted: self.planted.clone(), ..plan })
    }
}

fn main() -> anyhow::Result<ExitCode> {
    // A huge page is zeroed whole, for the little of it that a run touches: a third of a short program's time.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match Arguments::parse().command {
        Command::Run(arguments) => command::run::run(&arguments.plan()?, &arguments.show),
        Command::Fuzz(arguments) => command::fuzz::fuzz(&arguments),
        Command::Replay { plan, show } => command::run::run(&Plan::read(&plan)?, &show),
        Command::Shrink { plan, run, out, minutes } => {
            let plan = plan.map_or_else(|| run.plan(), |path| Plan::read(&path))?;
            command::shrink::run(&plan, out, std::time::Duration::from_secs(minutes * 60))
        }
        Command::VerifyDeterminism(arguments) => command::verify::verify(&arguments),
        Command::Mutants(arguments) => command::mutants::mutants(&arguments),
        Command::Coverage(arguments) => command::coverage::coverage(&arguments),
        Command::Digests { seconds, net, runtime, seeds } => command::run::digests(seconds, (net, runtime), &seeds),
        Command::Scenarios(arguments) => command::scenarios::scenarios(&arguments),
        Command::Bench(arguments) => command::bench::bench(&arguments),
    }
}
