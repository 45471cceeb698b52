//! Files that appear, or change, only when they are complete.

use std::io::Write;
use std::path::Path;

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
