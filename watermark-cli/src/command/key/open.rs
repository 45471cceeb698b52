//! `watermark key open`.

use std::path::Path;

use watermark_core::evidence::commitment::{Commitment, Opening};
use watermark_core::evidence::epochs::Epochs;
use watermark_core::key::{ACTIVE_SLOTS, write_key_file};

use super::{commitment, master};
use crate::cli::{KeySource, Open};
use crate::error::CliError;
use crate::render::print_json;

pub(super) fn run(arguments: &Open) -> Result<(), CliError> {
    let commitment = commitment(&arguments.commitment)?;
    if let Some(path) = &arguments.verify {
        return verify(arguments, &commitment, path);
    }
    let (Some(slot), Some(out)) = (arguments.slot, &arguments.out) else {
        return Err(CliError::Usage("give --slot and --out, or --verify".into()));
    };
    let retired = match &arguments.epochs {
        None => false,
        Some(path) => epochs(path)?.is_retired(commitment.epoch().as_str(), commitment.key_id()),
    };
    if !retired && !arguments.i_know_this_lets_anyone_forge_slot {
        return Err(CliError::EpochInUse {
            epoch: commitment.epoch().to_string(),
            slot,
        });
    }
    let source = KeySource {
        key_file: arguments.key_file.clone(),
        key_command: arguments.key_command.clone(),
        allow_insecure_key_perms: arguments.allow_insecure_key_perms,
    };
    let master = master(&source, "an opening")?;
    let opening = commitment
        .open(&master, slot)
        .map_err(|source| CliError::Commitment {
            path: arguments.commitment.clone(),
            source,
        })?;
    write_key_file(out, opening.to_json().trim_end())?;
    print_json(&said(&opening, &commitment, "opened"));
    let whose = if slot < ACTIVE_SLOTS {
        "text under"
    } else {
        "decoy"
    };
    eprintln!(
        "{} holds the key of slot {slot}: whoever has it can forge and strip {whose} slot {slot} of epoch {} from now on",
        out.display(),
        commitment.epoch()
    );
    Ok(())
}

fn verify(arguments: &Open, commitment: &Commitment, path: &Path) -> Result<(), CliError> {
    let wrap = |source| CliError::Opening {
        path: path.to_owned(),
        source,
    };
    let json = zeroize::Zeroizing::new(crate::input::read_text(path)?);
    let opening = Opening::from_json(&json).map_err(wrap)?;
    opening.verify(commitment).map_err(wrap)?;
    if let Some(out) = &arguments.key_out {
        write_key_file(out, &opening.key().to_line())?;
    }
    print_json(&said(&opening, commitment, "verified"));
    Ok(())
}

fn said(opening: &Opening, commitment: &Commitment, what: &str) -> serde_json::Value {
    let label = opening.key().label();
    serde_json::json!({
        "type": "watermark.opening", "schema": 1, "result": what,
        "epoch": label.epoch.as_str(), "slot": label.index, "keyId": opening.key().id(),
        "kind": if label.index < ACTIVE_SLOTS { "active" } else { "decoy" },
        "root": commitment.root(), "digest": commitment.digest(),
    })
}

/// The file of epochs.
pub(super) fn epochs(path: &Path) -> Result<Epochs, CliError> {
    let json = crate::input::read_text(path)?;
    Epochs::from_json(&json).map_err(|source| CliError::Epochs {
        path: path.to_owned(),
        source,
    })
}
