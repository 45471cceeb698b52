//! `watermark key open`.

use std::path::Path;

use watermark_core::evidence::commitment::{Commitment, CommitmentError, Opening};
use watermark_core::evidence::epochs::Epochs;
use watermark_core::key::{ACTIVE_SLOTS, SLOTS, write_key_file};

use super::{commitment, master, new_key_file};
use crate::cli::{Format, KeySource, Open};
use crate::command::said::{OpeningResult, OpeningSaid, SlotKind};
use crate::dry::DryRun;
use crate::error::CliError;
use crate::render::print_json;
use crate::schema::Version;

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
    let wrap = |source| CliError::Commitment {
        path: arguments.commitment.clone(),
        source,
    };
    if arguments.dry.dry_run {
        commitment.check_master(&master).map_err(wrap)?;
        if slot >= SLOTS {
            return Err(wrap(CommitmentError::NoSlot(slot)));
        }
        new_key_file(out)?;
        let opened = master.slot(commitment.epoch(), slot);
        DryRun::of("key open")
            .key_source(&source)
            .master(&master)
            .slot(opened.id().to_string(), opened.label())
            .reads("commitment", [&arguments.commitment])
            .reads("epochs", &arguments.epochs)
            .writes("opening", [out])
            .print(Format::Json);
        return Ok(());
    }
    let opening = commitment.open(&master, slot).map_err(wrap)?;
    write_key_file(out, opening.to_json().trim_end())?;
    print_json(&said(&opening, &commitment, OpeningResult::Opened));
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
    if arguments.dry.dry_run {
        arguments.key_out.as_deref().map_or(Ok(()), new_key_file)?;
        DryRun::of("key open")
            .slot(opening.key().id().to_string(), opening.key().label())
            .reads("commitment", [&arguments.commitment])
            .reads("opening", [path])
            .writes("key", &arguments.key_out)
            .print(Format::Json);
        return Ok(());
    }
    if let Some(out) = &arguments.key_out {
        write_key_file(out, &opening.key().to_line())?;
    }
    print_json(&said(&opening, commitment, OpeningResult::Verified));
    Ok(())
}

fn said(opening: &Opening, commitment: &Commitment, result: OpeningResult) -> OpeningSaid {
    let label = opening.key().label();
    OpeningSaid {
        schema: Version,
        result,
        epoch: label.epoch.to_string(),
        slot: label.index,
        key_id: opening.key().id(),
        kind: match label.index < ACTIVE_SLOTS {
            true => SlotKind::Active,
            false => SlotKind::Decoy,
        },
        root: commitment.root().to_owned(),
        digest: commitment.digest(),
    }
}

/// The file of epochs.
pub(super) fn epochs(path: &Path) -> Result<Epochs, CliError> {
    let json = crate::input::read_text(path)?;
    Epochs::from_json(&json).map_err(|source| CliError::Epochs {
        path: path.to_owned(),
        source,
    })
}
