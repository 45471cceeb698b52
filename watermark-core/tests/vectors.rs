//! The committed vectors: reference and library both give exactly what the file says.
//!
//! `cargo test --test vectors -- --ignored` writes the file anew, from the reference. A changed
//! value is another keyed function, which needs another name than wmk1.

mod plain;

use std::path::PathBuf;

use plain::{BECH32, BECH32M, Plain, bech32, hex, unhex};
use serde_json::{Value, json};
use watermark_core::fixed::neg_ln_q24;
use watermark_core::key::{Epoch, KeyLineError, MasterKey, SecretKey, SlotKey};
use watermark_core::profile::{BUILT_IN, Profile};
use watermark_core::text::Tokenizer;
use watermark_core::window::Exhibit;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/vectors/wmk1.json")
}

fn committed() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name]
        .as_array()
        .unwrap_or_else(|| panic!("no {name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name}"))
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn bytes32(value: &Value, name: &str) -> [u8; 32] {
    unhex(text(value, name)).try_into().unwrap()
}

const MASTER: [u8; 32] = {
    let mut key = [0; 32];
    let mut i = 0;
    while i < 32 {
        key[i] = i as u8;
        i += 1;
    }
    key
};

// ---- written from the reference ----

fn slots() -> Value {
    let rows = [
        ("2026q4", 0),
        ("2026q4", 32),
        ("2026q4", 33),
        ("2026q4", 4095),
        ("a", 0),
        ("0123456789.abcdef_ghijklm-nopqrs", u32::MAX),
    ];
    rows.map(|(epoch, index)| {
        let key = plain::slot_key(&MASTER, epoch, index);
        json!({
            "master": hex(&MASTER), "master_id": hex(&plain::key_id(&MASTER)),
            "epoch": epoch, "index": index,
            "slot_key": hex(&key), "slot_key_id": hex(&plain::key_id(&key)),
        })
    })
    .into_iter()
    .collect()
}

fn profile(scheme: Value, leak: bool, rounds: u32) -> Value {
    json!({
        "schema": "watermark.profile/1", "id": "vector", "scheme": scheme,
        "slot": if leak { "leak" } else { "provider" }, "rounds": rounds,
    })
}

fn rows() -> Value {
    let green = |h: u32, gamma: f64| json!({"type": "greenlist", "context_width": h, "gamma": gamma, "delta": 2.0});
    let selfhash = |h: u32, gamma: f64| json!({"type": "greenlist-selfhash", "context_width": h, "gamma": gamma, "delta": 2.0});
    let gumbel = |h: u32| json!({"type": "gumbel", "context_width": h});
    let dual = |h: u32| json!({"type": "gumbel-dual", "context_width": h});
    let tournament = |h: u32, depth: u32, leaves: u32| json!({"type": "tournament", "context_width": h, "depth": depth, "leaves": leaves});
    let cases = [
        (green(0, 0.5), 0, 8, vec![]),
        (green(1, 0.25), 0, 8, vec![5]),
        (green(2, 0.75), 0, 20, vec![7, u32::MAX]),
        (green(4, 0.5), 12_345, 8, vec![1, 2, 3, 4]),
        (green(4, 0.0625), 16, 8, vec![1, 2, 3, 4]),
        (green(4, 77.0 / 256.0), 0, 8, vec![4, 3, 2, 1]),
        (green(4, 0.1), 0, 8, vec![0, 0, 0, 0]),
        (green(4, 0.1), u32::MAX, 20, vec![0, 0, 0, 0]),
        (green(11, 0.5), 0, 8, (100..111).collect()),
        (gumbel(1), 0, 8, vec![127_999]),
        (gumbel(2), 0, 20, vec![9, 8]),
        (gumbel(4), 1, 8, vec![9, 8, 7, 6]),
        (dual(2), 0, 8, vec![9, 8]),
        (dual(11), 31, 20, (0..11).collect()),
        (tournament(2, 30, 2), 0, 8, vec![9, 8]),
        (tournament(2, 32, 2), 0, 8, vec![9, 8]),
        (tournament(2, 33, 3), 0, 8, vec![9, 8]),
        (tournament(4, 255, 2), 77, 20, vec![1, 1, 2, 2]),
        (selfhash(1, 0.25), 0, 8, vec![42]),
        (selfhash(4, 0.25), 0, 8, vec![3, 1, 3, 2]),
        (selfhash(4, 0.5), 5, 20, vec![1, 2, 3, 4]),
        (selfhash(11, 0.1), 0, 8, (0..11).rev().collect()),
    ];
    let slot_key = plain::slot_key(&MASTER, "2026q4", 0);
    cases
        .into_iter()
        .map(
            |(scheme, account, rounds, window): (Value, u32, u32, Vec<u32>)| {
                let profile = profile(scheme, account != 0, rounds);
                let plain = Plain::new(&profile, &slot_key, account);
                let tokens: Vec<Value> = [0, 1, 15, 16, 31, 32, 511, 50_256, 127_999, u32::MAX]
                    .into_iter()
                    .map(|token| {
                        json!({
                            "token": token,
                            "words": plain.words(&window, token),
                            "score": plain.score(&window, token),
                        })
                    })
                    .collect();
                let seeds: Vec<String> = plain.row(&window).iter().map(|s| hex(s)).collect();
                let mask = [1, 5]
                    .contains(&plain.scheme)
                    .then(|| plain.mask(&window, 4));
                json!({
                    "profile": profile, "slot_key": hex(&slot_key), "account": account,
                    "scheme_key_message": hex(&plain.scheme_key_message()),
                    "window": window, "row_seeds": seeds, "mask": mask, "tokens": tokens,
                })
            },
        )
        .collect()
}

fn logarithms() -> Value {
    let powers = (0..32).flat_map(|i| [(1u32 << i) - 1, 1 << i]);
    let others = [
        3,
        100,
        0x1234_5678,
        0x5555_5555,
        0x9e37_79b9,
        u32::MAX - 1,
        u32::MAX,
    ];
    let mut rows: Vec<u32> = powers.chain(others).collect();
    rows.sort();
    rows.dedup();
    rows.into_iter()
        .map(|r| json!([r, plain::neg_ln_q24(r)]))
        .collect()
}

/// The cells of segments in a straight line: (exclude, segments, h) to the cells.
fn cells_of(excluded: &[Vec<u32>], segments: &[Vec<u32>], h: usize) -> Vec<Vec<u32>> {
    let mut cells: Vec<Vec<u32>> = Vec::new();
    for segment in segments {
        for end in h..segment.len() {
            let cell = segment[end - h..=end].to_vec();
            let barred = if h == 0 { &cell[..] } else { &cell[..h] };
            let stands = |prompt: &Vec<u32>| prompt.windows(barred.len()).any(|w| w == barred);
            if !excluded.iter().any(stands) && !cells.contains(&cell) {
                cells.push(cell);
            }
        }
    }
    cells
}

fn exhibits() -> Value {
    type Texts = Vec<Vec<u32>>;
    let cases: [(usize, Texts, Texts); 5] = [
        (0, vec![vec![7]], vec![vec![1, 7, 1, 2]]),
        (1, vec![], vec![vec![1, 2, 1, 2, 3], vec![2, 3]]),
        (
            2,
            vec![vec![9, 1, 2]],
            vec![vec![1, 2, 3, 4, 3, 4, 3], vec![3, 4, 3], vec![5]],
        ),
        (
            4,
            vec![vec![1, 2, 3]],
            vec![vec![1, 2, 3, 4, 300, 70_000], vec![]],
        ),
        (2, vec![], vec![]),
    ];
    let slot_key = plain::slot_key(&MASTER, "2026q4", 0);
    cases
        .into_iter()
        .map(|(h, excluded, segments)| {
            let cells = cells_of(&excluded, &segments, h);
            let spec = json!({"type": "greenlist", "context_width": h, "gamma": 0.5, "delta": 2.0});
            let profile = profile(spec, false, 8);
            let plain = Plain::new(&profile, &slot_key, 0);
            let sum: u64 = cells.iter().map(|c| plain.score(&c[..h], c[h])).sum();
            json!({
                "context_width": h, "exclude": excluded, "segments": segments, "cells": cells,
                "cells_digest": hex(&plain::cells_digest(h as u8, &cells)),
                "profile": profile, "slot_key": hex(&slot_key), "sum": sum,
            })
        })
        .collect()
}

fn vocabularies() -> Value {
    let lists: [&[Option<&str>]; 4] = [
        &[],
        &[Some("a"), Some("b")],
        &[Some(""), None, Some("\u{120}the"), Some("é")],
        &[Some("ab"), Some("")],
    ];
    lists
        .iter()
        .map(|names| json!({"names": names, "sha256": hex(&plain::vocabulary_digest(names))}))
        .collect()
}

fn key_lines() -> Value {
    let slot_key = plain::slot_key(&MASTER, "2026q4", 3);
    let payload = |index: u32, epoch: &str, len: u8| {
        [
            &index.to_le_bytes()[..],
            &[len],
            epoch.as_bytes(),
            &slot_key,
        ]
        .concat()
    };
    let master = bech32("wmk-secret-key-", &MASTER, 0, BECH32M);
    let slot = bech32("wmk-slot-key-", &payload(3, "2026q4", 6), 0, BECH32M);
    let upper = |line: &str| line.to_ascii_uppercase();
    let mut garbled = upper(&master).into_bytes();
    garbled[30] = if garbled[30] == b'Q' { b'P' } else { b'Q' };
    let good = |what: &str, line: String, kind: &str, key: &[u8; 32]| json!({"case": what, "line": line, "kind": kind, "key_id": hex(&plain::key_id(key))});
    let bad =
        |what: &str, line: String, error: &str| json!({"case": what, "line": line, "error": error});
    let form = |what: &str, payload: &[u8]| {
        bad(
            what,
            upper(&bech32("wmk-slot-key-", payload, 0, BECH32M)),
            "unknown_form",
        )
    };
    json!([
        good("master", upper(&master), "master", &MASTER),
        good("slot", upper(&slot), "slot", &slot_key),
        good("lower case", slot.clone(), "slot", &slot_key),
        good(
            "white space around",
            format!("  {}\r\n", upper(&master)),
            "master",
            &MASTER
        ),
        good(
            "longest epoch",
            upper(&bech32(
                "wmk-slot-key-",
                &payload(9, &"z".repeat(32), 32),
                0,
                BECH32M
            )),
            "slot",
            &slot_key
        ),
        bad("empty", String::new(), "not_a_key"),
        bad("some word", "hello".to_owned(), "not_a_key"),
        bad(
            "prefix without separator",
            "WMK-SECRET-KEY-".to_owned(),
            "not_a_key"
        ),
        bad(
            "another prefix",
            upper(&bech32("age-secret-key-", &MASTER, 0, BECH32M)),
            "not_a_key"
        ),
        bad(
            "comment before the key",
            format!("# key\n{}", upper(&master)),
            "not_a_key"
        ),
        bad(
            "nothing after the separator",
            "WMK-SECRET-KEY-1".to_owned(),
            "garbled"
        ),
        bad(
            "changed character",
            String::from_utf8(garbled).unwrap(),
            "garbled"
        ),
        bad("cut short", upper(&master)[..60].to_owned(), "garbled"),
        bad(
            "mixed case",
            format!("WMK-SECRET-KEY-1{}", &master[16..]),
            "garbled"
        ),
        bad("two lines", format!("{0}\n{0}", upper(&master)), "garbled"),
        bad(
            "character outside the alphabet",
            upper(&master).replace('Q', "B"),
            "garbled"
        ),
        bad(
            "checksum of bech32, not bech32m",
            upper(&bech32("wmk-secret-key-", &MASTER, 0, BECH32)),
            "garbled"
        ),
        bad(
            "padding bits not zero",
            upper(&bech32("wmk-secret-key-", &MASTER, 1, BECH32M)),
            "unknown_form"
        ),
        bad(
            "master of 31 bytes",
            upper(&bech32("wmk-secret-key-", &MASTER[..31], 0, BECH32M)),
            "unknown_form"
        ),
        bad(
            "master of 33 bytes",
            upper(&bech32(
                "wmk-secret-key-",
                &[&MASTER[..], &[0]].concat(),
                0,
                BECH32M
            )),
            "unknown_form"
        ),
        form("empty payload", &[]),
        form("epoch in capitals", &payload(0, "2026Q4", 6)),
        form("empty epoch", &payload(0, "", 0)),
        form("epoch of 33 characters", &payload(0, &"z".repeat(33), 33)),
        form("length beyond the payload", &payload(0, "2026q4", 200)),
        form("key of 31 bytes", &payload(0, "2026q4", 7)),
        form(
            "epoch not UTF-8",
            &[&[0, 0, 0, 0, 1, 0xff][..], &slot_key].concat()
        ),
    ])
}

fn bad_profiles() -> Value {
    let green = r#"{"type":"greenlist","context_width":1,"gamma":0.25,"delta":2.0}"#;
    let gumbel = r#"{"type":"gumbel","context_width":2}"#;
    let with = |scheme: &str, rest: &str| {
        format!(r#"{{"schema":"watermark.profile/1","id":"x","scheme":{scheme}{rest}}}"#)
    };
    let case = |json: String, names: &str| json!({"json": json, "names": names});
    let tournament = |rest: &str| format!(r#"{{"type":"tournament","context_width":2,{rest}}}"#);
    json!([
        case(String::new(), "line 1"),
        case("{".to_owned(), "line 1"),
        case(with(green, "").replace("profile/1", "profile/2"), "schema"),
        case(with(green, "").replace(r#""id":"x","#, ""), "id"),
        case(with(green, "").replace(r#""gamma":0.25,"#, ""), "gamma"),
        case(with(&green.replace("0.25", "0"), ""), "gamma"),
        case(with(&green.replace("0.25", "1"), ""), "gamma"),
        case(with(&green.replace("0.25", "-0.5"), ""), "gamma"),
        case(with(&green.replace("0.25", "0.000001"), ""), "gamma"),
        case(with(&green.replace("0.25", "0.9999999"), ""), "gamma"),
        case(with(&green.replace("2.0", "-1"), ""), "delta"),
        case(with(&green.replace("2.0", "51"), ""), "delta"),
        case(with(&green.replace(":1,", ":12,"), ""), "context_width"),
        case(
            with(
                &green
                    .replace("greenlist", "greenlist-selfhash")
                    .replace(":1,", ":0,"),
                ""
            ),
            "context_width"
        ),
        case(
            with(r#"{"type":"gumbel","context_width":0}"#, ""),
            "context_width"
        ),
        case(
            with(r#"{"type":"gumbel-dual","context_width":0}"#, ""),
            "context_width"
        ),
        case(
            with(&tournament(r#""depth":30"#).replace(":2,", ":0,"), ""),
            "context_width"
        ),
        case(with(&tournament(r#""depth":0"#), ""), "depth"),
        case(with(&tournament(r#""depth":3,"leaves":1"#), ""), "leaves"),
        case(with(&tournament(r#""depth":256"#), ""), "256"),
        case(with(r#"{"type":"magic"}"#, ""), "magic"),
        case(
            with(gumbel, r#","repeated_contexts":"mark""#),
            "repeated_contexts"
        ),
        case(with(gumbel, r#","repeated_contexts":"loop""#), "loop"),
        case(with(gumbel, r#","min_entropy":-1"#), "min_entropy"),
        case(with(gumbel, r#","rounds":12"#), "rounds"),
        case(with(gumbel, r#","slot":"both""#), "both"),
        case(with(gumbel, r#","function":"philox""#), "philox"),
        case(with(gumbel, r#","colour":"red""#), "colour"),
        case(
            with(&gumbel.replace("2}", r#"2,"gamma":0.5}"#), ""),
            "gamma"
        ),
        case(with(gumbel, r#","vocabulary":{"size":10}"#), "sha256"),
    ])
}

fn generated() -> Value {
    json!({
        "function": "wmk1",
        "about": "Inputs and outputs of the keyed function wmk1, made by the straight-line reference. Bytes are lower-case hexadecimal; all else is integers. SPEC.md says what each list fixes.",
        "slots": slots(),
        "rows": rows(),
        "neg_ln_q24": logarithms(),
        "exhibits": exhibits(),
        "vocabularies": vocabularies(),
        "key_lines": key_lines(),
        "bad_profiles": bad_profiles(),
    })
}

#[test]
#[ignore = "writes the committed file"]
fn write_the_vectors() {
    let mut text = serde_json::to_string_pretty(&generated()).unwrap();
    text.push('\n');
    std::fs::write(file(), text).unwrap();
}

// ---- read back ----

#[test]
fn the_reference_reproduces_the_file() {
    let (committed, generated) = (committed(), generated());
    for (name, value) in generated.as_object().unwrap() {
        assert_eq!(&committed[name], value, "{name}");
    }
}

#[test]
fn the_library_derives_slots() {
    for case in list(&committed(), "slots") {
        let master = MasterKey::from_bytes(bytes32(case, "master"));
        let epoch = Epoch::new(text(case, "epoch")).unwrap();
        let index = case["index"].as_u64().unwrap() as u32;
        let slot = master.slot(&epoch, index);
        let given = SlotKey::from_parts(bytes32(case, "slot_key"), epoch, index);
        assert_eq!(master.id().to_string(), text(case, "master_id"));
        assert_eq!(slot.id().to_string(), text(case, "slot_key_id"));
        // The line holds the key's bytes, which nothing else shows.
        assert_eq!(*slot.to_line(), *given.to_line());
    }
}

fn mark(case: &Value, account: u32) -> watermark_core::profile::Mark {
    let slot = SlotKey::from_parts(bytes32(case, "slot_key"), Epoch::new("e").unwrap(), 0);
    let profile = Profile::from_json(&case["profile"].to_string()).unwrap();
    profile.bind_account(&slot, account).unwrap()
}

#[test]
fn the_library_gives_rows_scores_and_masks() {
    for case in list(&committed(), "rows") {
        let mark = mark(case, case["account"].as_u64().unwrap() as u32);
        let scheme = mark.scheme();
        let row = scheme.row(&ids(&case["window"]));
        let seeds: Vec<String> = row.seeds().iter().map(|s| hex(&s.to_bytes())).collect();
        assert_eq!(json!(seeds), case["row_seeds"]);
        for token in list(case, "tokens") {
            let id = token["token"].as_u64().unwrap() as u32;
            assert_eq!(json!(scheme.score(&row, id)), token["score"]);
        }
        match scheme.as_biaser() {
            Some(biaser) => {
                let mut mask = [0; 4];
                biaser.fill_mask(&row, &mut mask);
                assert_eq!(json!(mask), case["mask"]);
            }
            None => assert_eq!(case["mask"], Value::Null),
        }
    }
}

#[test]
fn the_library_takes_logarithms() {
    for pair in list(&committed(), "neg_ln_q24") {
        let r = pair[0].as_u64().unwrap() as u32;
        assert_eq!(json!(neg_ln_q24(r)), pair[1]);
    }
}

#[test]
fn the_library_collects_cells() {
    for case in list(&committed(), "exhibits") {
        let mut exhibit = Exhibit::new(case["context_width"].as_u64().unwrap() as usize);
        list(case, "exclude")
            .iter()
            .for_each(|prompt| exhibit.exclude(&ids(prompt)));
        list(case, "segments")
            .iter()
            .for_each(|segment| exhibit.push(&ids(segment)));
        let cells: Vec<Vec<u32>> = exhibit
            .cells()
            .iter()
            .map(|(window, token)| [window, &[token]].concat())
            .collect();
        assert_eq!(json!(cells), case["cells"]);
        assert_eq!(hex(&exhibit.digest()), text(case, "cells_digest"));
        let score = watermark_core::detect::score(&mark(case, 0), &exhibit);
        assert_eq!(
            (json!(score.cells), json!(score.sum)),
            (json!(cells.len()), case["sum"].clone())
        );
    }
}

struct Names(Vec<Option<String>>);

impl Tokenizer for Names {
    fn encode(&self, _: &str) -> Vec<u32> {
        Vec::new()
    }
    fn decode(&self, _: &[u32]) -> String {
        String::new()
    }
    fn vocab_size(&self) -> usize {
        self.0.len()
    }
    fn token(&self, id: u32) -> Option<String> {
        self.0[id as usize].clone()
    }
}

#[test]
fn the_library_digests_vocabularies() {
    for case in list(&committed(), "vocabularies") {
        let names = Names(serde_json::from_value(case["names"].clone()).unwrap());
        assert_eq!(hex(&names.digest()), text(case, "sha256"));
    }
}

#[test]
fn the_library_reads_and_refuses_key_lines() {
    for case in list(&committed(), "key_lines") {
        let got = match SecretKey::from_line(text(case, "line")) {
            Ok(SecretKey::Master(key)) => json!({"kind": "master", "key_id": key.id()}),
            Ok(SecretKey::Slot(key)) => json!({"kind": "slot", "key_id": key.id()}),
            Err(KeyLineError::NotAKey) => json!({"error": "not_a_key"}),
            Err(KeyLineError::Garbled) => json!({"error": "garbled"}),
            Err(KeyLineError::UnknownForm) => json!({"error": "unknown_form"}),
        };
        for (name, value) in got.as_object().unwrap() {
            assert_eq!(&case[name], value, "{case}");
        }
    }
}

#[test]
fn the_library_refuses_bad_profiles_by_name() {
    for case in list(&committed(), "bad_profiles") {
        let error = Profile::from_json(text(case, "json")).expect_err(text(case, "json"));
        let (error, names) = (error.to_string(), text(case, "names"));
        assert!(error.contains(names), "{error:?} should name {names:?}");
    }
    for name in BUILT_IN {
        let profile = Profile::built_in(name).unwrap();
        assert_eq!(Profile::from_json(&profile.to_json()), Ok(profile));
    }
}
