//! Arguments of `explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DryArgs, FormArgs, MarkArgs};

#[derive(Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) mark: MarkArgs,
    /// One file; `-` reads standard input. Of JSONL and Parquet, every answer is explained.
    pub(crate) input_file: PathBuf,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
    /// How it is printed. In colour on a terminal, unless NO_COLOR is set; the signs say the same.
    #[arg(long, value_enum, default_value_t = ExplainFormat::Human)]
    pub(crate) format: ExplainFormat,
}

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// For people: one token a line.
    Human,
    /// One JSON object an answer.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// A page for a browser or a printer, complete in itself.
    Html,
}
