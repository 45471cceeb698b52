//! The commands of `watermark-eval`.

pub(crate) mod bench;
pub(crate) mod cycle;
pub(crate) mod embed;
pub(crate) mod endpoint;
pub(crate) mod null;
pub(crate) mod sample;
pub(crate) mod student;
pub(crate) mod study;
pub(crate) mod teacher;

use std::path::Path;

use crate::FileError;

/// Writes a file atomically.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    watermark_eval::files::replace(path, bytes).map_err(|error| FileError {
        path: path.to_owned(),
        message: error.to_string(),
    })
}
