//! `watermark`: mark a model's outputs, and test who was trained on them.
//!
//! Standard output is data, standard error is talk. Exit codes: 0 ran to completion, whatever
//! the verdict; 1 runtime error; 2 usage; 3 a verification failed; 4 invalid data; 5 stopped by a cap or a
//! signal, resumable; with `--exit-verdict`, 10 rejected, 11 not rejected, 12 insufficient evidence.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

mod cli;
mod command;
mod config;
mod dry;
mod error;
mod input;
mod keysource;
mod mark;
mod preflight;
mod render;
mod schema;
mod serve;

fn main() -> ExitCode {
    let run = || {
        let config = config::Config::load()?;
        let matches = config.apply(cli::Cli::command()).get_matches();
        let cli = cli::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        command::run(cli, &config)
    };
    run().unwrap_or_else(|error| {
        eprintln!("error: {}", keysource::redacted(&error.to_string()));
        ExitCode::from(error.exit_code())
    })
}
