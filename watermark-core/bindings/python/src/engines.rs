//! Keys and configurations for engines that make marks themselves. Both are secret: they go to files of mode 600, and
//! not through Python's strings.

use std::path::PathBuf;

use pyo3::prelude::*;
use watermark_core::key::{EngineKey, write_key_file};
use watermark_core::profile::{COMPATIBLE, Function, Profile};

use crate::error::{key_file, value};
use crate::keys::{Held, KeySource, profile};

/// The names of the profiles of other engines' marks.
#[pyfunction]
pub(crate) fn compatible_profiles() -> Vec<&'static str> {
    COMPATIBLE.to_vec()
}

/// The key that an engine is configured with: its own, or that which stands for a slot.
fn engine_key(profile: &Profile, source: KeySource<'_, '_>) -> PyResult<EngineKey> {
    if profile.function == Function::Wmk1 {
        return Err(value(format!(
            "profile {} has our own function, which no engine makes itself; compatible profiles are {}",
            profile.id,
            COMPATIBLE.join(", ")
        )));
    }
    match source.read()? {
        Held::Engine(key) => Ok(key),
        Held::Ours { slot, .. } => profile.engine_key(&slot).map_err(value),
    }
}

/// Writes the engine's native configuration to a new file of mode 600; the public name of the key in it.
#[pyfunction]
#[pyo3(signature = (profile, path, *, key_file=None, key_line=None, slot_key=None, epoch=None, slot=None))]
pub(crate) fn write_engine_config(
    profile: &Bound<'_, PyAny>,
    path: PathBuf,
    key_file: Option<PathBuf>,
    key_line: Option<&Bound<'_, PyAny>>,
    slot_key: Option<&Bound<'_, PyAny>>,
    epoch: Option<&str>,
    slot: Option<u32>,
) -> PyResult<String> {
    let profile = self::profile(profile)?;
    let source = KeySource {
        file: key_file,
        line: key_line,
        slot_key,
        epoch,
        slot,
    };
    let key = engine_key(&profile, source)?;
    let text = profile.engine_config(&key).map_err(value)?;
    write_key_file(&path, &text).map_err(|error| self::key_file(&error))?;
    Ok(key.id().to_string())
}

/// Writes the engine's key alone to a new file of mode 600, so that a reader needs no slot key; its public name.
#[pyfunction]
#[pyo3(signature = (profile, path, *, key_file=None, key_line=None, slot_key=None, epoch=None, slot=None))]
pub(crate) fn write_engine_key(
    profile: &Bound<'_, PyAny>,
    path: PathBuf,
    key_file: Option<PathBuf>,
    key_line: Option<&Bound<'_, PyAny>>,
    slot_key: Option<&Bound<'_, PyAny>>,
    epoch: Option<&str>,
    slot: Option<u32>,
) -> PyResult<String> {
    let profile = self::profile(profile)?;
    let source = KeySource {
        file: key_file,
        line: key_line,
        slot_key,
        epoch,
        slot,
    };
    let key = engine_key(&profile, source)?;
    write_key_file(&path, key.to_json().trim_end()).map_err(|error| self::key_file(&error))?;
    Ok(key.id().to_string())
}
