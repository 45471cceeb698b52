//! One file a command.

use std::process::ExitCode;

use crate::cli::{Cli, Command, PolicyArgs};
use crate::config::Config;
use crate::error::CliError;
use watermark_core::verdict::{Policy, Verdict};

pub(crate) mod collect;
mod demo;
mod detect;
mod distill;
mod doctor;
mod explain;
mod generate;
mod key;
mod manual;
mod plan;
mod report;
pub(crate) mod said;
mod schema;

pub(crate) use detect::windows::Scanned;

pub(crate) use distill::UnderPlan;
mod preflight;
mod serve;

pub(crate) use detect::exhibit;

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli, config: &Config) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Distill(arguments) => distill::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Collect(arguments) => collect::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments, config),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { out } => manual::pages(out.as_deref()),
        Command::Serve(arguments) => serve::run(&arguments),
    }
}

impl PolicyArgs {
    fn policy(&self) -> Result<Policy, CliError> {
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return Err(CliError::Usage(format!(
                "--alpha {}: it must be above 0 and below 1",
                self.alpha
            )));
        }
        Ok(Policy {
            alpha: self.alpha,
            min_cells: self.min_cells,
        })
    }

    /// A verdict is an exit code only where it was asked for.
    fn exit(&self, verdict: Verdict) -> ExitCode {
        ExitCode::from(match verdict {
            _ if !self.exit_verdict => 0,
            Verdict::Rejected => 10,
            Verdict::NotRejected => 11,
            Verdict::InsufficientEvidence => 12,
        })
    }
}
