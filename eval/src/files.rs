//! The files below a directory.

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
}
