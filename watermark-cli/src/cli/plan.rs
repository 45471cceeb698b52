//! Arguments of `plan`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;
use super::preflight::Preflight;

#[derive(Subcommand)]
pub(crate) enum Plan {
    /// How many cells and tokens of the suspect a test will need.
    Power(Power),
    /// What logged answers carry: the mark's strength, what it cost, what a suspect would have to give.
    Preflight(Preflight),
}

/// How many cells and tokens of the suspect a test will need.
///
/// Assumed: scores of distinct cells are independent and follow the null law, tilted to one and the same mean
/// excess. A real suspect's cells differ in their effect, which costs a little more at equal mean. The
/// excess is that of new cells; the share of tokens that are new cells falls as the suspect repeats
/// itself, so take it from a sample of the planned size. The number for the plain closed test is exact
/// under these assumptions, the any-time one is simulated. For a family of m tests, give alpha / m.
#[derive(Args)]
#[command(group(clap::ArgGroup::new("effect").required(true).args(["mean_excess", "share"])))]
pub(crate) struct Power {
    /// Built-in profile or profile file.
    #[arg(long, value_name = "NAME|FILE.json", default_value = watermark_core::profile::BUILT_IN[0])]
    pub(crate) profile: String,
    /// Mean excess of a cell's score over chance (share of ones, or nats).
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) mean_excess: Option<f64>,
    /// Share of marked text in the suspect's training data; the excess is read from --dose-curve.
    #[arg(long, value_name = "S", requires = "dose_curve")]
    pub(crate) share: Option<f64>,
    /// Effects of calibration students at known shares (`watermark.dose-curve/1`).
    #[arg(long, value_name = "FILE.json", requires = "share")]
    pub(crate) dose_curve: Option<PathBuf>,
    /// Reject at p at most this.
    #[arg(long, default_value_t = 1e-5)]
    pub(crate) alpha: f64,
    /// Probability of rejection that is asked for.
    #[arg(long, default_value_t = 0.9)]
    pub(crate) power: f64,
    /// Distinct cells a token of the suspect.
    #[arg(long, default_value_t = 0.7)]
    pub(crate) cells_per_token: f64,
    /// Tokens of the plain test over tokens of another test at the same power, as measured on students:
    /// adds that test's tokens.
    #[arg(long, value_name = "R")]
    pub(crate) efficiency: Option<f64>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}
