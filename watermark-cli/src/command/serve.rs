//! `watermark serve`.

use std::process::ExitCode;

use crate::cli::Serve;
use crate::error::CliError;
use crate::serve;

pub(super) fn run(arguments: &Serve) -> Result<ExitCode, CliError> {
    if arguments.dry_run {
        serve::check(&arguments.config, arguments.listen)?;
    } else {
        serve::run(&arguments.config, arguments.listen)?;
    }
    Ok(ExitCode::SUCCESS)
}
