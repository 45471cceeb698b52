//! What went wrong, and the exit code that says so.

use std::path::PathBuf;

use watermark_core::anytime::StateError;
use watermark_core::battery::Mismatch;
use watermark_core::candidates::SamplingError;
use watermark_core::distill::DistillError;
use watermark_core::effect::DoseError;
use watermark_core::evidence::commitment::{CommitmentError, OpeningError};
use watermark_core::evidence::epochs::EpochsError;
use watermark_core::evidence::plan::{PlanError, PromptError};
use watermark_core::key::{EpochError, KeyFileError};
use watermark_core::profile::ProfileError;
use watermark_core::reading::ReadingError;
use watermark_core::report::file::ReportFileError;
use watermark_core::text::TokenizerError;
use watermark_eval::demo::DemoError;
use watermark_eval::model::ModelError;
use watermark_eval::model::gguf::GgufError;
use watermark_eval::reading::ReadError;

use crate::command::collect::error::CollectError;
use crate::input::InputError;
use crate::render::figure::FigureError;
use crate::serve::ServeError;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("key command `{program}` {what}")]
    KeyCommand { program: String, what: String },
    #[error(
        "{option} takes {wanted}, not the key itself, which other processes and the shell's history have now: rotate the key"
    )]
    KeyInArgument {
        option: &'static str,
        wanted: &'static str,
    },
    #[error("{0} needs the master key; the key file holds one slot")]
    NeedsMaster(&'static str),
    #[error("{}: {source}", path.display())]
    Commitment {
        path: PathBuf,
        source: CommitmentError,
    },
    #[error("{}: {source}", path.display())]
    Opening { path: PathBuf, source: OpeningError },
    #[error(
        "slot {slot} is not opened: epoch {epoch} is in use, or not known to be out of use; give --epochs with a file that says so (`key rotate` writes it), or type out --i-know-this-lets-anyone-forge-slot"
    )]
    EpochInUse { epoch: String, slot: u32 },
    #[error("{}: {source}", path.display())]
    Epochs { path: PathBuf, source: EpochsError },
    #[error("{} exists already, and is not overwritten: choose another name", .0.display())]
    FileExists(PathBuf),
    #[error("{}: {source}", path.display())]
    Plan { path: PathBuf, source: PlanError },
    #[error("{}: {source}", path.display())]
    Prompts { path: PathBuf, source: PromptError },
    #[error("under the plan: {0}")]
    UnderPlan(#[from] crate::command::UnderPlan),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error("slot {0} is a sealed decoy; slots 0 to 32 may mark text")]
    DecoySlot(u32),
    #[error("the key file holds one slot, {held}; --epoch and --slot choose slots of a master key")]
    SlotMismatch { held: String },
    #[error("profile {name}: {source}")]
    Profile { name: String, source: ProfileError },
    #[error(
        "profile `{name}` is neither a built-in one nor a file; built in are: {known}; of other engines: {others}",
        known = watermark_core::profile::BUILT_IN.join(", "),
        others = watermark_core::profile::COMPATIBLE.join(", ")
    )]
    UnknownProfile { name: String },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Distill(#[from] DistillError),
    #[error("--reading: {0}")]
    Bet(#[from] ReadingError),
    #[error(
        "{}: {skipped} failed requests and {unknown} tokens without an id; a reading needs every text of the logs whole, since what is missing may depend on the key: ask again, for token ids", path.display()
    )]
    IncompleteReading {
        path: PathBuf,
        skipped: u64,
        unknown: u64,
    },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("--decoys {asked}: an epoch has {sealed} sealed decoys", sealed = watermark_core::key::SLOTS - watermark_core::key::ACTIVE_SLOTS)]
    TooManyDecoys { asked: usize },
    #[error(
        "--decoys needs the master key: decoys are unused slots of its epoch, which a slot key cannot make; give the master key file, or --decoys 0"
    )]
    DecoysNeedMaster,
    #[error(
        "the key file holds another engine's key, which has no epoch and no slots; leave --epoch and --slot out"
    )]
    EngineKeyHasNoSlots,
    #[error(
        "the key file holds another engine's key, and only keys of ours are committed to; leave --commitment out"
    )]
    EngineKeyNotCommitted,
    #[error("the suspect's reading of the logs: {0}")]
    Reading(Mismatch),
    #[error("{}: {source}", path.display())]
    Dose { path: PathBuf, source: DoseError },
    #[error("{}: {source}", path.display())]
    State { path: PathBuf, source: StateError },
    #[error(
        "{}: answer {answer} of the state is not the one given; give all answers so far, in the order in which they came, and the new ones behind them", path.display()
    )]
    StateAnswers { path: PathBuf, answer: usize },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "{}: the model's tokenizer is not the one of the mark's token ids; give log-probabilities by those ids instead, or the tokenizer with --tokenizer", .0.display()
    )]
    OtherTokenizer(PathBuf),
    #[error(
        "configuration {}, line {line}: `{field}` is no field, or its value has the wrong type; fields are {known}; texts stand in quotes", path.display()
    )]
    Config {
        path: PathBuf,
        line: usize,
        field: String,
        known: String,
    },
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error("{0}")]
    Usage(String),
    #[error("{}: {source}", path.display())]
    ReportFile {
        path: PathBuf,
        source: ReportFileError,
    },
    #[error("figure: {0}")]
    ReportFigure(#[from] FigureError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("figure: {0}")]
    Figure(#[from] watermark_eval::plot::PlotError),
}

impl CliError {
    /// 2 for usage, 3 for a verification that failed, 4 for invalid data, 1 for the rest.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Commitment { source, .. } if source.is_verification() => 3,
            Self::Opening { source, .. } if source.is_verification() => 3,
            Self::Plan {
                source: PlanError::Digest { .. },
                ..
            }
            | Self::Prompts {
                source: PromptError::Changed { .. },
                ..
            } => 3,
            Self::UnderPlan(error) => error.exit_code(),
            Self::Commitment {
                source: CommitmentError::NoSlot(_),
                ..
            }
            | Self::Epochs {
                source: EpochsError::Used(_) | EpochsError::NotCurrent(_),
                ..
            }
            | Self::KeyInArgument { .. }
            | Self::NeedsMaster(_)
            | Self::EpochInUse { .. }
            | Self::FileExists(_) => 2,
            Self::Commitment { .. }
            | Self::Opening { .. }
            | Self::Epochs { .. }
            | Self::Plan { .. }
            | Self::Prompts { .. } => 4,
            Self::KeyCommand { .. } => 1,
            Self::Usage(_)
            | Self::UnknownProfile { .. }
            | Self::Epoch(_)
            | Self::DecoySlot(_)
            | Self::SlotMismatch { .. }
            | Self::TooManyDecoys { .. }
            | Self::DecoysNeedMaster
            | Self::EngineKeyHasNoSlots
            | Self::EngineKeyNotCommitted
            | Self::Sampling(_)
            | Self::Key(KeyFileError::Exists(_)) => 2,
            Self::Key(KeyFileError::Io { .. }) | Self::Io { .. } => 1,
            Self::Input(InputError::Io { .. }) | Self::Tokenizer(TokenizerError::Io { .. }) => 1,
            Self::Input(InputError::Chain { .. }) => 3,
            Self::Collect(error) => error.exit_code(),
            Self::Gguf(GgufError::Io { .. }) => 1,
            Self::ReportFile {
                source: ReportFileError::Contradiction { .. },
                ..
            } => 3,
            Self::ReportFile { .. } => 4,
            Self::Key(_)
            | Self::Config { .. }
            | Self::Profile { .. }
            | Self::Tokenizer(_)
            | Self::Input(_)
            | Self::Gguf(_)
            | Self::Distill(_)
            | Self::Bet(_)
            | Self::IncompleteReading { .. }
            | Self::Reading(_)
            | Self::Dose { .. }
            | Self::State { .. }
            | Self::StateAnswers { .. }
            | Self::OtherTokenizer(_)
            | Self::Read(ReadError::Distribution { .. }) => 4,
            Self::Read(_)
            | Self::Model(_)
            | Self::Demo(_)
            | Self::Figure(_)
            | Self::ReportFigure(_) => 1,
            Self::Serve(error) => error.exit_code(),
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
