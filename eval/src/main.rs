//! `watermark-eval`.
fn main() {}
