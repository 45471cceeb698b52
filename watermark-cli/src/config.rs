//! Defaults of arguments: configuration file < environment < flags.
//!
//! A file or a variable gives the default value of every flag of that name, in every command that has it. What
//! is typed wins. Neither can hold a key: only the path of a key file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Command;
use clap::builder::Resettable;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::CliError;

/// `config.toml`, field by field; field `key_file` is the default of `--key-file`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    key_file: Option<PathBuf>,
    epoch: Option<String>,
    slot: Option<u32>,
    profile: Option<String>,
    tokenizer: Option<PathBuf>,
    alpha: Option<f64>,
    min_cells: Option<u64>,
    decoys: Option<usize>,
    threads: Option<std::num::NonZeroUsize>,
    model: Option<PathBuf>,
}

/// Where a default comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment, {name}"),
        }
    }
}

/// The names that can be configured: an argument's name, and `WATERMARK_` with it in capitals.
const NAMES: [&str; 10] = [
    "key_file",
    "epoch",
    "slot",
    "profile",
    "tokenizer",
    "alpha",
    "min_cells",
    "decoys",
    "threads",
    "model",
];

/// The variable that names another configuration file; an empty one means none.
const FILE_VARIABLE: &str = "WATERMARK_CONFIG";

/// The defaults that were set, by argument.
#[derive(Debug, Default)]
pub(crate) struct Config {
    values: BTreeMap<&'static str, (String, Origin)>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
}

impl Config {
    /// The file that `WATERMARK_CONFIG` names, else `watermark/config.toml` in `XDG_CONFIG_HOME` or
    /// `~/.config` if there is one; then the environment.
    pub(crate) fn load() -> Result<Self, CliError> {
        Self::from(|name| std::env::var_os(name).and_then(|value| value.into_string().ok()))
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let mut config = Self::default();
        if let Some(path) = place(&variable) {
            config.read(&path)?;
            config.file = Some(path);
        }
        for name in NAMES {
            let key = format!("WATERMARK_{}", name.to_uppercase());
            if let Some(value) = variable(&key).filter(|value| !value.is_empty()) {
                config.values.insert(name, (value, Origin::Variable(key)));
            }
        }
        Ok(config)
    }

    fn read(&mut self, path: &Path) -> Result<(), CliError> {
        let text = std::fs::read_to_string(path).map_err(CliError::io(path))?;
        // The parser's own words quote values, and somebody may have put a key there.
        let file: ConfigFile = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text[..start].matches('\n').count();
            let field = text.lines().nth(line).unwrap_or_default();
            CliError::Config {
                path: path.to_owned(),
                line: line + 1,
                field: field
                    .split('=')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                known: NAMES.join(", "),
            }
        })?;
        // Paths are relative to the file, wherever the command runs.
        let folder = path.parent().unwrap_or(Path::new("."));
        let beside = |path: PathBuf| folder.join(path).display().to_string();
        // A profile is a built-in name or a file.
        let profile = |name: String| match watermark_core::profile::Profile::built_in(&name) {
            Some(_) => name,
            None => beside(name.into()),
        };
        let values = [
            ("key_file", file.key_file.map(beside)),
            ("epoch", file.epoch),
            ("slot", file.slot.map(|value| value.to_string())),
            ("profile", file.profile.map(profile)),
            ("tokenizer", file.tokenizer.map(beside)),
            ("alpha", file.alpha.map(|value| value.to_string())),
            ("min_cells", file.min_cells.map(|value| value.to_string())),
            ("decoys", file.decoys.map(|value| value.to_string())),
            ("threads", file.threads.map(|value| value.to_string())),
            ("model", file.model.map(beside)),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                self.values
                    .insert(name, (value, Origin::File(path.to_owned())));
            }
        }
        Ok(())
    }

    /// The command tree with these defaults.
    pub(crate) fn apply(&self, command: Command) -> Command {
        let command = command.mut_args(|argument| {
            let set = self
                .values
                .get(argument.get_id().as_str())
                .filter(|_| !argument.is_positional());
            match set {
                // A default does not count as present, so that what asks for presence is taken away.
                Some((value, _)) => argument
                    .default_value(value.clone())
                    .required(false)
                    .required_unless_present(Resettable::Reset),
                None => argument,
            }
        });
        command.mut_subcommands(|command| self.apply(command))
    }

    /// What is set, and where.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, &str, &Origin)> {
        let settings = self.values.iter();
        settings.map(|(name, (value, origin))| (*name, value.as_str(), origin))
    }
}

fn place(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(path) = variable(FILE_VARIABLE) {
        return (!path.is_empty()).then(|| path.into());
    }
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let folder = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&set("HOME")?).join(".config")))?;
    let path = folder.join("watermark").join("config.toml");
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, FromArgMatches};

    fn parse(config: &Config, line: &str) -> Cli {
        let matches = config
            .apply(Cli::command())
            .try_get_matches_from(line.split_whitespace())
            .unwrap();
        Cli::from_arg_matches(&matches).unwrap()
    }

    fn detect(cli: Cli) -> crate::cli::Detect {
        match cli.command {
            crate::cli::Command::Detect(detect) => detect,
            _ => unreachable!("the line says detect"),
        }
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        let toml = "key_file = \"k.key\"\nalpha = 1e-7\nmin_cells = 70\nprofile = \"gumbel-h2\"\n";
        std::fs::write(&path, toml).unwrap();
        let config = Config::from(|name| match name {
            "WATERMARK_CONFIG" => Some(path.display().to_string()),
            "WATERMARK_MIN_CELLS" => Some("80".to_owned()),
            _ => None,
        })
        .unwrap();
        let read = detect(parse(&config, "watermark detect --alpha 1e-3 a.txt"));
        assert_eq!(read.policy.alpha, 1e-3);
        assert_eq!(read.policy.min_cells, 80);
        assert_eq!(read.mark.profile, "gumbel-h2");
        assert_eq!(
            read.mark.key.source.key_file,
            Some(directory.path().join("k.key"))
        );
        let read = detect(parse(&config, "watermark detect a.txt"));
        assert_eq!(read.policy.alpha, 1e-7);
        assert!(
            config
                .settings()
                .any(|(name, value, origin)| name == "min_cells"
                    && value == "80"
                    && *origin == Origin::Variable("WATERMARK_MIN_CELLS".to_owned()))
        );
    }

    #[test]
    fn a_wrong_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        for (toml, word) in [("colour = 1", "colour"), ("alpha = \"x\"", "alpha")] {
            std::fs::write(&path, toml).unwrap();
            let config =
                Config::from(|name| (name == FILE_VARIABLE).then(|| path.display().to_string()));
            let error = config.unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("c.toml"), "{error}");
        }
    }

    #[test]
    fn every_name_is_an_argument_somewhere() {
        fn has(command: &Command, name: &str) -> bool {
            command
                .get_arguments()
                .any(|argument| argument.get_id() == name)
                || command.get_subcommands().any(|command| has(command, name))
        }
        for name in NAMES {
            assert!(has(&Cli::command(), name), "{name}");
        }
    }
}
