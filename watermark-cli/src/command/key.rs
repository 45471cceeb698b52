//! `watermark key`.

use std::path::Path;
use std::process::ExitCode;

use rand_core::TryRng;
use watermark_core::evidence::commitment::Commitment;
use watermark_core::key::{KeyFileError, MasterKey, SecretKey, SlotKey, write_key_file};
use watermark_core::report::{CommitmentCheck, CommitmentInfo};
use zeroize::Zeroizing;

use super::said::{KeyKind, KeySaid};
use crate::cli::{Format, Inspect, Key, KeySource};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::keysource::Found;
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
    let Found { key, .. } = source.read()?;
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
    fn master(master: &MasterKey) -> Self {
        Self {
            schema: Version,
            kind: KeyKind::Master,
            key_id: master.id(),
            epoch: None,
            slot: None,
            file: None,
            commitment: None,
        }
    }

    fn slot(slot: &SlotKey) -> Self {
        Self {
            schema: Version,
            kind: KeyKind::Slot,
            key_id: slot.id(),
            epoch: Some(slot.label().epoch.to_string()),
            slot: Some(slot.label().index),
            file: None,
            commitment: None,
        }
    }
}
