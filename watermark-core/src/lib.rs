//! Keyed sampling marks for language models, and the exact tests that read them back.

pub mod stats;
pub mod text;
