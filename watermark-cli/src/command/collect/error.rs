//! Why a collection cannot begin, go on or be read.

use std::path::{Path, PathBuf};

use watermark_core::evidence::plan::{PlanError, PromptError};

use super::transcript::Broken;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error("{0}")]
    Usage(String),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has a collection already; go on with it: watermark collect resume {}", .0.display(), .0.display())]
    Exists(PathBuf),
    #[error("{} has no collection (no collection.json); begin one with watermark collect run", .0.display())]
    NoCollection(PathBuf),
    #[error("another collector writes {} at this moment; wait for its end, or stop it", .0.display())]
    Locked(PathBuf),
    #[error("{}: a transcript with a broken chain: {source}", path.display())]
    Chain { path: PathBuf, source: Broken },
    #[error("{} was changed after the collection began: its digest is {found}, and collection.json says {wanted}", path.display())]
    Changed {
        path: PathBuf,
        wanted: String,
        found: String,
    },
    #[error("{}: {message}", path.display())]
    Content { path: PathBuf, message: String },
    #[error("{}: {source}", path.display())]
    Plan { path: PathBuf, source: PlanError },
    #[error("{}: {source}", path.display())]
    Prompts { path: PathBuf, source: PromptError },
    #[error(
        "{what}: this is our own service, or a relay of it. Its text carries the mark because we wrote it, and says nothing about what a suspect was trained on; find out who relays it"
    )]
    OwnService { what: String },
    #[error("the HTTP client cannot be made: {0}")]
    Client(String),
}

impl CollectError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// 2 usage, 3 a verification failed, 4 invalid data, 1 the rest.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Exists(_) | Self::NoCollection(_) => 2,
            Self::Chain { .. } | Self::Changed { .. } => 3,
            Self::Plan {
                source: PlanError::Digest { .. },
                ..
            }
            | Self::Prompts {
                source: PromptError::Changed { .. },
                ..
            } => 3,
            Self::Content { .. }
            | Self::Plan { .. }
            | Self::Prompts { .. }
            | Self::OwnService { .. } => 4,
            Self::Io { .. } | Self::Locked(_) | Self::Client(_) => 1,
        }
    }
}
