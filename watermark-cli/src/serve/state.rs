//! What the service works with: marks, tokens and cohorts, opened together or not at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::profile::{Mark, Profile};
use watermark_core::text::HfTokenizer;
use watermark_core::verdict::Policy;

use super::ServeError;
use super::cohort::Cohorts;
use super::config::{Config, MarkConfig};
use super::token::Token;
use crate::cli::{KeyArgs, KeySource};
use crate::error::CliError;
use crate::schema::{Type, Version};

/// A mark, ready to test texts. The key itself is gone: what scoring needs is inside the mark.
pub(super) struct OpenMark {
    pub(super) name: String,
    pub(super) mark: Mark,
    pub(super) tokenizer: Arc<HfTokenizer>,
    pub(super) policy: Policy,
    key: KeyArgs,
}

impl OpenMark {
    fn open(
        config: &MarkConfig,
        tokenizers: &mut HashMap<Option<PathBuf>, Arc<HfTokenizer>>,
    ) -> Result<Self, CliError> {
        let wrap = |source| CliError::Profile {
            name: config.profile.clone(),
            source,
        };
        let profile: Profile = crate::mark::profile(&config.profile)?;
        let tokenizer = match tokenizers.get(&config.tokenizer) {
            Some(tokenizer) => Arc::clone(tokenizer),
            None => {
                let opened = Arc::new(crate::mark::tokenizer(config.tokenizer.as_deref())?);
                tokenizers.insert(config.tokenizer.clone(), Arc::clone(&opened));
                opened
            }
        };
        profile.check_tokenizer(&*tokenizer).map_err(wrap)?;
        let key = KeyArgs {
            source: KeySource {
                key_file: Some(config.key_file.clone()),
                key_command: None,
                allow_insecure_key_perms: false,
            },
            epoch: config.epoch.clone(),
            slot: config.slot,
        };
        Ok(Self {
            name: config.name.clone(),
            mark: key.read_any()?.bind(&profile, &config.profile)?,
            tokenizer,
            policy: Policy {
                alpha: config.alpha,
                min_cells: config.min_cells,
            },
            key,
        })
    }

    /// Whether the key file still holds this mark's key. The reason names no file.
    pub(super) fn check_key(&self) -> Result<(), String> {
        match self.key.read_any() {
            Ok(held) if held.key_id() == self.mark.key_id() => Ok(()),
            Ok(_) => Err(format!(
                "mark `{}`: its key file holds another key",
                self.name
            )),
            Err(_) => Err(format!("mark `{}`: its key file cannot be used", self.name)),
        }
    }
}

/// Everything that a reload exchanges.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) marks: Vec<Arc<OpenMark>>,
    pub(super) tokens: Vec<Token>,
    pub(super) cohorts: Option<Cohorts>,
}

impl State {
    /// Opens everything that a configuration names.
    pub(super) fn open(path: &Path, listen: Option<SocketAddr>) -> Result<Self, ServeError> {
        let config = Config::read(path, listen)?;
        let mut tokenizers = HashMap::new();
        let mut marks = Vec::new();
        for mark in &config.marks {
            let opened =
                OpenMark::open(mark, &mut tokenizers).map_err(|source| ServeError::Mark {
                    name: mark.name.clone(),
                    source: Box::new(source),
                })?;
            marks.push(Arc::new(opened));
        }
        let tokens = config
            .tokens
            .iter()
            .map(Token::read)
            .collect::<Result<_, _>>()?;
        let cohorts = config
            .cohort
            .as_ref()
            .map(|cohort| Cohorts::read(cohort, &marks))
            .transpose()?;
        Ok(Self {
            config,
            marks,
            tokens,
            cohorts,
        })
    }

    /// The mark of a name, or the first.
    pub(super) fn mark(&self, name: Option<&str>) -> Option<&Arc<OpenMark>> {
        match name {
            None => self.marks.first(),
            Some(name) => self.marks.iter().find(|mark| mark.name == name),
        }
    }

    /// The files that it was made from.
    pub(super) fn files(&self, config: &Path) -> Vec<PathBuf> {
        let marks = self.config.marks.iter().flat_map(|mark| {
            let profile = Profile::built_in(&mark.profile)
                .is_none()
                .then(|| PathBuf::from(&mark.profile));
            [Some(mark.key_file.clone()), mark.tokenizer.clone(), profile]
        });
        let tokens = self.config.tokens.iter().map(|token| token.file.clone());
        let cohort = self
            .config
            .cohort
            .as_ref()
            .map(|cohort| cohort.file.clone());
        marks
            .chain(tokens)
            .chain([cohort, Some(config.to_owned())])
            .flatten()
            .collect()
    }

    /// What there is, for the log and for dry runs.
    pub(super) fn summary(&self) -> Service {
        let marks = self.marks.iter().map(|open| {
            let label = open.mark.label();
            ServedMark {
                name: open.name.clone(),
                profile: open.mark.profile().id.clone(),
                key_id: open.mark.key_id().to_string(),
                epoch: label.epoch.to_string(),
                slot: label.index,
                alpha: open.policy.alpha,
                min_cells: open.policy.min_cells,
            }
        });
        Service {
            schema: Version,
            listen: self.config.listen,
            marks: marks.collect(),
            tokens: self.tokens.len(),
            cohort_accounts: self.cohorts.as_ref().map_or(0, Cohorts::len),
            page: self.config.serves_page(),
        }
    }
}

/// What a service has: marks by name, and how many tokens and accounts.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.service", rename_all = "camelCase")]
#[schemars(transform = Type("watermark.service"))]
pub(crate) struct Service {
    schema: Version,
    listen: SocketAddr,
    marks: Vec<ServedMark>,
    /// Bearer tokens.
    tokens: usize,
    cohort_accounts: usize,
    /// Whether the page is served.
    page: bool,
}

/// A mark that is served.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ServedMark {
    name: String,
    profile: String,
    key_id: String,
    epoch: String,
    slot: u32,
    alpha: f64,
    min_cells: u64,
}

/// What tells that a file was changed: its time, length and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(SystemTime, u64, u64)>);

impl Stamp {
    /// Of a file; of one that cannot be asked, none.
    pub(super) fn of(path: &Path) -> Self {
        let stamp = std::fs::metadata(path).ok().and_then(|metadata| {
            #[cfg(unix)]
            let number = std::os::unix::fs::MetadataExt::ino(&metadata);
            #[cfg(not(unix))]
            let number = 0;
            Some((metadata.modified().ok()?, metadata.len(), number))
        });
        Self(stamp)
    }
}
