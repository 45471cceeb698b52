//! `watermark report`.

use std::io::Write;
use std::process::ExitCode;

use watermark_core::report::file::ReportFile;

use crate::cli::{Report, ReportArgs};
use crate::error::CliError;
use crate::input::read_text;
use crate::render::document::Document;
use crate::render::{html, markdown, write_file};

pub(super) fn run(arguments: &Report) -> Result<ExitCode, CliError> {
    let (Report::Html(given) | Report::Md(given) | Report::Json(given)) = arguments;
    let file = read(given)?;
    let text = match arguments {
        Report::Html(_) => html::report::page(&Document::of(&file)?),
        Report::Md(_) => markdown::page(&Document::of(&file)?),
        Report::Json(_) => file.to_json(),
    };
    match &given.out {
        Some(path) => write_file(path, text.as_bytes())?,
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(CliError::io("standard output"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(arguments: &ReportArgs) -> Result<ReportFile, CliError> {
    let path = &arguments.report;
    let json = read_text(path)?;
    ReportFile::from_json(&json).map_err(|source| CliError::ReportFile {
        path: path.clone(),
        source,
    })
}
