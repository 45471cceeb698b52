//! Arguments of `report`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Shows a report file, which `distill --out` writes. A file whose numbers contradict each other is not
/// shown: exit code 3.
#[derive(Subcommand)]
pub(crate) enum Report {
    /// A page for a browser or a printer, complete in itself: no script, nothing fetched.
    Html(ReportArgs),
    /// Markdown.
    Md(ReportArgs),
    /// The report file in its normal form.
    Json(ReportArgs),
}

#[derive(Args)]
pub(crate) struct ReportArgs {
    /// The report file; `-` reads standard input.
    pub(crate) report: PathBuf,
    /// The file to write; it appears when it is complete [default: standard output].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}
