//! Arguments of `plan preflight`.

use std::path::PathBuf;

use clap::Args;

use super::{DryArgs, FormArgs, Format, MarkArgs};

/// What logged answers carry, before a campaign relies on them.
///
/// From about a thousand answers that were written under the key: how strong the mark is, how many tokens the
/// writer left alone, how many can be read, what diversity it cost (against answers to the same prompts without
/// the mark), how long a text must be, and how much a suspect would have to say. Figures about the logs at
/// hand, and no test of anybody.
#[derive(Args)]
pub(crate) struct Preflight {
    #[command(flatten)]
    pub(crate) mark: MarkArgs,
    /// The logged answers: .jsonl with session records says which tokens were skipped and why.
    #[arg(required = true, value_name = "LOG")]
    pub(crate) logs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// Answers of the same model to the same prompts, without the mark.
    #[arg(long, value_name = "FILE")]
    pub(crate) unmarked: Vec<PathBuf>,
    /// Effects of calibration students at known shares (`watermark.dose-curve/1`).
    #[arg(long, value_name = "FILE.json")]
    pub(crate) dose_curve: Option<PathBuf>,
    /// Suspects that keep this share of the logs' own effect a cell.
    #[arg(long, value_name = "T,..", value_delimiter = ',', default_values_t = [0.01, 0.1, 0.5])]
    pub(crate) transfer: Vec<f64>,
    /// Shares of marked text in the training data, read from --dose-curve.
    #[arg(long, value_name = "S,..", value_delimiter = ',', default_values_t = [0.01, 0.1, 0.5, 1.0])]
    pub(crate) share: Vec<f64>,
    /// Reject at p at most this.
    #[arg(long, default_value_t = 1e-5)]
    pub(crate) alpha: f64,
    /// Probability of rejection that is asked for.
    #[arg(long, default_value_t = 0.9)]
    pub(crate) power: f64,
    /// Distinct cells a token of the suspect [default: new cells come as in the logs].
    #[arg(long, value_name = "X")]
    pub(crate) cells_per_token: Option<f64>,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}
