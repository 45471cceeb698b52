//! Every committed file has its entry with the right digest, and nothing else is committed.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// All committed data together.
const MAX_BYTES: u64 = 10_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    file: Vec<File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    source: String,
    licence: String,
    made: String,
    sha256: String,
    bytes: u64,
}

#[test]
fn the_manifest_is_the_data() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: Manifest = toml::from_str(watermark_corpora::manifest()).unwrap();
    let mut listed = BTreeSet::new();
    let mut total = 0;
    for file in &manifest.file {
        let bytes = std::fs::read(root.join(&file.path)).unwrap();
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(digest, file.sha256, "{}", file.path);
        assert_eq!(bytes.len() as u64, file.bytes, "{}", file.path);
        for field in [&file.source, &file.licence, &file.made] {
            assert!(!field.trim().is_empty(), "{}", file.path);
        }
        assert!(listed.insert(file.path.clone()), "{} twice", file.path);
        total += file.bytes;
    }
    let present: BTreeSet<String> = std::fs::read_dir(root.join("data"))
        .unwrap()
        .map(|entry| format!("data/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    assert_eq!(present, listed);
    assert!(total <= MAX_BYTES, "{total} bytes of data");
}

#[test]
fn texts_are_what_they_are_said_to_be() {
    assert_eq!(watermark_corpora::prompts().count(), 64);
    assert_eq!(watermark_corpora::openings().count(), 24);
    assert!(watermark_corpora::held_out().all(|passage| !passage.trim().is_empty()));
}
