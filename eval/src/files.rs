//! Files: all below a directory, and files that change only when they are complete.

use std::io::Write;
use std::path::{Path, PathBuf};

/// A directory that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ListError {
    /// The directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// The files below `directory`, at any depth, whose extension is one of `extensions` (without a
/// dot), in the order of their paths: the same on every system.
///
/// # Errors
/// A directory cannot be read.
pub fn below(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, ListError> {
    let mut files = Vec::new();
    collect(directory, extensions, &mut files)?;
    files.sort_unstable();
    Ok(files)
}

fn collect(
    directory: &Path,
    extensions: &[&str],
    files: &mut Vec<PathBuf>,
) -> Result<(), ListError> {
    let error = |source| ListError {
        path: directory.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.is_dir() {
            collect(&path, extensions, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|&known| extension == known))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Writes a file atomically: into a temporary one beside it, synced, then renamed. A file that was
/// there keeps its permissions; a new one gets those that the system gives to new files.
///
/// # Errors
/// The directory cannot be written to.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    let old = std::fs::metadata(path).map(|metadata| metadata.permissions());
    #[cfg(unix)]
    let builder = builder.permissions(old.unwrap_or_else(|_| {
        // Masked by the system as for any new file; without this it would be for the owner only.
        std::os::unix::fs::PermissionsExt::from_mode(0o666)
    }));
    let mut file = builder.tempfile_in(parent.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_by_path_and_extension_from_every_depth() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("b/c")).unwrap();
        for name in ["z.txt", "b/c/a.txt", "b/x.jsonl", "b/y.md", "txt"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let names = |extensions: &[&str]| -> Vec<PathBuf> {
            let files = below(directory.path(), extensions).unwrap();
            let strip = |path: PathBuf| path.strip_prefix(directory.path()).unwrap().to_owned();
            files.into_iter().map(strip).collect()
        };
        assert_eq!(names(&["txt"]), ["b/c/a.txt", "z.txt"].map(PathBuf::from));
        assert_eq!(names(&["jsonl", "txt"]).len(), 3);
        let error = below(&directory.path().join("none"), &["txt"]).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_replaced_with_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        replace(&path, b"one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("no/such"), b"").is_err());
    }
}
