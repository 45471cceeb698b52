//! Key, profile and tokenizer from the arguments.

use std::path::Path;

use watermark_core::key::{
    ACTIVE_SLOTS, AnyKey, EngineKey, Epoch, Exposure, KeyId, MasterKey, SLOTS, SecretKey, SlotKey,
};
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

/// What a mark is bound to.
pub(crate) enum Held {
    /// A key of ours.
    Ours(Keys),
    /// Another engine's, as it is configured there.
    Engine {
        key: EngineKey,
        /// Who else could read the key file.
        exposure: Option<Exposure>,
    },
}

impl Held {
    /// Who else could read the key file.
    pub(crate) fn exposure(&self) -> Option<Exposure> {
        match self {
            Self::Ours(keys) => keys.exposure,
            Self::Engine { exposure, .. } => *exposure,
        }
    }

    /// The id of the key that marks are bound to.
    pub(crate) fn key_id(&self) -> KeyId {
        match self {
            Self::Ours(keys) => keys.slot.id(),
            Self::Engine { key, .. } => key.id(),
        }
    }

    /// The slot and master key, if the key is ours.
    pub(crate) fn ours(&self) -> Option<&Keys> {
        match self {
            Self::Ours(keys) => Some(keys),
            Self::Engine { .. } => None,
        }
    }

    /// A profile under this key; `name` is used in errors.
    pub(crate) fn bind(&self, profile: &Profile, name: &str) -> Result<Mark, CliError> {
        match self {
            Self::Ours(keys) => profile.bind(&keys.slot),
            Self::Engine { key, .. } => profile.bind_engine(key),
        }
        .map_err(|source| CliError::Profile {
            name: name.to_owned(),
            source,
        })
    }
}

impl KeyArgs {
    pub(crate) fn read(&self) -> Result<Keys, CliError> {
        let Found { key, exposure } = self.source.read()?;
        self.slot_of(key, exposure)
    }

    /// A key of ours or of another engine.
    pub(crate) fn read_any(&self) -> Result<Held, CliError> {
        let Found { key, exposure } = self.source.read_any()?;
        match key {
            AnyKey::Secret(key) => Ok(Held::Ours(self.slot_of(key, exposure)?)),
            AnyKey::Engine(_) if self.epoch.is_some() || self.slot.is_some() => {
                Err(CliError::EngineKeyHasNoSlots)
            }
            AnyKey::Engine(key) => Ok(Held::Engine { key, exposure }),
        }
    }

    fn slot_of(&self, key: SecretKey, exposure: Option<Exposure>) -> Result<Keys, CliError> {
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
    pub(crate) held: Held,
    pub(crate) mark: Mark,
    pub(crate) tokenizer: HfTokenizer,
}

impl Context {
    /// The mark under so many keys that nobody used: sealed slots of the epoch, or, where the key is another engine's,
    /// keys of the same form that anyone can make.
    pub(crate) fn decoys(&self, count: usize) -> Result<Vec<Mark>, CliError> {
        if count > (SLOTS - ACTIVE_SLOTS) as usize {
            return Err(CliError::TooManyDecoys { asked: count });
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let profile = self.mark.profile();
        let marks: Result<Vec<Mark>, _> = match &self.held {
            Held::Engine { .. } => profile.engine_decoys(count),
            Held::Ours(Keys { slot, master, .. }) => master
                .as_ref()
                .ok_or(CliError::DecoysNeedMaster)?
                .decoys(&slot.label().epoch)
                .take(count)
                .map(|slot| profile.bind(&slot))
                .collect(),
        };
        marks.map_err(|source| CliError::Profile {
            name: profile.id.clone(),
            source,
        })
    }
}

impl MarkArgs {
    pub(crate) fn open(&self) -> Result<Context, CliError> {
        let (profile, tokenizer) = recipe(&self.profile, self.tokenizer.as_deref())?;
        let held = self.key.read_any()?;
        let mark = held.bind(&profile, &self.profile)?;
        Ok(Context {
            held,
            mark,
            tokenizer,
        })
    }
}
