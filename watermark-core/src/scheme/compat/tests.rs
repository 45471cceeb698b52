//! The functions against numbers that the engines' own code gave (`eval/peers/vectors.py`), to the last bit.

use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::kgw::{HfSelfHash, LeftHash, Sizes};
use super::torch::{Generator, List, permutation};
use super::{bricks, sglang, synthid, textseal, vllm};
use crate::scheme::Scheme;

fn vectors(name: &str) -> Value {
    let file = format!("testdata/vectors/compat-{name}.json");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn all<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let list = value[name].as_array().unwrap();
    assert!(!list.is_empty());
    list.iter()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn number<T: core::str::FromStr>(value: &Value) -> T {
    value.as_str().unwrap().parse().ok().unwrap()
}

fn size(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

fn bits(value: &Value) -> Vec<bool> {
    value.as_str().unwrap().bytes().map(|c| c == b'1').collect()
}

#[test]
fn the_generator_is_torchs() {
    for case in all(&vectors("torch"), "cases") {
        let seed = number(&case["seed"]);
        let mut generator = Generator::new(seed);
        for expected in bits(&case["randint2"]) {
            assert_eq!(generator.bit(), expected);
        }
        let mut generator = Generator::new(seed);
        let uniforms: Vec<u32> = (0..700)
            .map(|_| (generator.uniform24() as f32 / 16_777_216.0).to_bits())
            .collect();
        let every_seventh: Vec<u32> = uniforms.into_iter().step_by(7).collect();
        assert_eq!(every_seventh, ids(&case["rand"]));
        assert_eq!(permutation(seed, 1000), ids(&case["randperm_1000"]));
        let large = permutation(seed, 1_000_003);
        let places = ids(&case["randperm_1000003"]["at"]);
        let expected = ids(&case["randperm_1000003"]["is"]);
        for (place, expected) in places.into_iter().zip(expected) {
            assert_eq!(large[place as usize], expected);
        }
    }
}

#[test]
fn vllms_uniforms() {
    for case in all(&vectors("vllm"), "uniforms") {
        let context = ids(&case["context"]);
        let mark = vllm::Vllm::new(context.len(), number(&case["key"]), None);
        let row = mark.row(&context);
        let uniforms = ids(&case["tokens"]).into_iter();
        let uniforms = uniforms.map(|token| mark.uniform(&row, false, token).to_bits());
        assert_eq!(uniforms.collect::<Vec<_>>(), ids(&case["uniforms"]));
    }
}

#[test]
fn sglangs_hashes_and_coins() {
    let vectors = vectors("sglang");
    let key = |value: &Value| u64::from_str_radix(value.as_str().unwrap(), 16).unwrap();
    for case in all(&vectors, "hashes") {
        let context = ids(&case["context"]);
        assert_eq!(sglang::hash_window(&context), size(&case["hash"]));
        let mark = sglang::Sglang::new(context.len(), key(&case["key"]), None);
        let row = mark.row(&context);
        let hashes = ids(&case["tokens"]).into_iter();
        let hashes = hashes.map(|token| mark.hash(&row, token));
        assert_eq!(hashes.collect::<Vec<_>>(), ids(&case["hashes"]));
    }
    for case in all(&vectors, "coins") {
        let second = (key(&case["key_b"]), 0.5);
        let mark = sglang::Sglang::new(4, key(&case["key_a"]), Some(second));
        assert_eq!(mark.coin(size(&case["hash"])), Some(size(&case["coin"])));
    }
}

#[test]
fn transformers_lists() {
    let vectors = vectors("hf-kgw");
    for case in all(&vectors, "lists") {
        let sizes = Sizes::new(size(&case["size"]), case["gamma"].as_f64().unwrap()).unwrap();
        assert_eq!(sizes.list, size(&case["count"]));
        let mark = LeftHash::new(number(&case["key"]), sizes, 2.0);
        let token = size(&case["token"]);
        let row = mark.row(&[token]);
        if token == 0 {
            assert_eq!(mark.seed_of(&row), None);
            continue;
        }
        let seed = mark.seed_of(&row).unwrap();
        let mask = List::mask(seed, sizes.list, sizes.vocabulary);
        let held = |&v: &u32| mask[v as usize / 32] >> (v % 32) & 1 == 1;
        let green: Vec<u32> = (0..sizes.vocabulary).filter(held).collect();
        let list = List::new(seed, sizes.list, sizes.vocabulary);
        let some = (0..sizes.vocabulary).step_by(997);
        assert!(some.into_iter().all(|v| list.holds(v) == held(&v)));
        let bytes: Vec<u8> = green.iter().flat_map(|v| v.to_le_bytes()).collect();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(crate::hex(&digest), case["sha256"].as_str().unwrap());
    }
    for case in all(&vectors, "selfhash") {
        let sizes = Sizes::new(size(&case["size"]), case["gamma"].as_f64().unwrap()).unwrap();
        let width = size(&case["width"]) as usize - 1;
        let mark = HfSelfHash::new(width, number(&case["key"]), sizes, 2.0);
        let row = mark.row(&ids(&case["window"]));
        let (seeds, green) = (all(case, "seeds"), bits(&case["green"]));
        for ((token, seed), green) in ids(&case["candidates"]).into_iter().zip(seeds).zip(green) {
            assert_eq!(mark.seed(&row, token), number::<u64>(seed));
            assert_eq!(mark.score(&row, token), u64::from(green));
        }
    }
}

#[test]
fn synthids_g_values() {
    let vectors = vectors("hf-synthid");
    for case in all(&vectors, "g_values") {
        let keys: Vec<u64> = all(case, "keys")
            .map(|key| number::<i64>(key) as u64)
            .collect();
        let width = size(&case["ngram_len"]) as usize - 1;
        let mark = synthid::HfSynthId::new(width, &keys, 0);
        assert_eq!(mark.ones(), size(&vectors["ones"]));
        for (cell, expected) in ids(&case["ids"]).windows(width + 1).zip(all(case, "g")) {
            let row = mark.row(&cell[..width]);
            let expected = bits(expected);
            let found: Vec<bool> = (0..keys.len())
                .map(|layer| mark.g(&row, cell[width], layer))
                .collect();
            assert_eq!(found, expected);
            let ones = expected.iter().filter(|&&g| g).count() as u64;
            assert_eq!(mark.score(&row, cell[width]), ones);
        }
    }
}

#[test]
fn the_repositorys_g_values() {
    for case in all(&vectors("synthid-text"), "g_values") {
        let keys: Vec<u64> = all(case, "keys")
            .map(|key| number::<i64>(key) as u64)
            .collect();
        let width = size(&case["ngram_len"]) as usize - 1;
        let mark = synthid::SynthIdText::new(width, &keys, 2);
        for (cell, expected) in ids(&case["ids"]).windows(width + 1).zip(all(case, "g")) {
            let row = mark.row(&cell[..width]);
            let found: Vec<bool> = (0..keys.len())
                .map(|layer| mark.g(&row, cell[width], layer))
                .collect();
            assert_eq!(found, bits(expected));
        }
    }
}

#[test]
fn three_bricks_rows() {
    for case in all(&vectors("three-bricks"), "rows") {
        let window = ids(&case["window"]);
        let key = [number(&case["seed"]), number(&case["salt"])];
        let sizes = Sizes::new(size(&case["size"]), 0.25).unwrap();
        let list = bricks::BricksList::new(window.len(), key, sizes, 2.0);
        let gumbel = bricks::BricksGumbel::new(window.len(), key);
        let (row, tokens) = (list.row(&window), ids(&case["tokens"]));
        let uniforms = tokens
            .iter()
            .map(|&token| gumbel.uniform(&row, token).to_bits());
        assert_eq!(uniforms.collect::<Vec<_>>(), ids(&case["uniforms"]));
        let Some(seed) = list.seed_of(&row) else {
            assert!(
                key[0] == 0 && window.len() == 1,
                "only these are not keyed here"
            );
            continue;
        };
        assert_eq!(seed, number::<u64>(&case["rng_seed"]));
        for (&token, green) in tokens.iter().zip(bits(&case["green"])) {
            assert_eq!(list.score(&row, token), u64::from(green));
        }
    }
}

#[test]
fn textseals_uniforms() {
    for case in all(&vectors("textseal"), "rows") {
        let window = ids(&case["window"]);
        let mark = textseal::TextSeal::new(window.len(), number(&case["key"]));
        let row = mark.row(&window);
        let uniforms = ids(&case["tokens"]).into_iter();
        let uniforms = uniforms.map(|token| mark.uniform(&row, token).to_bits());
        assert_eq!(uniforms.collect::<Vec<_>>(), ids(&case["uniforms"]));
    }
}
