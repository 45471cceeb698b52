//! `watermark key`.

use std::path::Path;
use std::process::ExitCode;

use rand_core::TryRng;
use watermark_core::evidence::commitment::Commitment;
use watermark_core::key::{
    AnyKey, KeyFileError, KeyId, MasterKey, SecretKey, SlotKey, write_key_file,
};
use watermark_core::report::{CommitmentCheck, CommitmentInfo};
use zeroize::Zeroizing;

use super::said::{EngineConfigSaid, KeyKind, KeySaid};
use crate::cli::{Format, Inspect, Key, KeySource};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::mark::Held;
use crate::render::print_json;
use crate::schema::Version;

mod commit;
mod open;
mod rotate;

pub(super) fn run(arguments: &Key) -> Result<ExitCode, CliError> {
    match arguments {
        Key::New { out } => {
            let master = new_master(out)?;
            print_json(&KeySaid {
                file: Some(out.clone()),
                ..KeySaid::master(&master)
            });
        }
        Key::Inspect(arguments) => inspect(arguments)?,
        Key::EngineConfig {
            key,
            profile,
            out,
            dry,
        } => {
            let (name, profile) = (profile, crate::mark::profile(profile)?);
            let wrap = |source| CliError::Profile {
                name: name.clone(),
                source,
            };
            let engine = match key.read_any()? {
                Held::Engine { key, .. } => key,
                Held::Ours(keys) => profile.engine_key(&keys.slot).map_err(wrap)?,
            };
            let config = profile.engine_config(&engine).map_err(wrap)?;
            if dry.dry_run {
                new_key_file(out)?;
                DryRun::of("key engine-config")
                    .key_source(&key.source)
                    .engine(engine.id())
                    .writes("configuration", [out])
                    .print(Format::Json);
                return Ok(ExitCode::SUCCESS);
            }
            write_key_file(out, &config)?;
            print_json(&EngineConfigSaid {
                schema: Version,
                profile: profile.id,
                function: profile.function,
                key_id: engine.id(),
                file: out.clone(),
            });
        }
        Key::Slot { key, out, dry } => {
            let keys = key.read()?;
            if dry.dry_run {
                new_key_file(out)?;
                let dry = DryRun::of("key slot").key_source(&key.source);
                let dry = match &keys.master {
                    Some(master) => dry.master(master),
                    None => dry,
                };
                dry.slot(keys.slot.id().to_string(), keys.slot.label())
                    .writes("key", [out])
                    .print(Format::Json);
                return Ok(ExitCode::SUCCESS);
            }
            write_key_file(out, &keys.slot.to_line())?;
            print_json(&KeySaid::slot(&keys.slot));
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
            print_json(&KeySaid {
                function: Some(key.function()),
                integers: Some(key.count()),
                ..KeySaid::new(KeyKind::Engine, key.id())
            });
            return Ok(());
        }
    };
    let commitment = arguments
        .commitment
        .as_deref()
        .map(commitment)
        .transpose()?;
    let mut said = match &key {
        SecretKey::Master(master) => KeySaid::master(master),
        SecretKey::Slot(slot) => KeySaid::slot(slot),
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
            SecretKey::Master(_) => CommitmentCheck::Root,
            SecretKey::Slot(_) => CommitmentCheck::KeyId,
        };
        said.commitment = Some(CommitmentInfo {
            root: commitment.root().to_owned(),
            digest: commitment.digest(),
            checked,
        });
    }
    print_json(&said);
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

/// Whether a key file can be made here, for those that only ask.
fn new_key_file(path: &Path) -> Result<(), KeyFileError> {
    match path.exists() {
        true => Err(KeyFileError::Exists(path.to_owned())),
        false => Ok(()),
    }
}

impl KeySaid {
    fn new(kind: KeyKind, key_id: KeyId) -> Self {
        Self {
            schema: Version,
            kind,
            key_id,
            epoch: None,
            slot: None,
            file: None,
            commitment: None,
            function: None,
            integers: None,
        }
    }

    fn master(master: &MasterKey) -> Self {
        Self::new(KeyKind::Master, master.id())
    }

    fn slot(slot: &SlotKey) -> Self {
        Self {
            epoch: Some(slot.label().epoch.to_string()),
            slot: Some(slot.label().index),
            ..Self::new(KeyKind::Slot, slot.id())
        }
    }
}
