//! `watermark key commit`.

use std::path::Path;
use std::time::SystemTime;

use watermark_core::evidence::commitment::{Commitment, Params};
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::Vocabulary;

use super::master;
use crate::cli::{Commit, RecipeArgs};
use crate::error::CliError;
use crate::render::{print_json, write_new_file};

pub(super) fn run(arguments: &Commit) -> Result<(), CliError> {
    let epoch = Epoch::new(&arguments.epoch)?;
    let params = recipe(&arguments.recipe)?;
    let master = master(&arguments.source, "a commitment")?;
    let commitment = commit(&master, &epoch, params, &arguments.out)?;
    print_json(&said(&commitment, &arguments.out));
    eprintln!(
        "publish the digest, or have a time put on it, before the first text under this epoch is written: sha256 {}",
        commitment.digest()
    );
    Ok(())
}

/// Commits to an epoch in a new file.
pub(super) fn commit(
    master: &MasterKey,
    epoch: &Epoch,
    params: Params,
    out: &Path,
) -> Result<Commitment, CliError> {
    let commitment = Commitment::new(master, epoch, params, SystemTime::now());
    write_new_file(out, commitment.to_json().as_bytes())?;
    Ok(commitment)
}

/// What is said of a commitment that was made.
pub(super) fn said(commitment: &Commitment, out: &Path) -> serde_json::Value {
    serde_json::json!({
        "type": "watermark.commitment-made", "schema": 1, "file": out,
        "keyId": commitment.key_id(), "epoch": commitment.epoch().as_str(),
        "root": commitment.root(), "digest": commitment.digest(), "created": commitment.created(),
    })
}

pub(super) fn recipe(arguments: &RecipeArgs) -> Result<Params, CliError> {
    let (profile, tokenizer) =
        crate::mark::recipe(&arguments.profile, arguments.tokenizer.as_deref())?;
    Ok(Params::new(
        profile,
        Vocabulary::of(&tokenizer),
        arguments.primary,
    ))
}
