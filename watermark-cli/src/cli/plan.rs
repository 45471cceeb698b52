//! Arguments of `plan`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use watermark_core::detect::TestId;

use super::distill::test;
use super::preflight::Preflight;
use super::{DryArgs, Format, KeySource};

#[derive(Subcommand)]
pub(crate) enum Plan {
    /// Write a plan, to be read, edited and sealed.
    New(Box<New>),
    /// Seal a plan: from then on any change of it is noticed.
    Seal {
        /// The plan.
        plan: PathBuf,
        /// The sealed plan; the file must not exist.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        dry: DryArgs,
    },
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

/// Write a plan: what will be tested, under which key, with which prompts and how many answers.
///
/// Defaults are filled in, and the file may be edited. `plan seal` then makes a digest of it, and `distill
/// --plan` runs exactly that. Seal it, and let the digest be known to others, before anything is collected.
#[derive(Args)]
pub(crate) struct New {
    /// A name for people: the case, the suspect.
    #[arg(long)]
    pub(crate) id: String,
    /// The commitment of the key's epoch, which gives profile, tokenizer and the key's id: no key is needed.
    #[arg(
        long,
        value_name = "FILE.json",
        conflicts_with_all = ["profile", "epoch", "key_file", "key_command"]
    )]
    pub(crate) commitment: Option<PathBuf>,
    /// Without a commitment, where the key comes from.
    #[command(flatten)]
    pub(crate) key: PlanKeyArgs,
    /// Epoch of a master key [default: e1].
    #[arg(long)]
    pub(crate) epoch: Option<String>,
    /// The slot, 0 to 32 [default: 0].
    #[arg(long)]
    pub(crate) slot: Option<u32>,
    /// Built-in profile or profile file.
    #[arg(long, value_name = "NAME|FILE.json", default_value = watermark_core::profile::BUILT_IN[0])]
    pub(crate) profile: String,
    /// The tokenizer that token ids belong to [default: that of the embedded model].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tests: PlanTestArgs,
    #[command(flatten)]
    pub(crate) suspect: PlanSuspectArgs,
    #[command(flatten)]
    pub(crate) forecast: PlanForecastArgs,
    /// The plan; the file must not exist.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
}

/// The key of a plan.
#[derive(Args)]
#[group(skip)]
pub(crate) struct PlanKeyArgs {
    /// Key file, mode 0600; `-` reads standard input.
    #[arg(
        long,
        value_name = "PATH|-",
        required_unless_present_any = ["key_command", "commitment"],
        conflicts_with = "key_command"
    )]
    key_file: Option<PathBuf>,
    /// A command that prints the key line. It is run without a shell.
    #[arg(long, value_name = "CMD")]
    key_command: Option<String>,
    /// Read the key file although others can read it.
    #[arg(long, requires = "key_file")]
    allow_insecure_key_perms: bool,
}

impl PlanKeyArgs {
    pub(crate) fn source(&self) -> KeySource {
        KeySource {
            key_file: self.key_file.clone(),
            key_command: self.key_command.clone(),
            allow_insecure_key_perms: self.allow_insecure_key_perms,
        }
    }
}

/// What is tested, and when it counts.
#[derive(Args)]
#[command(next_help_heading = "Tests")]
pub(crate) struct PlanTestArgs {
    /// The family [default: closed-cells, closed-sqrt, closed-inverse-variance; with --looks anytime closed-cells].
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = test)]
    pub(crate) tests: Vec<TestId>,
    /// The test that is expected to be the strongest [default: closed-sqrt if it is in the family, else the
    /// first].
    #[arg(long, value_name = "TEST", value_parser = test)]
    pub(crate) primary: Option<TestId>,
    /// Ask in both directions: p becomes twice the smaller tail.
    #[arg(long)]
    pub(crate) two_sided: bool,
    /// Reject at an adjusted p of at most this.
    #[arg(long, default_value_t = 1e-5)]
    pub(crate) alpha: f64,
    /// Fewer scored cells are insufficient evidence.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) min_cells: u64,
    /// How often the result is looked at.
    #[arg(long, value_enum, default_value_t = LooksArg::Once)]
    pub(crate) looks: LooksArg,
    /// Keys nobody used to score beside the key.
    #[arg(long, default_value_t = 1000)]
    pub(crate) decoys: u32,
    /// Cells of the supervised test.
    #[arg(long, value_name = "N")]
    pub(crate) supervised_cells: Option<u64>,
    /// Models known to be innocent that are tested beside the suspect.
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) controls: Vec<ControlArg>,
}

/// What the suspect is asked, how, and how much.
#[derive(Args)]
#[command(next_help_heading = "The suspect")]
pub(crate) struct PlanSuspectArgs {
    /// Prompts, one JSON object `{"id", "prompt" or "messages"}` a line.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) prompts: PathBuf,
    /// The interface.
    #[arg(long, value_enum, default_value_t = ApiArg::Chat)]
    pub(crate) api: ApiArg,
    /// The model's name there.
    #[arg(long)]
    pub(crate) model: String,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub(crate) max_tokens: u32,
    /// Temperature.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Most probable tokens up to this probability.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// Answers to each prompt.
    #[arg(long, default_value_t = 1)]
    pub(crate) samples: u32,
    /// Answers at most [default: one for every sample of every prompt].
    #[arg(long, value_name = "N")]
    pub(crate) budget_answers: Option<u64>,
    /// Tokens of all answers at most [default: as many as the answers can have].
    #[arg(long, value_name = "N")]
    pub(crate) budget_tokens: Option<u64>,
}

/// The effect that is assumed, for a forecast.
#[derive(Args)]
#[command(next_help_heading = "Forecast")]
pub(crate) struct PlanForecastArgs {
    /// Mean excess of a cell's score over chance (share of ones, or nats).
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        conflicts_with = "share"
    )]
    pub(crate) mean_excess: Option<f64>,
    /// Share of marked text in the suspect's training data; the excess is read from --dose-curve.
    #[arg(long, value_name = "S", requires = "dose_curve")]
    pub(crate) share: Option<f64>,
    /// Effects of calibration students at known shares (`watermark.dose-curve/1`).
    #[arg(long, value_name = "FILE.json", requires = "share")]
    pub(crate) dose_curve: Option<PathBuf>,
    /// Probability of rejection that is asked for.
    #[arg(long, default_value_t = 0.9)]
    pub(crate) power: f64,
    /// Distinct cells a token of the suspect.
    #[arg(long, default_value_t = 0.7)]
    pub(crate) cells_per_token: f64,
}

/// How often a result is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LooksArg {
    /// Once, when all is there.
    Once,
    /// After every answer: by the e-value of closed-cells alone.
    Anytime,
}

/// A control of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ControlArg {
    /// Its answers.
    Answers,
    /// Its distributions on the neutral text.
    OpenWeights,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApiArg {
    /// Chat completions.
    Chat,
    /// Completions of a text.
    Completions,
}
