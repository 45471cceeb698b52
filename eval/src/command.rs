//! The commands of `watermark-eval`.

pub(crate) mod cycle;
pub(crate) mod embed;
pub(crate) mod null;
pub(crate) mod sample;
pub(crate) mod teacher;
