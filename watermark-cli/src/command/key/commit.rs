//! `watermark key commit`.

use std::path::Path;
use std::time::SystemTime;

use watermark_core::evidence::commitment::{Commitment, Params};
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::Vocabulary;

use super::master;
use crate::cli::{Commit, Format, RecipeArgs};
use crate::command::said::CommitmentMade;
use crate::dry::DryRun;
use crate::error::CliError;
use crate::render::{check_new_file, print_json, write_new_file};
use crate::schema::Version;

pub(super) fn run(arguments: &Commit) -> Result<(), CliError> {
    let epoch = Epoch::new(&arguments.epoch)?;
    let params = recipe(&arguments.recipe)?;
    let master = master(&arguments.source, "a commitment")?;
    if arguments.dry.dry_run {
        check_new_file(&arguments.out)?;
        recipe_files(DryRun::of("key commit"), &arguments.recipe)
            .key_source(&arguments.source)
            .master(&master)
            .writes("commitment", [&arguments.out])
            .print(Format::Json);
        return Ok(());
    }
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
pub(super) fn said(commitment: &Commitment, out: &Path) -> CommitmentMade {
    CommitmentMade {
        schema: Version,
        file: out.to_owned(),
        key_id: commitment.key_id().to_owned(),
        epoch: commitment.epoch().to_string(),
        root: commitment.root().to_owned(),
        digest: commitment.digest(),
        created: commitment.created().to_owned(),
    }
}

/// The files of a recipe.
pub(super) fn recipe_files(dry: DryRun, arguments: &RecipeArgs) -> DryRun {
    let profile = Path::new(&arguments.profile);
    let built_in = watermark_core::profile::Profile::built_in(&arguments.profile).is_some();
    dry.reads("profile", (!built_in).then_some(profile))
        .reads("tokenizer", &arguments.tokenizer)
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
