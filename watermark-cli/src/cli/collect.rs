//! Arguments of `collect`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DryArgs, Format};

/// Answers of a suspect behind an OpenAI-compatible endpoint, kept so that a stranger can check them.
///
/// A collection is a directory: `collection.json` (what is asked, fixed at the start), `prompts.jsonl` (the requests,
/// in the form of a batch's input file), `transcript.jsonl` (every response in the form of a batch's output file, with its exact
/// bytes, each line chained to the one before it) and `events.log` (runs, and requests before they are sent). `distill`
/// and `detect` read the directory as it is.
#[derive(Subcommand)]
pub(crate) enum Collect {
    /// Begin a collection.
    Run(Box<CollectRun>),
    /// Go on with a collection: only what was not answered is asked.
    Resume(Box<CollectResume>),
    /// How far a collection is, and whether its chain holds.
    Status(CollectStatus),
    /// Bring answers that others collected into the same form, marked as imported.
    Import(CollectImport),
}

/// The two forms of endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    /// `/chat/completions`: messages.
    Chat,
    /// `/completions`: a text to go on from.
    Completions,
}

#[derive(Args)]
pub(crate) struct CollectRun {
    /// The directory to make; it must have no collection yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Base URL of the endpoint, for example https://host/v1. No user name or password in it.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: String,
    /// Which of its forms is asked [default: chat].
    #[arg(long, value_enum)]
    pub(crate) api: Option<Api>,
    /// The model's name at the endpoint.
    #[arg(long, value_name = "NAME", required_unless_present = "plan")]
    pub(crate) model: Option<String>,
    /// A packaged set (prose, code, reasoning, dialogue) or a file: JSONL with `prompt`, `messages` or whole
    /// requests (`custom_id`, `body`), or text with a prompt a line.
    #[arg(long, value_name = "SET|FILE", required_unless_present = "plan")]
    pub(crate) prompts: Option<String>,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    /// A sealed plan: prompts, model, parameters and budget are taken from it, and its digest is recorded.
    #[arg(long, value_name = "SEALED.json")]
    pub(crate) plan: Option<PathBuf>,
    /// A host of our own service: an endpoint there is refused; repeatable.
    #[arg(long, value_name = "HOST")]
    pub(crate) own_host: Vec<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) caps: CapArgs,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) until: UntilArgs,
    /// Say what would be sent, how often and at what cost at worst; opens no connection and writes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How the summary is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// What every request has in common. A file of whole requests keeps what stands in them.
#[derive(Args)]
#[command(next_help_heading = "Requests")]
pub(crate) struct ShapeArgs {
    /// Only the first prompts.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Ask every prompt so many times, round by round [default: 1].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: Option<u32>,
    /// A system message before each prompt.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Tokens of an answer at most [default: 512].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_tokens: Option<u64>,
    /// The field that says so; some servers want `max_completion_tokens` [default: max_tokens].
    #[arg(long, value_name = "FIELD")]
    pub(crate) max_tokens_field: Option<String>,
    /// Temperature [default: 1].
    #[arg(long)]
    pub(crate) temperature: Option<f64>,
    /// Keep the most probable tokens up to this probability.
    #[arg(long)]
    pub(crate) top_p: Option<f64>,
    /// Seed of the first request; each further one gets the next.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Ask for the log-probabilities of so many most probable tokens.
    #[arg(long, value_name = "K")]
    pub(crate) logprobs: Option<u32>,
    /// Further fields of every request, for example '{"return_token_ids": true}'.
    #[arg(long, value_name = "JSON")]
    pub(crate) extra: Option<String>,
}

/// How the endpoint is reached.
#[derive(Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// File of the API key, mode 0600.
    #[arg(long, value_name = "PATH", conflicts_with = "api_key_env")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Environment variable that holds the API key.
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,
    /// A further root of trust for TLS, PEM.
    #[arg(long, value_name = "FILE.pem")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Seconds to connect.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub(crate) connect_timeout: f64,
    /// Seconds that a request may take in all.
    #[arg(long, value_name = "S", default_value_t = 300.0)]
    pub(crate) timeout: f64,
    /// A larger response is refused.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub(crate) max_response_bytes: usize,
}

/// Caps over the whole collection, checked before a request is sent: what is on its way counts as the
/// most that it can become. Reached, the run stops with exit code 5 and can be resumed.
#[derive(Args, Clone)]
#[command(next_help_heading = "Caps")]
pub(crate) struct CapArgs {
    /// Requests, repeated attempts included.
    #[arg(long, value_name = "N")]
    pub(crate) max_requests: Option<u64>,
    /// Tokens of prompts and answers.
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens_total: Option<u64>,
    /// Money, in the unit of the prices.
    #[arg(
        long,
        value_name = "X",
        requires = "price_per_million_input",
        requires = "price_per_million_output"
    )]
    pub(crate) max_cost: Option<f64>,
    /// Price of a million tokens read.
    #[arg(long, value_name = "X", requires = "price_per_million_output")]
    pub(crate) price_per_million_input: Option<f64>,
    /// Price of a million tokens written.
    #[arg(long, value_name = "X", requires = "price_per_million_input")]
    pub(crate) price_per_million_output: Option<f64>,
}

/// Speed, and what to do about failures.
#[derive(Args)]
#[command(next_help_heading = "Pace")]
pub(crate) struct PaceArgs {
    /// Requests on their way at once, at most; fewer while the endpoint refuses for load.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) concurrency: u32,
    /// Attempts of a request in one run.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts: u32,
    /// Seconds before the second attempt; doubled for each further one, up to a minute, less a random part.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(crate) backoff: f64,
    /// Wait so many seconds at most where the endpoint says how long (Retry-After); longer, the run stops.
    #[arg(long, value_name = "S", default_value_t = 600.0)]
    pub(crate) max_retry_after: f64,
    /// Stop after so many failures in a row without an answer between them.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stop_after_failures: u32,
}

/// Tests while it collects, and stops when the test is decided or has become futile. The collector then
/// holds the key, and `collection.json` says so; a neutral collector runs without.
#[derive(Args)]
#[command(next_help_heading = "Any-time test")]
pub(crate) struct UntilArgs {
    /// Stop when E reaches 1/ALPHA. Needs --key-file or --key-command.
    #[arg(long, value_name = "ALPHA")]
    pub(crate) until: Option<f64>,
    /// Cells that one is willing to collect: says when reaching 1/ALPHA has become improbable.
    #[arg(long, value_name = "N", requires = "until", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) planned_cells: Option<u64>,
    #[command(flatten)]
    pub(crate) key: UntilKeyArgs,
    /// Built-in profile or profile file [default: greenlist-h1].
    #[arg(long, value_name = "NAME|FILE.json", requires = "until")]
    pub(crate) profile: Option<String>,
}

/// The key of an any-time test.
#[derive(Args)]
pub(crate) struct UntilKeyArgs {
    /// Key file, mode 0600; `-` reads standard input.
    #[arg(long, value_name = "PATH|-")]
    pub(crate) key_file: Option<PathBuf>,
    /// A command that prints the key line, for example `pass show watermark`. It is run without a shell.
    #[arg(long, value_name = "CMD", conflicts_with = "key_file")]
    pub(crate) key_command: Option<String>,
    /// Epoch of a master key [default: e1].
    #[arg(long)]
    pub(crate) epoch: Option<String>,
    /// Slot of a master key, 0 to 32 [default: 0].
    #[arg(long)]
    pub(crate) slot: Option<u32>,
    /// The tokenizer that token ids belong to [default: that of the embedded model].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) tokenizer: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct CollectResume {
    /// The collection.
    pub(crate) dir: PathBuf,
    /// Ask again what the endpoint refused for good.
    #[arg(long)]
    pub(crate) retry_refused: bool,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) caps: CapArgs,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) key: UntilKeyArgs,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
    /// How the summary is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct CollectStatus {
    /// The collection.
    pub(crate) dir: PathBuf,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct CollectImport {
    /// Files of answers (JSONL, any form that `detect` reads) and of the requests that they answer.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The directory to make; it must have no collection yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How the summary is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

impl UntilKeyArgs {
    /// Whether a key was given.
    pub(crate) fn is_given(&self) -> bool {
        self.key_file.is_some() || self.key_command.is_some()
    }
}
