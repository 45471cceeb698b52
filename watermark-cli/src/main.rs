//! `watermark`: mark a model's outputs, and test who was trained on them.
//!
//! Standard output is data, standard error is talk. Exit codes: 0 ran to completion, whatever
//! the verdict; 1 runtime error; 2 usage; 4 invalid data; with `--exit-verdict`, 10 rejected,
//! 11 not rejected, 12 insufficient evidence.

use std::process::ExitCode;

use clap::Parser;

mod cli;
mod command;
mod error;
mod input;
mod mark;
mod preflight;
mod render;
mod serve;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
