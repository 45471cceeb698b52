//! Detection as a service: an HTTP API over marks whose keys the server owns.
//!
//! | route | who | what |
//! |---|---|---|
//! | `POST /v1/detect` | roles verdict, scores | three-way verdicts; numbers for the role scores |
//! | `POST /v1/explain` | role scores | a text token by token |
//! | `POST /v1/slot` | role provider | the mark of an account, for inference servers |
//! | `GET /healthz`, `/readyz` | anybody | alive; ready, with a known-answer test |
//! | `GET /openapi.json` | anybody | the description of this API |
//! | `GET`, `POST /` | a browser on the same host, with a token | a text and its explanation |
//!
//! # What a client learns
//!
//! A score is an oracle: who can ask for scores of texts of his own making can learn which tokens a window
//! favours, and then write or avoid the mark without the key. So scores, and explanations, are for the role
//! `scores` alone. A three-way verdict is an oracle too, of a bit a text: a token's texts a minute are limited,
//! and verdict tokens belong to people who are trusted not to search with them. The verdict of a text is at the
//! mark's own alpha; of many texts that many more are rejected by chance.
//!
//! A client cannot choose a key: a request that names a slot, an epoch or a key is refused. Key ids are public names,
//! and the header `x-watermark-key-id` of every answer holds that of the first mark.
//!
//! # Files
//!
//! `config` is the form of the file, `state` what is made from it, whole or not at all; `routes` is the one list
//! of routes, from which router and description are made.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::Format;
use crate::dry::DryRun;
use crate::error::CliError;

mod api;
mod cohort;
mod config;
mod known;
mod log;
mod openapi;
mod page;
mod problem;
mod routes;
mod server;
mod state;
mod token;
mod work;

pub(crate) use server::run;

/// Forms of what is written, read and printed.
pub(crate) mod forms {
    pub(crate) use super::state::Service;
    #[cfg(test)]
    pub(crate) use super::{
        cohort::Line as CohortLine, config::Config, log::LogLine, server::Listening,
    };
}

/// The description of the API, OpenAPI 3.1.
#[cfg(test)]
pub(crate) fn description() -> serde_json::Value {
    openapi::document()
}

/// Why the service does not start, or keeps its old state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}{}: {message}", path.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Config {
        path: PathBuf,
        line: Option<usize>,
        message: String,
    },
    #[error("token `{name}`: {message}")]
    Token { name: String, message: String },
    #[error("mark `{name}`: {source}")]
    Mark { name: String, source: Box<CliError> },
    #[error("the known-answer test failed: {0}; this build must not be used on this machine")]
    KnownAnswer(String),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the service: {0}")]
    Runtime(std::io::Error),
}

impl ServeError {
    fn config(path: &Path, line: Option<usize>, message: impl Into<String>) -> Self {
        Self::Config {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }

    /// As [`CliError::exit_code`].
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Listen { .. } | Self::Runtime(_) | Self::KnownAnswer(_) => 1,
            Self::Config { .. } | Self::Token { .. } => 4,
            Self::Mark { source, .. } => source.exit_code(),
        }
    }
}

/// Opens everything and says what there is, without listening.
pub(crate) fn check(config: &Path, listen: Option<SocketAddr>) -> Result<(), ServeError> {
    let state = state::State::open(config, listen)?;
    known::test().map_err(ServeError::KnownAnswer)?;
    let marks = state.marks.iter();
    marks
        .fold(DryRun::of("serve"), |dry, open| dry.mark(&open.mark))
        .reads("service", state.files(config))
        .service(state.summary())
        .print(Format::Json);
    Ok(())
}
