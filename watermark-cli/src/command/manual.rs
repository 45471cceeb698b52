//! `watermark completions` and `watermark man`: both from the command tree.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::CliError;
use crate::render::write_file;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "watermark", &mut script);
    print(&script)
}

pub(super) fn pages(folder: Option<&Path>) -> Result<ExitCode, CliError> {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = folder else {
        return print(&page(&command)?);
    };
    std::fs::create_dir_all(folder).map_err(CliError::io(folder))?;
    write_pages(&command, folder)?;
    Ok(ExitCode::SUCCESS)
}

fn write_pages(command: &clap::Command, folder: &Path) -> Result<(), CliError> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    write_file(&folder.join(format!("{name}.1")), &page(command)?)?;
    let commands = command.get_subcommands();
    commands
        .filter(|command| command.get_name() != "help")
        .try_for_each(|command| write_pages(command, folder))
}

fn page(command: &clap::Command) -> Result<Vec<u8>, CliError> {
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(command.clone()).render(&mut page);
    written.map_err(CliError::io("manual page"))?;
    Ok(page)
}

fn print(bytes: &[u8]) -> Result<ExitCode, CliError> {
    use std::io::Write;
    let written = std::io::stdout().write_all(bytes);
    written.map_err(CliError::io("standard output"))?;
    Ok(ExitCode::SUCCESS)
}
