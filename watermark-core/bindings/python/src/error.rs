//! Errors of the core as Python exceptions: what happened, where, and what to do.

use std::io;

use pyo3::PyErr;
use pyo3::exceptions::{PyFileExistsError, PyPermissionError, PyTypeError, PyValueError};
use watermark_core::key::KeyFileError;

/// A value that cannot be used.
pub(crate) fn value(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A thing of the wrong type.
pub(crate) fn wrong_type(error: impl ToString) -> PyErr {
    PyTypeError::new_err(error.to_string())
}

/// What the system said of a file, by its kind: `FileNotFoundError` and so on.
pub(crate) fn system(kind: io::ErrorKind, message: String) -> PyErr {
    io::Error::new(kind, message).into()
}

/// A key file that cannot be read or must not be.
pub(crate) fn key_file(error: &KeyFileError) -> PyErr {
    let message = error.to_string();
    match error {
        KeyFileError::Io { source, .. } => system(source.kind(), message),
        KeyFileError::Exists(_) => PyFileExistsError::new_err(message),
        KeyFileError::OpenToOthers { .. } | KeyFileError::OtherOwner(_) => {
            PyPermissionError::new_err(message)
        }
        _ => value(message),
    }
}
