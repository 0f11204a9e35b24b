//! The `nethical` binary: one node of the cluster, and every command that people and scripts use around it.
//!
//! The outermost layer: it alone reads argv, the environment and signals. Around the sentence
//! *door → route → actor → propose → replicate → apply → reply* it starts and asks; it decides nothing.

mod certs;
mod cli;
mod config;
mod demo;
mod dev;
mod door;
mod keyring;
mod openapi;
mod output;
mod run;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

#[cfg(tokio_unstable)]
compile_error!("a node is never built with `--cfg tokio_unstable`: that belongs to the simulator's build alone");
const _: () = assert!(!nethical_protocol::probe::ENABLED, "a node is never built with the simulator's probes");

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let format = cli.format;
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::remark(&output::failure(&error, format));
            ExitCode::from(output::exit_code(&error))
        }
    }
}
