//! The model that comes with the toolkit.

use std::io::Cursor;

use crate::model::Transformer;
use crate::model::gguf::{GgufError, read};

/// The embedded teacher. Its document start is token 0.
///
/// # Errors
/// The bytes in the program are damaged.
pub fn teacher() -> Result<Transformer, GgufError> {
    let bytes = watermark_corpora::teacher();
    Ok(read(Cursor::new(bytes), "the embedded model")?.model)
}
