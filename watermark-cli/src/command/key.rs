//! `watermark key`.

use std::process::ExitCode;

use rand_core::TryRng;
use watermark_core::key::{AnyKey, MasterKey, SecretKey, write_key_file};
use zeroize::Zeroizing;

use crate::cli::Key;
use crate::error::CliError;
use crate::mark::{Held, read_any_key};
use crate::render::print_json;

pub(super) fn run(arguments: &Key) -> Result<ExitCode, CliError> {
    match arguments {
        Key::New { out } => {
            let mut bytes = Zeroizing::new([0; 32]);
            getrandom::SysRng
                .try_fill_bytes(&mut *bytes)
                .map_err(|error| CliError::io("system generator")(std::io::Error::other(error)))?;
            let master = MasterKey::from_bytes(*bytes);
            write_key_file(out, &master.to_line())?;
            print_json(&serde_json::json!({
                "type": "watermark.key", "schema": 1, "kind": "master",
                "keyId": master.id(), "file": out,
            }));
        }
        Key::Inspect { key_file } => match read_any_key(key_file)? {
            AnyKey::Engine(key) => print_json(&serde_json::json!({
                "type": "watermark.key", "schema": 1, "kind": "engine", "keyId": key.id(),
                "function": key.function(), "integers": key.count(),
            })),
            AnyKey::Secret(SecretKey::Master(master)) => print_json(&serde_json::json!({
                "type": "watermark.key", "schema": 1, "kind": "master", "keyId": master.id(),
            })),
            AnyKey::Secret(SecretKey::Slot(slot)) => print_json(&slot_json(&slot)),
        },
        Key::EngineConfig { key, profile, out } => {
            let (name, profile) = (profile, crate::mark::profile(profile)?);
            let wrap = |source| CliError::Profile {
                name: name.clone(),
                source,
            };
            let engine = match key.read_any()? {
                Held::Engine(key) => key,
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
    }
    Ok(ExitCode::SUCCESS)
}

fn slot_json(slot: &watermark_core::key::SlotKey) -> serde_json::Value {
    serde_json::json!({
        "type": "watermark.key", "schema": 1, "kind": "slot", "keyId": slot.id(),
        "epoch": slot.label().epoch.as_str(), "slot": slot.label().index,
    })
}
