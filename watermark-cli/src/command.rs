//! One file a command.

use std::process::ExitCode;

use crate::cli::{Cli, Command, PolicyArgs};
use crate::error::CliError;
use watermark_core::verdict::{Policy, Verdict};

mod demo;
mod detect;
mod distill;
mod explain;
mod generate;
mod key;
mod plan;
mod preflight;
mod serve;

pub(crate) use detect::exhibit;

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Distill(arguments) => distill::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
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
