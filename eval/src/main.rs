//! `watermark-eval`: makes the embedded teacher and measures the whole loop.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes teachers and students, and measures what a mark leaves in them
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    TrainTokenizer(command::tokenizer::TrainTokenizer),
    TrainTeacher(command::teacher::TrainTeacher),
    Sample(command::sample::Sample),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::TrainTokenizer(command) => command.run(),
        Command::TrainTeacher(command) => command.run(),
        Command::Sample(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
