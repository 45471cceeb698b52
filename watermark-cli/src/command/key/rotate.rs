//! `watermark key rotate`.

use std::time::SystemTime;

use watermark_core::evidence::epochs::{EpochEntry, Epochs};
use watermark_core::evidence::time::{is_rfc3339, rfc3339};
use watermark_core::key::Epoch;

use super::commit::{commit, recipe, recipe_files, said};
use super::open::epochs;
use super::{master, new_key_file, new_master};
use crate::cli::{Format, Rotate};
use crate::command::said::Rotation;
use crate::dry::DryRun;
use crate::error::CliError;
use crate::render::{check_new_file, print_json, write_file};
use crate::schema::Version;

pub(super) fn run(arguments: &Rotate) -> Result<(), CliError> {
    let (from, to) = (Epoch::new(&arguments.from)?, Epoch::new(&arguments.to)?);
    if let Some(time) = &arguments.compromised_at
        && !is_rfc3339(time)
    {
        return Err(CliError::Usage(format!(
            "--compromised-at {time}: give a time such as 2026-11-25T10:43:09Z"
        )));
    }
    // All that can be refused is, before anything is written.
    check_new_file(&arguments.out)?;
    let params = recipe(&arguments.recipe)?;
    let mut ledger = match arguments.epochs.exists() {
        true => epochs(&arguments.epochs)?,
        false => Epochs::default(),
    };
    let old = master(&arguments.source, "a new epoch")?;
    let now = rfc3339(SystemTime::now());
    let ending = EpochEntry {
        epoch: from.to_string(),
        key_id: old.id().to_string(),
        from: None,
        until: Some(now.clone()),
        compromised_at: arguments.compromised_at.clone(),
        commitment: None,
    };
    let mut next = EpochEntry {
        epoch: to.to_string(),
        key_id: old.id().to_string(),
        from: Some(now),
        until: None,
        compromised_at: None,
        commitment: None,
    };
    let wrap = |source| CliError::Epochs {
        path: arguments.epochs.clone(),
        source,
    };
    // Whether the two may follow each other, also where the new key's id is not known yet.
    let mut trial = next.clone();
    if arguments.new_key.is_some() {
        trial.key_id = "new".to_owned();
    }
    ledger.clone().rotate(ending.clone(), trial).map_err(wrap)?;
    if arguments.dry.dry_run {
        arguments.new_key.as_deref().map_or(Ok(()), new_key_file)?;
        let known = arguments.epochs.exists().then_some(&arguments.epochs);
        recipe_files(DryRun::of("key rotate"), &arguments.recipe)
            .key_source(&arguments.source)
            .master(&old)
            .reads("epochs", known)
            .writes("key", &arguments.new_key)
            .writes("commitment", [&arguments.out])
            .writes("epochs", [&arguments.epochs])
            .print(Format::Json);
        return Ok(());
    }
    let new = arguments.new_key.as_deref().map(new_master).transpose()?;
    let key = new.as_ref().unwrap_or(&old);
    let commitment = commit(key, &to, params, &arguments.out)?;
    next.key_id = key.id().to_string();
    next.commitment = Some(commitment.root().to_owned());
    ledger.rotate(ending, next).map_err(wrap)?;
    write_file(&arguments.epochs, ledger.to_json().as_bytes())?;

    print_json(&Rotation {
        schema: Version,
        from: from.to_string(),
        to: to.to_string(),
        epochs: arguments.epochs.clone(),
        new_key: arguments.new_key.clone(),
        commitment: said(&commitment, &arguments.out),
    });
    eprintln!(
        "text of {from} and of {to} bears unrelated marks: a suspect trained on both shows each at its own share of the training data, and the tokens needed grow as 1 over that share squared (four times at equal halves). Rotate by quarter or on a leak, not by week"
    );
    if arguments.compromised_at.is_some() && new.is_none() {
        eprintln!(
            "warning: epoch {to} is derived from the same master key: right if a slot's key leaked; if the master key may have, take a new one with --new-key"
        );
    }
    eprintln!(
        "publish the digest, or have a time put on it, before the first text of {to} is written: sha256 {}",
        commitment.digest()
    );
    Ok(())
}
