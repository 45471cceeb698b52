//! `watermark-eval`: makes what the toolkit is measured with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod command;

/// Trains and measures the models of the watermark toolkit.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a byte-level BPE tokenizer on a directory of text files.
    TrainTokenizer(command::teacher::TrainTokenizer),
    /// Train a small decoder-only transformer on a directory of text files.
    TrainTeacher(command::teacher::TrainTeacher),
    /// Train a small student from scratch on answers that `watermark generate` wrote.
    TrainStudent(command::student::TrainStudent),
    /// Put a trained teacher and its tokenizer into the corpora crate, and measure it for the manifest.
    Embed(command::embed::Embed),
    /// Sample unmarked texts from a GGUF model; entropy and speed go to stderr.
    Sample(command::sample::Sample),
    /// Serve a local model as an OpenAI-compatible endpoint, for a while.
    Endpoint(command::endpoint::Endpoint),
    /// The whole loop with any teacher, every finished part kept on disk.
    Cycle(command::cycle::Cycle),
    /// Which test finds a trained student with how few tokens.
    Study(command::study::StudyCommand),
    /// What a step of writing and a token of reading cost.
    Bench(command::bench::Bench),
    /// Count false alarms of every scheme on held-out human text, a fresh key a trial.
    Null(command::null::Null),
}

/// An error with the file it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
struct FileError {
    path: PathBuf,
    message: String,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::TrainTokenizer(command) => command.run(),
        Command::TrainTeacher(command) => command.run(),
        Command::TrainStudent(command) => command.run(),
        Command::Embed(command) => command.run(),
        Command::Sample(command) => command.run(),
        Command::Endpoint(command) => command.run(),
        Command::Cycle(command) => command.run(),
        Command::Study(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Null(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
