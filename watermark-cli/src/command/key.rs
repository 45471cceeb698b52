//! `watermark key`.

use std::path::Path;
use std::process::ExitCode;

use rand_core::TryRng;
use watermark_core::evidence::commitment::Commitment;
use watermark_core::key::{AnyKey, MasterKey, SecretKey, SlotKey, write_key_file};
use zeroize::Zeroizing;

use crate::cli::{Inspect, Key, KeySource};
use crate::error::CliError;
use crate::mark::Held;
use crate::render::print_json;

mod commit;
mod open;
mod rotate;

pub(super) fn run(arguments: &Key) -> Result<ExitCode, CliError> {
    match arguments {
        Key::New { out } => {
            let master = new_master(out)?;
            print_json(&serde_json::json!({
                "type": "watermark.key", "schema": 1, "kind": "master",
                "keyId": master.id(), "file": out,
            }));
        }
        Key::Inspect(arguments) => inspect(arguments)?,
        Key::EngineConfig { key, profile, out } => {
            let (name, profile) = (profile, crate::mark::profile(profile)?);
            let wrap = |source| CliError::Profile {
                name: name.clone(),
                source,
            };
            let engine = match key.read_any()? {
                Held::Engine { key, .. } => key,
                Held::Ours(keys) => profile.engine_key(&keys.slot).map_err(wrap)?,
            };
            write_key_file(out, &profile.engine_config(&engine).map_err(wrap)?)?;
            print_json(&serde_json::json!({
                "type": "watermark.engine-config", "schema": 1, "profile": profile.id,
                "function": profile.function, "keyId": engine.id(), "file": out,
            }));
        }
        Key::Slot { key, out } => {
            let keys = key.read()?;
            write_key_file(out, &keys.slot.to_line())?;
            print_json(&slot_json(&keys.slot));
        }
        Key::Commit(arguments) => commit::run(arguments)?,
        Key::Open(arguments) => open::run(arguments)?,
        Key::Rotate(arguments) => rotate::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a master key in a new file.
fn new_master(out: &Path) -> Result<MasterKey, CliError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::SysRng
        .try_fill_bytes(&mut *bytes)
        .map_err(|error| CliError::io("system generator")(std::io::Error::other(error)))?;
    let master = MasterKey::from_bytes(*bytes);
    write_key_file(out, &master.to_line())?;
    Ok(master)
}

fn inspect(arguments: &Inspect) -> Result<(), CliError> {
    let source = KeySource {
        key_file: arguments.key_file.clone(),
        key_command: arguments.key_command.clone(),
        allow_insecure_key_perms: arguments.allow_insecure_key_perms,
    };
    let key = match source.read_any()?.key {
        AnyKey::Secret(key) => key,
        AnyKey::Engine(_) if arguments.commitment.is_some() => {
            return Err(CliError::EngineKeyNotCommitted);
        }
        AnyKey::Engine(key) => {
            print_json(&serde_json::json!({
                "type": "watermark.key", "schema": 1, "kind": "engine", "keyId": key.id(),
                "function": key.function(), "integers": key.count(),
            }));
            return Ok(());
        }
    };
    let commitment = arguments
        .commitment
        .as_deref()
        .map(commitment)
        .transpose()?;
    let mut json = match &key {
        SecretKey::Master(master) => serde_json::json!({
            "type": "watermark.key", "schema": 1, "kind": "master", "keyId": master.id(),
        }),
        SecretKey::Slot(slot) => slot_json(slot),
    };
    if let (Some(commitment), Some(path)) = (commitment, &arguments.commitment) {
        match &key {
            SecretKey::Master(master) => commitment.check_master(master),
            SecretKey::Slot(slot) => commitment.check_slot(slot),
        }
        .map_err(|source| CliError::Commitment {
            path: path.clone(),
            source,
        })?;
        let checked = match &key {
            SecretKey::Master(_) => "root",
            SecretKey::Slot(_) => "key-id",
        };
        json["commitment"] = serde_json::json!({
            "root": commitment.root(), "digest": commitment.digest(), "checked": checked,
        });
    }
    print_json(&json);
    Ok(())
}

/// A commitment from its file.
pub(super) fn commitment(path: &Path) -> Result<Commitment, CliError> {
    let json = crate::input::read_text(path)?;
    Commitment::from_json(&json).map_err(|source| CliError::Commitment {
        path: path.to_owned(),
        source,
    })
}

/// The master key of a source, for what slot keys cannot do.
fn master(source: &KeySource, what: &'static str) -> Result<MasterKey, CliError> {
    match source.read()?.key {
        SecretKey::Master(master) => Ok(master),
        SecretKey::Slot(_) => Err(CliError::NeedsMaster(what)),
    }
}

fn slot_json(slot: &SlotKey) -> serde_json::Value {
    serde_json::json!({
        "type": "watermark.key", "schema": 1, "kind": "slot", "keyId": slot.id(),
        "epoch": slot.label().epoch.as_str(), "slot": slot.label().index,
    })
}
