//! The commands of `watermark-eval`.

pub(crate) mod teacher;
