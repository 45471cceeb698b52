//! What went wrong, and the exit code that says so.

use std::path::PathBuf;

use watermark_core::anytime::StateError;
use watermark_core::battery::Mismatch;
use watermark_core::candidates::SamplingError;
use watermark_core::distill::DistillError;
use watermark_core::effect::DoseError;
use watermark_core::key::{EpochError, KeyFileError};
use watermark_core::profile::ProfileError;
use watermark_core::reading::ReadingError;
use watermark_core::text::TokenizerError;
use watermark_eval::demo::DemoError;
use watermark_eval::model::ModelError;
use watermark_eval::model::gguf::GgufError;
use watermark_eval::reading::ReadError;

use crate::input::InputError;
use crate::serve::ServeError;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error("slot {0} is a sealed decoy; slots 0 to 32 may mark text")]
    DecoySlot(u32),
    #[error("the key file holds one slot, {held}; --epoch and --slot choose slots of a master key")]
    SlotMismatch { held: String },
    #[error("profile {name}: {source}")]
    Profile { name: String, source: ProfileError },
    #[error(
        "profile `{name}` is neither a built-in one nor a file; built in are: {known}",
        known = watermark_core::profile::BUILT_IN.join(", ")
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
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("figure: {0}")]
    Figure(#[from] watermark_eval::plot::PlotError),
}

impl CliError {
    /// 2 for usage, 4 for invalid data, 1 for the rest.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::UnknownProfile { .. }
            | Self::Epoch(_)
            | Self::DecoySlot(_)
            | Self::SlotMismatch { .. }
            | Self::TooManyDecoys { .. }
            | Self::DecoysNeedMaster
            | Self::Sampling(_)
            | Self::Key(KeyFileError::Exists(_)) => 2,
            Self::Key(KeyFileError::Io { .. }) | Self::Io { .. } => 1,
            Self::Input(InputError::Io { .. }) | Self::Tokenizer(TokenizerError::Io { .. }) => 1,
            Self::Gguf(GgufError::Io { .. }) => 1,
            Self::Key(_)
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
            Self::Serve(error) => error.exit_code(),
            Self::Read(_) | Self::Model(_) | Self::Demo(_) | Self::Figure(_) => 1,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
