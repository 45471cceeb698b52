//! A stranger's check: an opening verified by thirty lines of Python that share no code with this crate.
//!
//! Needs `python3`, with its standard library alone.

use std::path::Path;
use std::process::{Command, Output};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use watermark_core::detect::TestId;
use watermark_core::evidence::commitment::{Commitment, Params};
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::{Profile, SchemeSpec, Vocabulary};

fn verify(dir: &Path, commitment: &str, opening: &str) -> Output {
    let (c, o) = (dir.join("commitment.json"), dir.join("opening.json"));
    std::fs::write(&c, commitment).unwrap();
    std::fs::write(&o, opening).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openverify.py");
    Command::new("python3")
        .arg(script)
        .args([c, o])
        .output()
        .expect("this test needs python3")
}

#[test]
fn a_stranger_can_check_an_opening() {
    let master = MasterKey::from_bytes([5; 32]);
    let epoch = Epoch::new("2026q4").unwrap();
    // Numbers that JSON writers print in different ways.
    let scheme = SchemeSpec::Greenlist {
        context_width: 2,
        gamma: 0.25,
        delta: 0.1,
    };
    let mut profile = Profile::new("a name with é and \"quotes\"", scheme);
    profile.min_entropy = 1e-7;
    let tokenizer = Vocabulary {
        size: 128_256,
        sha256: "0f".repeat(32),
    };
    let params = Params::new(profile, tokenizer, TestId::ClosedSqrt);
    let commitment = Commitment::new(&master, &epoch, params, UNIX_EPOCH);
    let dir = tempfile::tempdir().unwrap();
    let file = commitment.to_json();
    for slot in [0, 1, 32, 2047, 4095] {
        let opening = commitment.open(&master, slot).unwrap();
        let output = verify(dir.path(), &file, &opening.to_json());
        let said = String::from_utf8(output.stdout).unwrap();
        let id = opening.key().id();
        assert!(
            output.status.success(),
            "{output:?}",
            output = output.stderr
        );
        assert_eq!(
            said.trim(),
            format!("epoch 2026q4, slot {slot}, key {id}: holds")
        );
    }
    let opening: Value =
        serde_json::from_str(&commitment.open(&master, 7).unwrap().to_json()).unwrap();
    let bent = |hex: &Value| {
        let hex = hex.as_str().unwrap();
        let first = if hex.starts_with('0') { "1" } else { "0" };
        json!(format!("{first}{}", &hex[1..]))
    };
    let changed = |field: &str, new: Value| {
        let mut opening = opening.clone();
        opening[field] = new;
        opening.to_string()
    };
    let mut path = opening["path"].clone();
    path[11] = bent(&path[11]);
    for (opening, what) in [
        (changed("slotKey", bent(&opening["slotKey"])), "value"),
        (changed("blinding", bent(&opening["blinding"])), "value"),
        (changed("slot", json!(8)), "value"),
        (changed("path", path), "path"),
        (changed("keyId", bent(&opening["keyId"])), "key id"),
    ] {
        let output = verify(dir.path(), &file, &opening);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.trim(), format!("FAILED: {what}"));
    }
    let other = file.replace("\"delta\":0.1", "\"delta\":0.2");
    assert_ne!(other, file);
    let output = verify(dir.path(), &other, &opening.to_string());
    assert!(String::from_utf8(output.stderr).unwrap().contains("recipe"));
}
