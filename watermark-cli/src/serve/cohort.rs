//! Which mark an account's answers are written under: the server decides, not the client.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::ServeError;
use super::config::CohortConfig;
use super::state::OpenMark;
use super::token::from_hex;

/// A cohort file is read whole.
const MAX_BYTES: u64 = 1 << 28;

/// Accounts by the SHA-256 of their name, and the mark of each.
///
/// Only hashes are kept. The hash of a name that can be guessed can be found by guessing: let accounts be
/// pseudonyms, such as the keyed hashes of a ledger.
pub(super) struct Cohorts {
    accounts: HashMap<[u8; 32], usize>,
    default: usize,
}

/// A line of a file of cohorts: an account and its mark.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// SHA-256 of the account's pseudonym, in hexadecimal.
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    account_sha256: String,
    /// Its mark, by the name in the service's configuration.
    mark: String,
}

impl Cohorts {
    pub(super) fn read(config: &CohortConfig, marks: &[Arc<OpenMark>]) -> Result<Self, ServeError> {
        use std::io::Read;
        let io = |source| ServeError::Io {
            path: config.file.clone(),
            source,
        };
        let place = |name: &str| marks.iter().position(|mark| mark.name == name);
        let mut text = String::new();
        std::fs::File::open(&config.file)
            .map_err(io)?
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(io)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ServeError::config(
                &config.file,
                None,
                format!("more than {} MiB", MAX_BYTES >> 20),
            ));
        }
        let mut accounts = HashMap::new();
        let lines = text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let refuse =
                |message: String| ServeError::config(&config.file, Some(number + 1), message);
            let line: Line =
                serde_json::from_str(line).map_err(|error| refuse(error.to_string()))?;
            let account = from_hex(&line.account_sha256).ok_or_else(|| {
                refuse("field `account_sha256` is not 64 hexadecimal digits".to_owned())
            })?;
            let mark = place(&line.mark)
                .ok_or_else(|| refuse(format!("field `mark`: no [[mark]] `{}`", line.mark)))?;
            if accounts
                .insert(account, mark)
                .is_some_and(|old| old != mark)
            {
                return Err(refuse("the account has another mark above".to_owned()));
            }
        }
        let default = place(&config.default).ok_or_else(|| {
            ServeError::config(
                &config.file,
                None,
                "field `cohort.default` names no [[mark]]",
            )
        })?;
        Ok(Self { accounts, default })
    }

    /// The place of an account's mark in the list of marks.
    pub(super) fn of(&self, account: &str) -> usize {
        let hash: [u8; 32] = Sha256::digest(account.as_bytes()).into();
        self.accounts.get(&hash).copied().unwrap_or(self.default)
    }

    /// How many accounts have a mark of their own.
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }
}
