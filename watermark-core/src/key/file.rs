//! Key files: one line, mode 0600, created new, refused when anyone else could have read it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{EngineKey, EngineKeyError, KeyLineError, SecretKey};

/// A key file is a few hundred bytes, with 255 integers of an engine 6,000; anything larger is some other file.
const MAX_LEN: u64 = 8192;

/// Why a key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system refused.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key is never overwritten.
    #[error("key file {} exists already; a key is never overwritten: choose another name", .0.display())]
    Exists(PathBuf),
    /// Others than the owner may open the file.
    #[error("key file {} can be read by others (mode {mode:03o}); if that was never used, run: chmod 600 {}; else make a new key", path.display(), path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error("key file {} belongs to another user; copy it to a file of your own with mode 600", .0.display())]
    OtherOwner(PathBuf),
    /// The content is not one line of a key.
    #[error("key file {}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with the line.
        source: KeyLineError,
    },
    /// The content is an object, but not an engine's key.
    #[error("key file {}: {source}", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// What is wrong with the object.
        source: EngineKeyError,
    },
    /// The file holds an engine's key where a key of ours is needed, or the reverse.
    #[error(
        "key file {} holds {held}, and what is needed here is {wanted}", path.display()
    )]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it holds.
        held: &'static str,
        /// What is needed.
        wanted: &'static str,
    },
}

/// Any key that a key file can hold.
#[derive(Debug)]
pub enum AnyKey {
    /// One of ours, as a line.
    Secret(SecretKey),
    /// An engine's, as a JSON object.
    Engine(EngineKey),
}

/// What a file of each kind holds, for errors.
const SECRET: &str = "a master or slot key";
const ENGINE: &str = "the key of another engine";

impl AnyKey {
    fn parse(text: &str, path: &Path) -> Result<Self, KeyFileError> {
        if text.trim_start().starts_with('{') {
            let key = EngineKey::from_json(text).map_err(|source| KeyFileError::Engine {
                path: path.to_owned(),
                source,
            })?;
            return Ok(Self::Engine(key));
        }
        let key = SecretKey::from_line(text).map_err(|source| KeyFileError::Content {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::Secret(key))
    }

    /// The key, if it is one of ours; `path` is used in errors.
    pub fn secret(self, path: &Path) -> Result<SecretKey, KeyFileError> {
        match self {
            Self::Secret(key) => Ok(key),
            Self::Engine(_) => Err(KeyFileError::Kind {
                path: path.to_owned(),
                held: ENGINE,
                wanted: SECRET,
            }),
        }
    }

    /// The key, if it is an engine's; `path` is used in errors.
    pub fn engine(self, path: &Path) -> Result<EngineKey, KeyFileError> {
        match self {
            Self::Engine(key) => Ok(key),
            Self::Secret(_) => Err(KeyFileError::Kind {
                path: path.to_owned(),
                held: SECRET,
                wanted: ENGINE,
            }),
        }
    }
}

/// Reads the key of an open source, for example standard input; `name` is used in errors.
pub fn read_key_from(source: impl Read, name: &Path) -> Result<SecretKey, KeyFileError> {
    read_any_key_from(source, name)?.secret(name)
}

/// The same for a key of either kind.
pub fn read_any_key_from(source: impl Read, name: &Path) -> Result<AnyKey, KeyFileError> {
    let io_error = |source| KeyFileError::Io {
        path: name.to_owned(),
        source,
    };
    let content_error = |source| KeyFileError::Content {
        path: name.to_owned(),
        source,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize));
    source
        .take(MAX_LEN)
        .read_to_end(&mut bytes)
        .map_err(io_error)?;
    let line = core::str::from_utf8(&bytes).map_err(|_| content_error(KeyLineError::NotAKey))?;
    AnyKey::parse(line, name)
}

/// Reads a key file, and refuses one that group or others can read or that another user owns.
pub fn read_key_file(path: &Path) -> Result<SecretKey, KeyFileError> {
    read_any_key_file(path)?.secret(path)
}

/// The same for an engine's key.
pub fn read_engine_key_file(path: &Path) -> Result<EngineKey, KeyFileError> {
    read_any_key_file(path)?.engine(path)
}

/// The same for a key of either kind.
pub fn read_any_key_file(path: &Path) -> Result<AnyKey, KeyFileError> {
    let io_error = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    // The opened file is what is checked, so that it cannot be exchanged in between.
    check_access(&file, path)?;
    read_any_key_from(file, path)
}

/// Who else could read a key file that was read all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Group or others, by these permission bits.
    Mode(u32),
    /// The user that owns it.
    OtherOwner,
}

/// Reads a key file whoever can read it, and says who can. For a caller that was told to, in so many words, and
/// records it.
pub fn read_exposed_key_file(path: &Path) -> Result<(AnyKey, Option<Exposure>), KeyFileError> {
    let file = File::open(path).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    let exposure = match check_access(&file, path) {
        Ok(()) => None,
        Err(KeyFileError::OpenToOthers { mode, .. }) => Some(Exposure::Mode(mode)),
        Err(KeyFileError::OtherOwner(_)) => Some(Exposure::OtherOwner),
        Err(other) => return Err(other),
    };
    Ok((read_any_key_from(file, path)?, exposure))
}

#[cfg(unix)]
fn check_access(file: &File, path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::OpenToOthers {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(KeyFileError::OtherOwner(path.to_owned()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_access(_: &File, _: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

/// Writes a line of [`to_line`](super::MasterKey::to_line) to a new file of mode 0600.
pub fn write_key_file(path: &Path, line: &str) -> Result<(), KeyFileError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Io {
            path: path.to_owned(),
            source,
        },
    })?;
    let written = file
        .write_all(line.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all());
    written.map_err(|source| {
        // A truncated key is worse than none.
        let _ = std::fs::remove_file(path);
        KeyFileError::Io {
            path: path.to_owned(),
            source,
        }
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::key::MasterKey;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_file_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.key");
        let master = MasterKey::from_bytes([9; 32]);
        write_key_file(&path, &master.to_line()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(read_key_file(&path), Ok(SecretKey::Master(k)) if k.id() == master.id()));
        assert!(matches!(
            write_key_file(&path, &master.to_line()),
            Err(KeyFileError::Exists(_))
        ));
    }

    #[test]
    fn an_engines_key_is_read_under_the_same_rules() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vllm.key");
        let json = r#"{"schema":"watermark.engine-key/1","function":"vllm","key":"7777777"}"#;
        write_key_file(&path, json).unwrap();
        assert!(matches!(read_any_key_file(&path), Ok(AnyKey::Engine(_))));
        assert_eq!(read_engine_key_file(&path).unwrap().count(), 1);
        let error = read_key_file(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Kind { .. }), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_engine_key_file(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::OpenToOthers { .. }));
        let bad = dir.path().join("bad.key");
        write_key_file(&bad, &json.replace("\"7777777\"", "7777777.5")).unwrap();
        let error = read_engine_key_file(&bad).unwrap_err();
        assert!(error.to_string().contains("as a string"), "{error}");
        assert!(!format!("{error} {error:?}").contains("7777777"), "{error}");
        let ours = dir.path().join("ours.key");
        write_key_file(&ours, &MasterKey::from_bytes([9; 32]).to_line()).unwrap();
        let error = read_engine_key_file(&ours).unwrap_err();
        assert!(error.to_string().contains("master"), "{error}");
    }

    #[test]
    fn a_readable_file_and_a_wrong_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.key");
        write_key_file(&path, &MasterKey::from_bytes([9; 32]).to_line()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_key_file(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        let (key, exposure) = read_exposed_key_file(&path).unwrap();
        assert!(matches!(key, AnyKey::Secret(SecretKey::Master(_))));
        assert_eq!(exposure, Some(Exposure::Mode(0o640)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_exposed_key_file(&path).unwrap().1, None);
        let other = dir.path().join("other");
        write_key_file(&other, &"x".repeat(9000)).unwrap();
        assert!(matches!(
            read_key_file(&other),
            Err(KeyFileError::Content { .. })
        ));
        assert!(matches!(
            read_key_file(&dir.path().join("none")),
            Err(KeyFileError::Io { .. })
        ));
    }
}
