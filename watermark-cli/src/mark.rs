//! Key, profile and tokenizer from the arguments.

use std::path::Path;

use watermark_core::key::{
    ACTIVE_SLOTS, AnyKey, EngineKey, Epoch, SecretKey, SlotKey, read_any_key_file,
    read_any_key_from, read_key_file, read_key_from,
};
use watermark_core::profile::{Mark, Profile};
use watermark_core::text::HfTokenizer;

use crate::cli::{KeyArgs, MarkArgs};
use crate::error::CliError;

/// A key as asked for: one slot, and the master where there is one.
pub(crate) struct Keys {
    pub(crate) slot: SlotKey,
    pub(crate) master: Option<watermark_core::key::MasterKey>,
}

/// What a mark is bound to.
pub(crate) enum Held {
    /// A key of ours.
    Ours(Keys),
    /// Another engine's, as it is configured there.
    Engine(EngineKey),
}

/// Reads a key file of either kind; `-` is standard input.
pub(crate) fn read_any_key(path: &Path) -> Result<AnyKey, CliError> {
    Ok(if path == Path::new("-") {
        read_any_key_from(std::io::stdin(), Path::new("standard input"))?
    } else {
        read_any_key_file(path)?
    })
}

/// The same for a key of ours.
fn read_key(path: &Path) -> Result<SecretKey, CliError> {
    Ok(if path == Path::new("-") {
        read_key_from(std::io::stdin(), Path::new("standard input"))?
    } else {
        read_key_file(path)?
    })
}

impl KeyArgs {
    pub(crate) fn read(&self) -> Result<Keys, CliError> {
        self.slot_of(read_key(&self.key_file)?)
    }

    /// A key of ours or of another engine.
    pub(crate) fn read_any(&self) -> Result<Held, CliError> {
        match read_any_key(&self.key_file)? {
            AnyKey::Secret(key) => Ok(Held::Ours(self.slot_of(key)?)),
            AnyKey::Engine(_) if self.epoch.is_some() || self.slot.is_some() => {
                Err(CliError::EngineKeyHasNoSlots)
            }
            AnyKey::Engine(key) => Ok(Held::Engine(key)),
        }
    }

    fn slot_of(&self, key: SecretKey) -> Result<Keys, CliError> {
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
                Ok(Keys { slot, master: None })
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
        if count == 0 {
            return Ok(Vec::new());
        }
        let profile = self.mark.profile();
        let marks: Result<Vec<Mark>, _> = match &self.held {
            Held::Engine(_) => profile.engine_decoys(count),
            Held::Ours(Keys { master: None, .. }) => return Err(CliError::DecoysNeedMaster),
            Held::Ours(Keys {
                slot,
                master: Some(master),
            }) => master
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
        let wrap = |source| CliError::Profile {
            name: self.profile.clone(),
            source,
        };
        let profile = profile(&self.profile)?;
        let tokenizer = tokenizer(self.tokenizer.as_deref())?;
        profile.check_tokenizer(&tokenizer).map_err(wrap)?;
        let held = self.key.read_any()?;
        let mark = match &held {
            Held::Ours(keys) => profile.bind(&keys.slot),
            Held::Engine(key) => profile.bind_engine(key),
        }
        .map_err(wrap)?;
        Ok(Context {
            held,
            mark,
            tokenizer,
        })
    }
}
