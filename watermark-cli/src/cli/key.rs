//! Arguments of `key`, and how any command is given its key.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use watermark_core::detect::TestId;

use super::DryArgs;
use super::distill::test;

/// Where the key comes from.
#[derive(Args)]
#[group(skip)]
pub(crate) struct KeySource {
    /// Key file, mode 0600; `-` reads standard input.
    #[arg(
        long,
        value_name = "PATH|-",
        required_unless_present = "key_command",
        conflicts_with = "key_command"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// A command that prints the key line, for example `pass show watermark`. It is run without a shell.
    #[arg(long, value_name = "CMD")]
    pub(crate) key_command: Option<String>,
    /// Read the key file although others can read it. Recorded in the report.
    #[arg(long, conflicts_with = "key_command")]
    pub(crate) allow_insecure_key_perms: bool,
}

/// Which key.
#[derive(Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) source: KeySource,
    /// Epoch of a master key [default: e1].
    #[arg(long)]
    pub(crate) epoch: Option<String>,
    /// Slot of a master key, 0 to 32 [default: 0].
    #[arg(long)]
    pub(crate) slot: Option<u32>,
}

#[derive(Subcommand)]
pub(crate) enum Key {
    /// Make a master key in a new file.
    New {
        /// The file; it must not exist.
        #[arg(long)]
        out: PathBuf,
    },
    /// Name a key file's key, without showing it.
    Inspect(Inspect),
    /// Export one slot's key for a server that must not hold the master key.
    Slot {
        #[command(flatten)]
        key: KeyArgs,
        /// The file; it must not exist.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        dry: DryArgs,
    },
    /// Write an engine's own configuration of a mark, so that it writes what is read here. It holds the key.
    EngineConfig {
        #[command(flatten)]
        key: KeyArgs,
        /// A profile of another engine: a built-in one or a file.
        #[arg(long, value_name = "NAME|FILE.json")]
        profile: String,
        /// The file, mode 0600; it must not exist.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        dry: DryArgs,
    },
    /// Commit to all keys of an epoch before the first of them is used.
    Commit(Commit),
    /// Open one slot of a commitment for an expert, or verify an opening.
    Open(Open),
    /// End one epoch and begin the next.
    Rotate(Rotate),
}

#[derive(Args)]
pub(crate) struct Inspect {
    /// The key file; `-` reads standard input.
    #[arg(
        required_unless_present = "key_command",
        conflicts_with = "key_command"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// A command that prints the key line. It is run without a shell.
    #[arg(long, value_name = "CMD")]
    pub(crate) key_command: Option<String>,
    /// Read the key file although others can read it.
    #[arg(long, conflicts_with = "key_command")]
    pub(crate) allow_insecure_key_perms: bool,
    /// Say whether the key belongs to this commitment: for a master key the root is computed again.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) commitment: Option<PathBuf>,
}

/// The recipe that a commitment binds beside the keys.
#[derive(Args)]
pub(crate) struct RecipeArgs {
    /// Built-in profile or profile file.
    #[arg(long, value_name = "NAME|FILE.json", default_value = watermark_core::profile::BUILT_IN[0])]
    pub(crate) profile: String,
    /// The tokenizer that token ids belong to [default: that of the embedded model].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// The test that results will be stated by.
    #[arg(long, value_name = "TEST", default_value = "closed-sqrt", value_parser = test)]
    pub(crate) primary: TestId,
}

/// Commit to all 4096 keys of an epoch, 33 that may mark text and 4063 sealed decoys, before the first of
/// them is used.
///
/// The file is public. It binds the keys and the recipe, and hides the keys. That it is older than the first
/// marked text is what others can say of its digest: publish it, or have a time put on it.
#[derive(Args)]
pub(crate) struct Commit {
    #[command(flatten)]
    pub(crate) source: KeySource,
    /// The epoch.
    #[arg(long, default_value = "e1")]
    pub(crate) epoch: String,
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// The file; it must not exist.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
}

/// Open one slot of a commitment, or verify an opening.
///
/// An opening holds the slot's key. Whoever has it can check that the key was committed to, and can forge
/// and strip the slot's mark from then on. Open slots of epochs that are out of use (as the file of `key
/// rotate` says), decoys to show that they are decoys, or to a neutral expert.
#[derive(Args)]
pub(crate) struct Open {
    /// Key file of the master key, mode 0600; `-` reads standard input.
    #[arg(
        long,
        value_name = "PATH|-",
        conflicts_with_all = ["key_command", "verify"],
        required_unless_present_any = ["key_command", "verify"]
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// A command that prints the key line. It is run without a shell.
    #[arg(long, value_name = "CMD", conflicts_with = "verify")]
    pub(crate) key_command: Option<String>,
    /// Read the key file although others can read it.
    #[arg(long, requires = "key_file")]
    pub(crate) allow_insecure_key_perms: bool,
    /// The commitment.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) commitment: PathBuf,
    /// The slot, 0 to 4095.
    #[arg(long, required_unless_present = "verify", conflicts_with = "verify")]
    pub(crate) slot: Option<u32>,
    /// The file of the opening; it must not exist, and gets mode 0600.
    #[arg(long, required_unless_present = "verify", conflicts_with = "verify")]
    pub(crate) out: Option<PathBuf>,
    /// Epochs and when they were in use, as `key rotate` writes them.
    #[arg(long, value_name = "FILE.json", conflicts_with = "verify")]
    pub(crate) epochs: Option<PathBuf>,
    /// Open a slot of an epoch that is in use, or not known to be out of use.
    #[arg(long, conflicts_with = "verify")]
    pub(crate) i_know_this_lets_anyone_forge_slot: bool,
    /// Verify this opening instead; exit code 3 if it does not hold.
    #[arg(long, value_name = "OPENING.json")]
    pub(crate) verify: Option<PathBuf>,
    /// Write the verified slot's key to this new file, to test with it.
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub(crate) key_out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
}

/// End one epoch and begin the next: a commitment for the new one, and a line for each in the file of epochs.
///
/// Slots of two epochs are unrelated keys. A suspect that was trained on text of both shows each mark at its
/// own share of the training data only.
#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) source: KeySource,
    /// The epoch that ends.
    #[arg(long)]
    pub(crate) from: String,
    /// The epoch that begins.
    #[arg(long)]
    pub(crate) to: String,
    /// The file of epochs; it is made if it does not exist.
    #[arg(long, value_name = "FILE.json", default_value = "epochs.json")]
    pub(crate) epochs: PathBuf,
    /// When a key of the ending epoch may have become known to others: text from then on may be forged.
    #[arg(long, value_name = "RFC3339")]
    pub(crate) compromised_at: Option<String>,
    /// Begin the new epoch under a new master key in this new file: needed where the master key itself may
    /// be known to others.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// The new epoch's commitment; the file must not exist.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) dry: DryArgs,
}
