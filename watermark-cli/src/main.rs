//! `watermark`.
fn main() {}
