//! Keys and profiles from what Python passes. Key bytes are copied once, wiped after use, and stand in no error.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};
use watermark_core::key::{
    ACTIVE_SLOTS, AnyKey, EngineKey, Epoch, MasterKey, SecretKey, SlotKey, read_any_key_file,
    write_key_file,
};
use watermark_core::profile::{BUILT_IN, Mark, Profile};
use zeroize::Zeroizing;

use crate::error::{key_file, system, value, wrong_type};

/// The names of the built-in profiles, the default first.
#[pyfunction]
pub(crate) fn built_in_profiles() -> Vec<&'static str> {
    BUILT_IN.to_vec()
}

/// Draws a master key from the system's generator and writes it to a new file of mode 600; the key's public name.
#[pyfunction]
pub(crate) fn new_master_key(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let drawn = py.import("os")?.call_method1("urandom", (32,))?;
    let mut bytes = Zeroizing::new([0; 32]);
    bytes.copy_from_slice(drawn.cast::<PyBytes>()?.as_bytes());
    let master = MasterKey::from_bytes(*bytes);
    write_key_file(&path, &master.to_line()).map_err(|error| key_file(&error))?;
    Ok(master.id().to_string())
}

/// Where a key comes from; exactly one is given.
pub(crate) struct KeySource<'a, 'py> {
    pub(crate) file: Option<PathBuf>,
    pub(crate) line: Option<&'a Bound<'py, PyAny>>,
    pub(crate) slot_key: Option<&'a Bound<'py, PyAny>>,
    pub(crate) epoch: Option<&'a str>,
    pub(crate) slot: Option<u32>,
}

/// What a mark is bound to.
pub(crate) enum Held {
    /// A key of ours: one slot, and the master where there is one.
    Ours {
        slot: SlotKey,
        master: Option<MasterKey>,
    },
    /// Another engine's, as it is configured there.
    Engine(EngineKey),
}

impl Held {
    /// The mark of a profile under this key.
    pub(crate) fn bind(&self, profile: &Profile, account: u32) -> PyResult<Mark> {
        match self {
            Self::Ours { slot, .. } => profile.bind_account(slot, account).map_err(value),
            Self::Engine(_) if account != 0 => Err(value(
                "another engine's key has no accounts; leave account= out",
            )),
            Self::Engine(key) => profile.bind_engine(key).map_err(value),
        }
    }

    /// The mark under so many keys that nobody used.
    pub(crate) fn decoys(&self, profile: &Profile, count: usize) -> PyResult<Vec<Mark>> {
        match self {
            _ if count == 0 => Ok(Vec::new()),
            Self::Engine(_) => profile.engine_decoys(count).map_err(value),
            Self::Ours { master: None, .. } => Err(value(
                "decoys are made from the master key, and this is a slot key; pass decoys=0, or the master's file",
            )),
            Self::Ours {
                slot,
                master: Some(master),
            } => {
                let slots = master.decoys(&slot.label().epoch).take(count);
                slots
                    .map(|slot| profile.bind(&slot).map_err(value))
                    .collect()
            }
        }
    }
}

impl KeySource<'_, '_> {
    pub(crate) fn read(self) -> PyResult<Held> {
        let key = match (&self.file, self.line, self.slot_key) {
            (Some(path), None, None) => {
                read_any_key_file(path).map_err(|error| key_file(&error))?
            }
            (None, Some(line), None) => {
                let bytes = bytes("key_line", line)?;
                // Bytes that are no text are no key either.
                let line = str::from_utf8(&bytes).unwrap_or("");
                if line.trim_start().starts_with('{') {
                    AnyKey::Engine(EngineKey::from_json(line).map_err(of_line)?)
                } else {
                    AnyKey::Secret(SecretKey::from_line(line).map_err(of_line)?)
                }
            }
            (None, None, Some(key)) => {
                let bytes = bytes("slot_key", key)?;
                let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| {
                    value(format!(
                        "slot_key has {} bytes; a slot key has 32",
                        bytes.len()
                    ))
                })?;
                let slot = SlotKey::from_parts(bytes, self.epoch()?, self.slot.unwrap_or(0));
                return Ok(Held::Ours { slot, master: None });
            }
            _ => {
                return Err(wrong_type(
                    "a key is given in one way: key_file=, key_line= or slot_key=",
                ));
            }
        };
        match key {
            AnyKey::Secret(SecretKey::Master(master)) => {
                let index = self.slot.unwrap_or(0);
                if index >= ACTIVE_SLOTS {
                    return Err(value(format!(
                        "slot {index} is a decoy slot, which marks nothing; active slots are 0 to {}",
                        ACTIVE_SLOTS - 1
                    )));
                }
                Ok(Held::Ours {
                    slot: master.slot(&self.epoch()?, index),
                    master: Some(master),
                })
            }
            AnyKey::Secret(SecretKey::Slot(slot)) => {
                let label = slot.label();
                let other = self
                    .epoch
                    .is_some_and(|epoch| epoch != label.epoch.as_str())
                    || self.slot.is_some_and(|index| index != label.index);
                if other {
                    return Err(value(format!(
                        "the key is that of epoch {}, slot {}, and of no other; leave epoch= and slot= out",
                        label.epoch, label.index
                    )));
                }
                Ok(Held::Ours { slot, master: None })
            }
            AnyKey::Engine(_) if self.epoch.is_some() || self.slot.is_some() => Err(value(
                "another engine's key has no slots; leave epoch= and slot= out",
            )),
            AnyKey::Engine(key) => Ok(Held::Engine(key)),
        }
    }

    fn epoch(&self) -> PyResult<Epoch> {
        Epoch::new(self.epoch.unwrap_or("e1")).map_err(value)
    }
}

fn of_line(error: impl std::fmt::Display) -> PyErr {
    value(format!("key_line: {error}"))
}

fn bytes(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Zeroizing<Vec<u8>>> {
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(Zeroizing::new(bytes.as_bytes().to_vec()));
    }
    if let Ok(bytes) = given.cast::<PyByteArray>() {
        return Ok(Zeroizing::new(bytes.to_vec()));
    }
    if given.is_instance_of::<PyMemoryView>() {
        let copy = given.call_method0("tobytes")?;
        return Ok(Zeroizing::new(copy.cast::<PyBytes>()?.as_bytes().to_vec()));
    }
    Err(wrong_type(format!(
        "{what} takes bytes, a bytearray or a memoryview, not {}; better keep keys in a file of mode 600 and pass key_file=",
        given.get_type().name()?
    )))
}

/// A built-in profile by name, JSON text, a dictionary, or the path of a JSON file (`os.PathLike`).
pub(crate) fn profile(given: &Bound<'_, PyAny>) -> PyResult<Profile> {
    let py = given.py();
    let json = if let Ok(text) = given.cast::<PyString>() {
        let text = text.to_str()?;
        if let Some(profile) = Profile::built_in(text) {
            return Ok(profile);
        }
        if !text.trim_start().starts_with('{') {
            return Err(value(format!(
                "there is no profile `{text}`; built in are {}. A file is given as pathlib.Path",
                BUILT_IN.join(", ")
            )));
        }
        text.to_owned()
    } else if given.is_instance_of::<PyDict>() {
        py.import("json")?
            .call_method1("dumps", (given,))?
            .extract()?
    } else if given.hasattr("__fspath__")? {
        let path: PathBuf = given.extract()?;
        std::fs::read_to_string(&path)
            .map_err(|error| system(error.kind(), format!("profile {}: {error}", path.display())))?
    } else {
        return Err(wrong_type(format!(
            "profile is a {}; it must be a built-in name, JSON text, a dict or a pathlib.Path",
            given.get_type().name()?
        )));
    };
    Profile::from_json(&json).map_err(|error| value(format!("profile: {error}")))
}

/// JSON of the core as Python objects.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    value_of: &impl serde::Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value_of).map_err(value)?;
    py.import("json")?.call_method1("loads", (text,))
}
