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
    let files = |folder: &'static str| {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        entries.map(move |entry| {
            let name = entry.unwrap().file_name();
            format!("{folder}/{}", name.to_string_lossy())
        })
    };
    let present: BTreeSet<String> = files("data").chain(files("prompts")).collect();
    assert_eq!(present, listed);
    assert!(total <= MAX_BYTES, "{total} bytes of data");
}

#[test]
fn texts_are_what_they_are_said_to_be() {
    assert_eq!(watermark_corpora::prompts().count(), 64);
    assert_eq!(watermark_corpora::openings().count(), 24);
    for name in watermark_corpora::PROMPT_SETS {
        let set = watermark_corpora::prompt_set(name).unwrap();
        let lines: BTreeSet<&str> = set.lines().collect();
        assert!((60..=100).contains(&lines.len()), "{name}");
        assert_eq!(lines.len(), set.lines().count(), "{name} has a line twice");
    }
    assert!(watermark_corpora::prompt_set("poetry").is_none());
    assert!(watermark_corpora::held_out().all(|passage| !passage.trim().is_empty()));
}
