//! Key files: one line, mode 0600, created new, refused when anyone else could have read it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KeyLineError, SecretKey};

/// A key file is a few hundred bytes; anything larger is some other file.
const MAX_LEN: u64 = 4096;

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
}

/// Reads the key of an open source, for example standard input; `name` is used in errors.
pub fn read_key_from(source: impl Read, name: &Path) -> Result<SecretKey, KeyFileError> {
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
    SecretKey::from_line(line).map_err(content_error)
}

/// Reads a key file, and refuses one that group or others can read or that another user owns.
pub fn read_key_file(path: &Path) -> Result<SecretKey, KeyFileError> {
    let io_error = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    // The opened file is what is checked, so that it cannot be exchanged in between.
    check_access(&file, path)?;
    read_key_from(file, path)
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
pub fn read_exposed_key_file(path: &Path) -> Result<(SecretKey, Option<Exposure>), KeyFileError> {
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
    Ok((read_key_from(file, path)?, exposure))
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
    fn a_readable_file_and_a_wrong_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.key");
        write_key_file(&path, &MasterKey::from_bytes([9; 32]).to_line()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_key_file(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        let (key, exposure) = read_exposed_key_file(&path).unwrap();
        assert!(matches!(key, SecretKey::Master(_)));
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
