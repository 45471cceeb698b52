//! Key, profile and tokenizer from the arguments.

use std::path::Path;

use watermark_core::key::{ACTIVE_SLOTS, Epoch, Exposure, MasterKey, SLOTS, SecretKey, SlotKey};
use watermark_core::profile::{Mark, Profile};
use watermark_core::text::HfTokenizer;

use crate::cli::{KeyArgs, MarkArgs};
use crate::error::CliError;
use crate::keysource::Found;

/// A key as asked for: one slot, and the master where there is one.
pub(crate) struct Keys {
    pub(crate) slot: SlotKey,
    pub(crate) master: Option<MasterKey>,
    /// Who else could read the key file.
    pub(crate) exposure: Option<Exposure>,
}

impl KeyArgs {
    pub(crate) fn read(&self) -> Result<Keys, CliError> {
        let Found { key, exposure } = self.source.read()?;
        match key {
            SecretKey::Master(master) => {
                let epoch = Epoch::new(self.epoch.as_deref().unwrap_or("e1"))?;
                let index = self.slot.unwrap_or(0);
                if index >= ACTIVE_SLOTS {
                    return Err(CliError::DecoySlot(index));
                }
                Ok(Keys {
                    slot: master.slot(&epoch, index),
                    master: Some(master),
                    exposure,
                })
            }
            SecretKey::Slot(slot) => {
                let label = slot.label();
                let other_epoch = self
                    .epoch
                    .as_deref()
                    .is_some_and(|e| e != label.epoch.as_str());
                if other_epoch || self.slot.is_some_and(|index| index != label.index) {
                    return Err(CliError::SlotMismatch {
                        held: format!("{}/{}", label.epoch, label.index),
                    });
                }
                Ok(Keys {
                    slot,
                    master: None,
                    exposure,
                })
            }
        }
    }
}

/// A built-in profile by name, or a file.
pub(crate) fn profile(name: &str) -> Result<Profile, CliError> {
    if let Some(profile) = Profile::built_in(name) {
        return Ok(profile);
    }
    let path = Path::new(name);
    if !path.exists() {
        return Err(CliError::UnknownProfile {
            name: name.to_owned(),
        });
    }
    let text = crate::input::read_text(path)?;
    Profile::from_json(&text).map_err(|source| CliError::Profile {
        name: name.to_owned(),
        source,
    })
}

/// A tokenizer file, or that of the embedded model.
pub(crate) fn tokenizer(path: Option<&Path>) -> Result<HfTokenizer, CliError> {
    Ok(match path {
        Some(path) => HfTokenizer::from_file(path)?,
        None => {
            HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "of the embedded model")?
        }
    })
}

/// A profile and the tokenizer that its ids refer to.
pub(crate) fn recipe(
    name: &str,
    tokenizer_file: Option<&Path>,
) -> Result<(Profile, HfTokenizer), CliError> {
    let profile = profile(name)?;
    let tokenizer = tokenizer(tokenizer_file)?;
    profile
        .check_tokenizer(&tokenizer)
        .map_err(|source| CliError::Profile {
            name: name.to_owned(),
            source,
        })?;
    Ok((profile, tokenizer))
}

/// A mark with its key and tokenizer.
pub(crate) struct Context {
    pub(crate) keys: Keys,
    pub(crate) mark: Mark,
    pub(crate) tokenizer: HfTokenizer,
}

impl Context {
    /// The profile under so many keys that nobody used.
    pub(crate) fn decoys(&self, count: usize) -> Result<Vec<Mark>, CliError> {
        if count > (SLOTS - ACTIVE_SLOTS) as usize {
            return Err(CliError::TooManyDecoys { asked: count });
        }
        let profile = self.mark.profile();
        match (&self.keys.master, count) {
            (_, 0) => Ok(Vec::new()),
            (None, _) => Err(CliError::DecoysNeedMaster),
            (Some(master), count) => master
                .decoys(&self.keys.slot.label().epoch)
                .take(count)
                .map(|slot| profile.bind(&slot))
                .collect::<Result<_, _>>()
                .map_err(|source| CliError::Profile {
                    name: profile.id.clone(),
                    source,
                }),
        }
    }
}

impl MarkArgs {
    pub(crate) fn open(&self) -> Result<Context, CliError> {
        let (profile, tokenizer) = recipe(&self.profile, self.tokenizer.as_deref())?;
        let keys = self.key.read()?;
        let mark = profile
            .bind(&keys.slot)
            .map_err(|source| CliError::Profile {
                name: self.profile.clone(),
                source,
            })?;
        Ok(Context {
            keys,
            mark,
            tokenizer,
        })
    }
}
