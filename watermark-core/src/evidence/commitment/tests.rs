use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;

fn master(byte: u8) -> MasterKey {
    MasterKey::from_bytes([byte; 32])
}

fn epoch(label: &str) -> Epoch {
    Epoch::new(label).unwrap()
}

fn params() -> Params {
    let tokenizer = Vocabulary {
        size: 4096,
        sha256: "ab".repeat(32),
    };
    Params::new(
        Profile::built_in("greenlist-h1").unwrap(),
        tokenizer,
        TestId::ClosedSqrt,
    )
}

fn commitment() -> Commitment {
    let now = UNIX_EPOCH + Duration::from_secs(1_795_603_389);
    Commitment::new(&master(7), &epoch("e1"), params(), now)
}

fn value_of(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_commitment_is_read_again() {
    let made = commitment();
    let read = Commitment::from_json(&made.to_json()).unwrap();
    assert_eq!(read, made);
    assert_eq!(read.created(), "2026-11-25T10:43:09Z");
    // Its time is no part of the root.
    let later = Commitment::new(&master(7), &epoch("e1"), params(), UNIX_EPOCH);
    assert_eq!(later.root(), made.root());
    assert_ne!(later.digest(), made.digest());
}

#[test]
fn key_epoch_and_recipe_are_bound() {
    let root = |byte, label, params| {
        Commitment::new(&master(byte), &epoch(label), params, UNIX_EPOCH)
            .root()
            .to_owned()
    };
    let mut other = params();
    other.primary = TestId::ClosedCells;
    let roots = [
        root(7, "e1", params()),
        root(8, "e1", params()),
        root(7, "e2", params()),
        root(7, "e1", other),
    ];
    for (place, root) in roots.iter().enumerate() {
        assert!(!roots[..place].contains(root));
    }
}

#[test]
fn whose_keys_they_are() {
    let commitment = commitment();
    commitment.check_master(&master(7)).unwrap();
    let error = commitment.check_master(&master(8)).unwrap_err();
    assert!(error.is_verification());
    assert!(
        error
            .to_string()
            .contains("does not belong to the commitment")
    );
    let slot = |label, index| master(7).slot(&epoch(label), index);
    commitment.check_slot(&slot("e1", 0)).unwrap();
    commitment.check_slot(&slot("e1", 32)).unwrap();
    let renamed = SlotKey::from_parts(*slot("e1", 0).bytes(), epoch("e1"), 1);
    for other in [
        slot("e2", 0),
        slot("e1", 33),
        renamed,
        master(8).slot(&epoch("e1"), 0),
    ] {
        let error = commitment.check_slot(&other).unwrap_err();
        assert!(error.is_verification(), "{error}");
    }
    let recipe = params();
    commitment
        .check_recipe(&recipe.profile, &recipe.tokenizer)
        .unwrap();
    let other = Profile::built_in("greenlist-h2").unwrap();
    assert!(commitment.check_recipe(&other, &recipe.tokenizer).is_err());
    let other = Vocabulary {
        size: 4095,
        ..recipe.tokenizer
    };
    assert!(commitment.check_recipe(&recipe.profile, &other).is_err());
}

#[test]
fn slots_open_active_and_sealed() {
    let commitment = commitment();
    for slot in [0, 5, 33, 2048, 4095] {
        let opening = commitment.open(&master(7), slot).unwrap();
        let read = Opening::from_json(&opening.to_json()).unwrap();
        read.verify(&commitment).unwrap();
        assert_eq!(read.key().id(), master(7).slot(&epoch("e1"), slot).id());
        // Canonical, although it is put together by hand.
        let text = opening.to_json();
        let again = canonical(&value_of(&text));
        assert_eq!(text.trim_end().as_bytes(), again);
        let shown = format!("{read:?}");
        let key = crate::hex(read.key().bytes());
        assert!(!shown.contains(&key[..16]), "{shown}");
    }
    assert_eq!(
        commitment.open(&master(7), 4096).unwrap_err(),
        CommitmentError::NoSlot(4096)
    );
    assert!(
        commitment
            .open(&master(8), 0)
            .unwrap_err()
            .is_verification()
    );
}

/// Every field of an opening matters.
#[test]
fn an_opening_that_was_changed_fails() {
    let commitment = commitment();
    let whole = value_of(&commitment.open(&master(7), 5).unwrap().to_json());
    let bent = |hex: &str| {
        let first = if hex.starts_with('0') { "1" } else { "0" };
        json!(format!("{first}{}", &hex[1..]))
    };
    let verify = |field: &str, new: Value| {
        let mut changed = whole.clone();
        changed[field] = new;
        Opening::from_json(&changed.to_string())
            .and_then(|opening| opening.verify(&commitment))
            .unwrap_err()
    };
    let text = |field: &str| whole[field].as_str().unwrap();
    use OpeningError as E;
    for (field, new, wanted) in [
        ("slotKey", bent(text("slotKey")), E::Value),
        ("blinding", bent(text("blinding")), E::Value),
        ("c", bent(text("c")), E::Value),
        ("slot", json!(6), E::Value),
        ("epoch", json!("e2"), E::OtherCommitment("epoch")),
        ("root", bent(text("root")), E::OtherCommitment("root")),
        (
            "paramsSha256",
            bent(text("paramsSha256")),
            E::OtherCommitment("paramsSha256"),
        ),
        (
            "keyId",
            json!("0123456789abcdef"),
            E::KeyId("that it states"),
        ),
        ("slot", json!(4096), E::Field("slot")),
        ("slots", json!(1), E::Field("slot")),
        ("type", json!("x"), E::Field("type")),
        ("schema", json!(2), E::Field("schema")),
        ("c", json!("x"), E::Field("c")),
    ] {
        assert_eq!(verify(field, new), wanted, "{field}");
    }
    for at in 0..12 {
        let mut path = whole["path"].clone();
        path[at] = bent(path[at].as_str().unwrap());
        assert_eq!(verify("path", path), E::Path);
    }
    assert_eq!(verify("path", json!([])), E::Path);
    // A key in the wrong place is not repeated.
    let error = verify("slot", whole["slotKey"].clone());
    assert!(matches!(error, E::Json { .. }));
    assert!(!error.to_string().contains(&text("slotKey")[..8]));
}

#[test]
fn what_is_no_commitment() {
    let whole = value_of(&commitment().to_json());
    let with = |field: &str, new: Value| {
        let mut changed = whole.clone();
        changed[field] = new;
        Commitment::from_json(&changed.to_string()).unwrap_err()
    };
    for (field, new) in [
        ("type", json!("watermark.plan")),
        ("schema", json!(2)),
        ("slots", json!(4095)),
        ("active", json!(34)),
        ("activeKeys", json!([])),
        ("created", json!("now")),
        ("epoch", json!("Q/4")),
        ("root", json!("00")),
        ("paramsSha256", json!("00")),
    ] {
        let error = with(field, new);
        assert!(!error.is_verification());
        assert!(error.to_string().contains(field), "{error}");
    }
    assert!(with("more", json!(1)).to_string().contains("more"));
    let mut recipe = whole["params"].clone();
    recipe["primary"] = json!("closed-cells");
    let error = with("params", recipe);
    assert!(matches!(error, CommitmentError::Params { .. }), "{error}");
    assert!(error.is_verification());
}
