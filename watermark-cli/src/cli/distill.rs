//! Arguments of `distill`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use watermark_core::detect::TestId;

use super::{DryArgs, FormArgs, Format, MarkArgs, PolicyArgs, threads};

/// All that `distill` can be given. Every test asks whether the suspect is independent of the key;
/// they make one family, and the verdict is by p-values adjusted for all of them (Holm).
///
/// Log-probabilities are JSONL, one text a line: the tool's own form (`token_ids`, `logprobs`), outputs of vLLM
/// with `prompt_logprobs`, and responses of chat completions and completions with `logprobs`.
#[derive(Args)]
pub(crate) struct Distill {
    #[command(flatten)]
    pub(crate) mark: MarkArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// The suspect's generations: files or directories; `-` reads standard input.
    #[arg(required_unless_present = "open_suspect")]
    pub(crate) suspect: Vec<PathBuf>,
    /// Generations of a model known to be innocent; repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) control: Vec<PathBuf>,
    /// Keys nobody used to score beside this one: unused slots of the epoch; 0 for none.
    #[arg(long, default_value_t = 1000)]
    pub(crate) decoys: usize,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// Log-probabilities of a reference model on the suspect's own answers, in their order. The reference
    /// must be older than the key's first use, and its logits never have come from the marked endpoint.
    #[arg(long, value_name = "FILE", help_heading = "Closed models")]
    pub(crate) reference: Option<PathBuf>,
    /// Clean text of the teacher's kind, fixed before the key's first use: cells that are frequent in it
    /// weigh more; repeatable.
    #[arg(long, value_name = "FILE", help_heading = "Closed models")]
    pub(crate) corpus: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) logs: LogArgs,
    /// The family: only these tests, by name, separated by commas. Choose before any result is seen:
    /// picked afterwards they are no family. [default: all that the evidence allows, but open-argmax]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = test)]
    pub(crate) tests: Vec<TestId>,
    /// Ask in both directions: p becomes twice the smaller tail.
    #[arg(long)]
    pub(crate) two_sided: bool,
    /// Effects of calibration students at known shares of marked training data
    /// (`watermark.dose-curve/1`): prints the share that the suspect's effect speaks for, the
    /// calibration model's estimate.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) dose_curve: Option<PathBuf>,
    /// The report file, for `watermark report`: the report with its figures, materials and custody. It appears
    /// when it is complete.
    #[arg(long, value_name = "REPORT.json", conflicts_with = "watch")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sealed: SealedArgs,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
    /// Threads; the report does not depend on it.
    #[arg(long, default_value_t = threads())]
    pub(crate) threads: NonZeroUsize,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// Weights that can be read: distributions along neutral text that was fixed before the key's first
/// use, as log-probabilities or by a model that is read here.
#[derive(Args)]
#[command(next_help_heading = "Open weights")]
pub(crate) struct OpenArgs {
    /// The suspect on neutral text: log-probabilities, or a model to be read here.
    #[arg(long, value_name = "FILE.jsonl|FILE.gguf")]
    pub(crate) open_suspect: Option<PathBuf>,
    /// A reference on the same text: the suspect's base, or a model trained like the suspect on unmarked
    /// text; repeatable, several are averaged.
    #[arg(long, value_name = "FILE.jsonl|FILE.gguf", requires = "open_suspect")]
    pub(crate) open_reference: Vec<PathBuf>,
    /// A model known to be innocent on the same text.
    #[arg(long, value_name = "FILE.jsonl|FILE.gguf", requires = "open_suspect")]
    pub(crate) open_control: Option<PathBuf>,
    /// What models read here (text, JSONL or Parquet) [default: the texts of the log-probabilities given
    /// beside them, else an embedded text].
    #[arg(long, value_name = "FILE", requires = "open_suspect")]
    pub(crate) neutral: Option<PathBuf>,
}

/// What was written under the key. The logs must be complete: retries and drafts too.
#[derive(Args)]
#[command(next_help_heading = "Logs of the text under the key")]
pub(crate) struct LogArgs {
    /// Transcripts written under the key, complete, in the order of writing: files or directories (in
    /// the order of their paths); repeatable.
    #[arg(long, value_name = "PATH", requires = "suspect")]
    pub(crate) logs: Vec<PathBuf>,
    /// Cells of the supervised test, fixed before the logs were read; if the logs do not reach as many, p is 1.
    /// Without it the logs give an e-value only.
    #[arg(long, value_name = "N", requires = "logs", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) supervised_cells: Option<u64>,
    /// Log-probabilities of the suspect on these logs, all of them, in the order of writing. Every text
    /// ends with an answer of the logs, which says where the answer starts; before it may stand the prompt.
    /// None may be missing: which requests fail can depend on the key.
    #[arg(long, value_name = "FILE", requires = "logs", requires = "reading_top")]
    pub(crate) reading: Option<PathBuf>,
    /// Most probable tokens that every position of --reading was asked for, at least 1. Further
    /// entries are not read: a server adds the text's own token, and a bet on that would be no bet.
    #[arg(long, value_name = "K", requires = "reading")]
    pub(crate) reading_top: Option<usize>,
}

/// What was fixed beforehand.
#[derive(Args)]
#[command(next_help_heading = "Sealed beforehand")]
pub(crate) struct SealedArgs {
    /// A plan of `plan seal`. Profile, key, tests, alpha and all else that it names come from it; the
    /// verdict is under the plan. Without one a result is exploratory.
    #[arg(
        long,
        value_name = "SEALED.json",
        conflicts_with_all = [
            "profile", "epoch", "slot", "alpha", "min_cells", "decoys", "tests", "two_sided", "supervised_cells",
        ]
    )]
    pub(crate) plan: Option<PathBuf>,
    /// The file of the plan's prompts, whose digest it holds.
    #[arg(long, value_name = "FILE.jsonl", requires = "plan")]
    pub(crate) prompts: Option<PathBuf>,
    /// Tests beyond the plan, reported apart: a family of their own, which no verdict reads.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = test,
        requires = "plan",
        conflicts_with = "watch"
    )]
    pub(crate) explore: Vec<TestId>,
    /// The commitment of `key commit`: refuses a key, a profile or a tokenizer that it does not bind.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) commitment: Option<PathBuf>,
}

/// A test that may be looked at after every answer.
#[derive(Args)]
#[command(next_help_heading = "Any-time test")]
pub(crate) struct WatchArgs {
    /// Takes in the answers behind those that this file holds, looks once, and keeps everything in
    /// it. The inputs are all answers so far, in the order in which they came, none left out. The verdict is
    /// by E alone, which may be looked at any time; no other test is run.
    #[arg(
        long,
        value_name = "STATE.json",
        requires = "suspect",
        conflicts_with_all = [
            "control", "reference", "corpus", "open_suspect", "logs", "tests", "two_sided", "dose_curve",
        ]
    )]
    pub(crate) watch: Option<PathBuf>,
    /// Cells that one is willing to collect: says when reaching 1/alpha has become improbable.
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) planned_cells: Option<u64>,
}

/// A member of the family by its name.
pub(super) fn test(name: &str) -> Result<TestId, String> {
    // The control is no test of the family.
    let family = TestId::ALL
        .into_iter()
        .filter(|&id| id != TestId::NeverEmitted);
    let found = family.clone().find(|id| id.name() == name);
    found.ok_or_else(|| {
        let known: Vec<_> = family.map(TestId::name).collect();
        format!("no such test; tests are {}", known.join(", "))
    })
}
