//! A key from a file, from standard input or from a command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use watermark_core::key::{
    AnyKey, Exposure, KeyFileError, SecretKey, read_any_key_file, read_any_key_from,
    read_exposed_key_file,
};
use watermark_core::warning::Warning;

use crate::cli::KeySource;
use crate::error::CliError;

/// A key, and who else could read its file.
pub(crate) struct Found<K = SecretKey> {
    pub(crate) key: K,
    pub(crate) exposure: Option<Exposure>,
}

impl KeySource {
    /// Reads a key of ours.
    pub(crate) fn read(&self) -> Result<Found, CliError> {
        let Found { key, exposure } = self.read_any()?;
        let key = key.secret(&self.name())?;
        Ok(Found { key, exposure })
    }

    /// Reads a key of ours or of another engine.
    pub(crate) fn read_any(&self) -> Result<Found<AnyKey>, CliError> {
        let sealed = |key| Found {
            key,
            exposure: None,
        };
        match (&self.key_file, &self.key_command) {
            (_, Some(command)) => from_command(command, &self.name()).map(sealed),
            (Some(path), None) if path == Path::new("-") => {
                let key = read_any_key_from(std::io::stdin(), &self.name())?;
                Ok(sealed(key))
            }
            (Some(path), None) => {
                no_key("--key-file", "the name of a file", &path.to_string_lossy())?;
                from_file(path, self.allow_insecure_key_perms)
            }
            (None, None) => Err(CliError::Usage(
                "give the key: --key-file or --key-command".into(),
            )),
        }
    }

    /// What the source is called in errors.
    fn name(&self) -> PathBuf {
        match (&self.key_command, &self.key_file) {
            (Some(command), _) => {
                let words = shlex::split(command).unwrap_or_default();
                let program = words.first().map_or("a command", String::as_str);
                PathBuf::from(format!("(output of {program})"))
            }
            (None, Some(path)) if path != Path::new("-") => path.clone(),
            (None, _) => PathBuf::from("standard input"),
        }
    }
}

fn from_file(path: &Path, exposed: bool) -> Result<Found<AnyKey>, CliError> {
    if !exposed {
        let key = read_any_key_file(path)?;
        return Ok(Found {
            key,
            exposure: None,
        });
    }
    let (key, exposure) = read_exposed_key_file(path)?;
    if let Some(exposure) = exposure {
        let warning = Warning::of_exposure(exposure);
        eprintln!(
            "warning: {}: {}; {}",
            path.display(),
            warning.meaning(),
            warning.remedy()
        );
    }
    Ok(Found { key, exposure })
}

/// Runs a command, which says on standard error what it likes, and reads the line from its standard output.
fn from_command(command: &str, name: &Path) -> Result<AnyKey, CliError> {
    no_key("--key-command", "a command that prints the key", command)?;
    let words = shlex::split(command)
        .ok_or_else(|| CliError::Usage("--key-command: a quotation mark is not closed".into()))?;
    let [program, arguments @ ..] = words.as_slice() else {
        return Err(CliError::Usage("--key-command: no command".into()));
    };
    let failed = |what: String| CliError::KeyCommand {
        program: program.clone(),
        what,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let output = child.stdout.take().expect("standard output is a pipe");
    // The pipe is closed before the wait, so that a command that goes on talking ends.
    let key = read_any_key_from(output, name);
    let status = child
        .wait()
        .map_err(|error| failed(format!("cannot be waited for: {error}")))?;
    match key {
        Ok(key) if status.success() => Ok(key),
        // What it printed is of interest only if it meant to print it.
        Err(error @ KeyFileError::Io { .. }) => Err(error.into()),
        // Also of one that was cut off in its talk.
        Err(error) if status.success() || status.code().is_none() => Err(error.into()),
        _ => Err(failed(format!("failed ({status})"))),
    }
}

/// Refuses the key itself where its name belongs, without repeating it.
fn no_key(option: &'static str, wanted: &'static str, given: &str) -> Result<(), CliError> {
    let given = given.to_ascii_lowercase();
    if PREFIXES.iter().any(|prefix| given.contains(prefix)) {
        return Err(CliError::KeyInArgument { option, wanted });
    }
    Ok(())
}

const PREFIXES: [&str; 2] = ["wmk-secret-key-1", "wmk-slot-key-1"];

/// A message without key lines: a key can stand where a name or a value was expected.
pub(crate) fn redacted(message: &str) -> String {
    let lower = message.to_ascii_lowercase();
    let mut out = String::new();
    let mut from = 0;
    while let Some(at) = PREFIXES
        .iter()
        .filter_map(|prefix| lower[from..].find(prefix))
        .min()
    {
        let start = from + at;
        let line = message[start..].bytes();
        let length = line
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            .count();
        out.push_str(&message[from..start]);
        out.push_str("[a key]");
        from = start + length;
    }
    out.push_str(&message[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_lines_are_left_out() {
        for (message, wanted) in [
            ("no key: WMK-secret", "no key: WMK-secret"),
            (
                "é `WMK-SECRET-KEY-1QPZRY` and wmk-slot-key-1abc, x",
                "é `[a key]` and [a key], x",
            ),
            ("WMK-SLOT-KEY-1", "[a key]"),
        ] {
            assert_eq!(redacted(message), wanted);
        }
    }
}
