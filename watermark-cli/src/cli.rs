//! The command tree.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod collect;
mod distill;
mod explain;
mod key;
mod plan;
mod preflight;
mod report;
mod schema;
mod serve;

pub(crate) use collect::{
    AccessArgs, Api, CapArgs, Collect, CollectImport, CollectResume, CollectRun, CollectStatus,
    PaceArgs, ShapeArgs, UntilKeyArgs,
};
pub(crate) use distill::{Distill, OpenArgs};
pub(crate) use explain::{Explain, ExplainFormat};
pub(crate) use key::{Commit, Inspect, Key, KeyArgs, KeySource, Open, RecipeArgs, Rotate};
pub(crate) use plan::{ApiArg, ControlArg, LooksArg, New, Plan, Power};
pub(crate) use preflight::Preflight;
pub(crate) use report::{Report, ReportArgs};
pub(crate) use schema::Schema;
pub(crate) use serve::Serve;

/// Mark a language model's outputs, and test who was trained on them.
#[derive(Parser)]
#[command(name = "watermark", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The whole loop on the embedded model: mark, train two students, test both.
    Demo(Demo),
    /// Make keys, look at them, commit to them before their first use, open and rotate them.
    #[command(subcommand)]
    Key(Key),
    /// Write marked text with a language model.
    Generate(Generate),
    /// Is a text marked? One line an input, and one for all together.
    Detect(Detect),
    /// Was a suspect model trained on marked text? Tests its generations, and its weights where they
    /// can be read.
    Distill(Box<Distill>),
    /// What will be tested, before anything is collected: how much it needs, and the plan, sealed.
    #[command(subcommand)]
    Plan(Plan),
    /// Ask a suspect, and keep every answer so that others can check it.
    #[command(subcommand)]
    Collect(Collect),
    /// A report of `distill` as a page, as Markdown, or checked.
    #[command(subcommand)]
    Report(Report),
    /// A text token by token: scored, skipped and why.
    Explain(Explain),
    /// Detection as a service, on the loopback interface by default.
    Serve(Serve),
    /// JSON Schemas of everything that is read or printed as JSON.
    #[command(subcommand)]
    Schema(Schema),
    /// Checks this installation: what works, what is missing and how to get it.
    Doctor(Doctor),
    /// Completions for a shell, on standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Manual pages.
    Man {
        /// Folder for one page a command [default: the page of `watermark` on standard output].
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// Telling in place of doing.
#[derive(Args, Clone, Copy)]
pub(crate) struct DryArgs {
    /// Check what can be refused, say what would be read, sent, tested and written, and stop there.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON object.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// Which mark and vocabulary.
#[derive(Args)]
pub(crate) struct MarkArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Built-in profile or profile file.
    #[arg(long, value_name = "NAME|FILE.json", default_value = watermark_core::profile::BUILT_IN[0])]
    pub(crate) profile: String,
    /// The tokenizer that token ids belong to [default: that of the embedded model].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) tokenizer: Option<PathBuf>,
}

/// When a result counts as a rejection.
#[derive(Args)]
pub(crate) struct PolicyArgs {
    /// Reject at p at most this.
    #[arg(long, default_value_t = 1e-5)]
    pub(crate) alpha: f64,
    /// Fewer scored cells are insufficient evidence.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) min_cells: u64,
    /// Exit with 10, 11 or 12 for rejected, not rejected, insufficient evidence.
    #[arg(long)]
    pub(crate) exit_verdict: bool,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// Changes key, data and initialisation.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Built-in profile or profile file.
    #[arg(long, value_name = "NAME|FILE.json", default_value = watermark_core::profile::BUILT_IN[0])]
    pub(crate) profile: String,
    /// Directory for figure, report and texts.
    #[arg(long, default_value = "watermark-demo")]
    pub(crate) out: PathBuf,
    /// Threads; the numbers do not depend on it.
    #[arg(long, default_value_t = threads())]
    pub(crate) threads: std::num::NonZeroUsize,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) mark: MarkArgs,
    /// A GGUF file of architecture llama or gemma3 [default: the embedded model].
    #[arg(long, value_name = "FILE.gguf")]
    pub(crate) model: Option<PathBuf>,
    /// Prompts, JSONL with a field `prompt` or `prompt_token_ids` [default: embedded ones].
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) prompts: Option<PathBuf>,
    /// Answers in all; prompts are used in turn [default: one a prompt].
    #[arg(long)]
    pub(crate) count: Option<usize>,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 200)]
    pub(crate) max_tokens: usize,
    /// Temperature; 0 is greedy and carries no mark.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) temperature: f32,
    /// Keep the most probable tokens up to this probability.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f32,
    /// Decides everything but the mark.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write without the mark: text for controls.
    #[arg(long)]
    pub(crate) unmarked: bool,
    /// Threads; the answers do not depend on it.
    #[arg(long, default_value_t = threads())]
    pub(crate) threads: std::num::NonZeroUsize,
    /// The file to write; it appears when it is complete [default: standard output].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
}

#[derive(Args)]
pub(crate) struct Detect {
    #[command(flatten)]
    pub(crate) mark: MarkArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Files or directories of .txt, .jsonl and .parquet files; `-` reads standard input.
    #[arg(required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// Look for marked passages in each input, with p corrected for the search. The verdict on an input
    /// is by this p, which counts the whole input as one of the windows.
    #[arg(long)]
    pub(crate) windows: bool,
    /// Keys nobody used whose scans are ranked beside this one: unused slots of the epoch.
    #[arg(long, default_value_t = 0, requires = "windows")]
    pub(crate) decoys: usize,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// What inputs are.
#[derive(Args)]
pub(crate) struct FormArgs {
    /// What the inputs are; by default names ending in .jsonl and .parquet say so, and all else
    /// is text.
    #[arg(long, value_enum, default_value_t = InputForm::Auto)]
    pub(crate) input: InputForm,
    /// Requests (a batch's input file) that the answers belong to by `custom_id`: what stands in
    /// them is no evidence.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) requests: Vec<PathBuf>,
}

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputForm {
    /// By the file's name.
    Auto,
    /// One text a file.
    Text,
    /// One object a line.
    Jsonl,
    /// One answer a row.
    Parquet,
}

fn threads() -> std::num::NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN)
}
