//! Marks of other engines through the public interface: tokens chosen, texts read, false alarms, profiles and keys.
//!
//! The numbers come from the engines' own code (`eval/peers/vectors.py`); the functions themselves are checked to
//! the last bit beside their code, in `src/scheme/compat/tests.rs`.

use std::collections::HashMap;
use std::path::PathBuf;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng, TryRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use watermark_core::battery::Battery;
use watermark_core::candidates::{CandidateBuffer, Candidates, Sampling};
use watermark_core::detect::{Test, score};
use watermark_core::distill::{Distillation, distill};
use watermark_core::fixed::SCORE_BITS;
use watermark_core::key::{EngineKey, Epoch, SlotKey};
use watermark_core::profile::{COMPATIBLE, Function, Mark, Profile};
use watermark_core::sampler::Session;
use watermark_core::scheme::{NOT_KEYED, Null};
use watermark_core::stats::decoy::ks_attained;
use watermark_core::stats::size::simultaneous_band;
use watermark_core::stream::Stream;
use watermark_core::warning::Warning;
use watermark_core::window::Exhibit;

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

fn profile(function: &str, scheme: Value, engine: Value) -> Profile {
    let profile = json!({"schema": "watermark.profile/1", "id": "x", "function": function,
        "scheme": scheme, "engine": engine});
    Profile::from_json(&profile.to_string()).unwrap()
}

fn engine_key(function: &str, key: Value) -> EngineKey {
    let key = json!({"schema": "watermark.engine-key/1", "function": function, "key": key});
    EngineKey::from_json(&key.to_string()).unwrap()
}

fn slot(byte: u8) -> SlotKey {
    SlotKey::from_parts([byte; 32], Epoch::new("t").unwrap(), 0)
}

/// The weights of logits in eighths that the vectors name by a label.
fn weights(label: &str, size: usize) -> Vec<f32> {
    let logit = |index: usize| {
        let digest = Sha256::digest(format!("{label}/{index}"));
        let number = u64::from_le_bytes(digest[..8].try_into().unwrap());
        (number % 80) as f32 / 8.0
    };
    (0..size).map(|index| (logit(index) - 10.0).exp()).collect()
}

/// A generator that gives one number again and again.
struct Fixed(u64);

impl TryRng for Fixed {
    type Error = core::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((self.0 >> 32) as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill(self.0 as u8);
        Ok(())
    }
}

fn chosen(mark: &Mark, case: &Value) -> usize {
    let weights = weights(
        case["label"].as_str().unwrap(),
        case["size"].as_u64().unwrap() as usize,
    );
    let candidates = Candidates::dense(&weights).unwrap();
    let row = mark.scheme().row(&ids(&case["context"]));
    mark.scheme().choose(&row, &candidates, &mut Fixed(0))
}

#[test]
fn vllm_and_sglang_choose_these_tokens() {
    // Naming a key takes its time, so each mark is bound once.
    let mut marks: HashMap<String, Mark> = HashMap::new();
    for (function, case) in ["vllm", "sglang"].iter().flat_map(|function| {
        let vectors = vectors(function);
        let cases: Vec<Value> = all(&vectors, "choices").cloned().collect();
        cases.into_iter().map(move |case| (*function, case))
    }) {
        let width = ids(&case["context"]).len();
        let dual = !case["key_b"].is_null();
        let name = format!("{function} {width} {} {dual}", case["key"]);
        let mark = marks.entry(name).or_insert_with(|| {
            let hexadecimal = |field: &str| json!(format!("0x{}", case[field].as_str().unwrap()));
            let (scheme, engine, key) = match (function, dual) {
                ("vllm", _) => ("gumbel", json!({}), case["key"].clone()),
                (_, false) => ("gumbel", json!({}), hexadecimal("key")),
                (_, true) => (
                    "gumbel-dual",
                    json!({"mixing_probability": case["mixing"]}),
                    json!([hexadecimal("key"), hexadecimal("key_b")]),
                ),
            };
            let scheme = json!({"type": scheme, "context_width": width});
            let key = engine_key(function, key);
            profile(function, scheme, engine).bind_engine(&key).unwrap()
        });
        assert_eq!(chosen(mark, &case) as u64, case["chosen"].as_u64().unwrap());
    }
}

fn nats(sum: u64) -> f64 {
    sum as f64 / f64::from(1u32 << SCORE_BITS)
}

/// Their detectors' sums, within what fixed point and their 32-bit uniforms leave.
#[test]
fn texts_have_the_engines_own_scores() {
    for case in all(&vectors("vllm"), "detections") {
        let text = ids(&case["ids"]);
        // Their first windows are padded with -1, which ours never are.
        let padded = [vec![u32::MAX; 4], text.clone()].concat();
        for (scheme, engine, found, share) in [
            ("gumbel", json!({}), "single", 1.0),
            ("gumbel-dual", json!({"alpha": 0.5}), "dual", 0.5),
        ] {
            let profile = profile("vllm", json!({"type": scheme, "context_width": 4}), engine);
            let mark = profile
                .bind_engine(&engine_key("vllm", case["key"].clone()))
                .unwrap();
            let mut exhibit = Exhibit::new(4);
            exhibit.push(&padded);
            let ours = score(&mark, &exhibit);
            assert_eq!(ours.cells, case[found][0].as_u64().unwrap());
            let theirs = case[found][1].as_f64().unwrap();
            let error = share * nats(ours.sum) / theirs - 1.0;
            assert!(error.abs() < 1e-5, "{error}");
        }
        // Which key the score is made of, by alpha.
        for (alpha, key) in [(0.1, "key_a"), (0.9, "key_b")] {
            let scheme = json!({"type": "gumbel-dual", "context_width": 4});
            let dual = profile("vllm", scheme, json!({"alpha": alpha}));
            let dual = dual
                .bind_engine(&engine_key("vllm", case["key"].clone()))
                .unwrap();
            let one = profile(
                "vllm",
                json!({"type": "gumbel", "context_width": 4}),
                json!({}),
            );
            let one = one
                .bind_engine(&engine_key("vllm", case[key].clone()))
                .unwrap();
            let mut exhibit = Exhibit::new(4);
            exhibit.push(&text);
            assert_eq!(score(&dual, &exhibit), score(&one, &exhibit));
        }
    }
    for case in all(&vectors("sglang"), "detections") {
        let hexadecimal = |field: &str| json!(format!("0x{}", case[field].as_str().unwrap()));
        let dual = !case["key_b"].is_null();
        let (scheme, engine, key) = if dual {
            let keys = json!([hexadecimal("key"), hexadecimal("key_b")]);
            (
                "gumbel-dual",
                json!({"mixing_probability": case["mixing"]}),
                keys,
            )
        } else {
            ("gumbel", json!({}), hexadecimal("key"))
        };
        let profile = profile(
            "sglang",
            json!({"type": scheme, "context_width": 4}),
            engine,
        );
        let mark = profile.bind_engine(&engine_key("sglang", key)).unwrap();
        let mut exhibit = Exhibit::new(4);
        exhibit.push(&ids(&case["ids"]));
        let (ours, found) = (score(&mark, &exhibit), &case["found"]);
        assert_eq!(ours.cells, found[0].as_u64().unwrap());
        assert!((nats(ours.sum) / found[1].as_f64().unwrap() - 1.0).abs() < 1e-6);
        let ln_p = mark.scheme().null().upper_tail(ours.cells, ours.sum).ln();
        assert!(
            (ln_p / found[2].as_f64().unwrap() - 1.0).abs() < 1e-4,
            "{ln_p}"
        );
    }
}

#[test]
fn transformers_raises_these_tokens() {
    for case in all(&vectors("hf-kgw"), "processor") {
        let own = case["scheme"] == "selfhash";
        let kind = if own {
            "greenlist-selfhash"
        } else {
            "greenlist"
        };
        let width = case["width"].as_u64().unwrap() as usize - usize::from(own);
        let size = case["size"].as_u64().unwrap() as u32;
        let scheme = json!({"type": kind, "context_width": width, "gamma": 0.25, "delta": 2.0});
        let profile = profile("hf-kgw", scheme, json!({"vocabulary_size": size}));
        let mark = profile
            .bind_engine(&engine_key("hf-kgw", case["key"].clone()))
            .unwrap();
        let text = ids(&case["text"]);
        let row = mark.scheme().row(&text[text.len() - width..]);
        let raised = ids(&case["raised"]);
        let green = |&token: &u32| mark.scheme().score(&row, token) == 1;
        let expected: Vec<u32> = if own {
            let mut first: Vec<u32> = ids(&case["ranks"]).into_iter().take(40).collect();
            first.sort_unstable();
            first.into_iter().filter(green).collect()
        } else {
            (0..size).filter(green).collect()
        };
        assert_eq!(raised, expected);
        // The writer's distribution, by its odds.
        let ranks = ids(&case["ranks"]);
        let mut weights = vec![0.0f32; size as usize];
        for (rank, &token) in ranks.iter().enumerate() {
            weights[token as usize] = (-(rank as f32) / 8.0).exp();
        }
        let tilted: Vec<f64> = (0..size)
            .map(|token| {
                let factor = if raised.contains(&token) {
                    2f64.exp()
                } else {
                    1.0
                };
                f64::from(weights[token as usize]) * factor
            })
            .collect();
        draws_by(&mark, &row, &weights, &tilted);
        if let Some(biaser) = mark.scheme().as_biaser() {
            let mut logits = vec![0.0f32; size as usize];
            biaser.bias(&row, &mut logits);
            let all: Vec<u32> = (0..size).filter(|&t| logits[t as usize] == 2.0).collect();
            assert_eq!(all, raised);
            let mut mask = vec![0; size.div_ceil(32) as usize];
            biaser.fill_mask(&row, &mut mask);
            let of_mask = (0..size).filter(|&t| mask[t as usize / 32] >> (t % 32) & 1 == 1);
            assert_eq!(of_mask.collect::<Vec<_>>(), raised);
        }
    }
}

/// Whether a scheme draws from a distribution: the coin's whole range, at 500 places, away from the steps.
fn draws_by(mark: &Mark, row: &watermark_core::scheme::Row, weights: &[f32], expected: &[f64]) {
    let candidates = Candidates::dense(weights).unwrap();
    let total: f64 = expected.iter().sum();
    let mut compared = 0;
    for step in 0..500u64 {
        let part = (step as f64 + 0.5) / 500.0;
        let mut below = 0.0;
        let (mut index, mut near) = (expected.len() - 1, false);
        for (at, weight) in expected.iter().enumerate() {
            near |= (below / total - part).abs() < 1e-5;
            below += weight;
            if below / total > part {
                index = at;
                near |= (below / total - part).abs() < 1e-5;
                break;
            }
        }
        if !near {
            let mut coin = Fixed((part * 2f64.powi(64)) as u64);
            assert_eq!(
                mark.scheme().choose(row, &candidates, &mut coin),
                index,
                "{part}"
            );
            compared += 1;
        }
    }
    assert!(compared > 450, "{compared}");
}

#[test]
fn synthid_draws_from_these_distributions() {
    for case in all(&vectors("hf-synthid"), "updates") {
        let scheme = json!({"type": "tournament", "context_width": 4, "depth": 30});
        let profile = profile("hf-synthid", scheme, json!({}));
        let mark = profile
            .bind_engine(&engine_key("hf-synthid", case["keys"].clone()))
            .unwrap();
        let weights = weights(case["label"].as_str().unwrap(), 40);
        let expected: Vec<f64> = serde_json::from_value(case["probabilities"].clone()).unwrap();
        draws_by(
            &mark,
            &mark.scheme().row(&ids(&case["context"])),
            &weights,
            &expected,
        );
    }
}

/// Every built-in profile, with small lists.
fn profiles() -> Vec<Profile> {
    let named = |name: &&str| {
        let lists = name.contains("kgw") || name.contains("greenlist");
        let name = if lists {
            format!("{name}:1000")
        } else {
            (*name).to_owned()
        };
        Profile::built_in(&name).unwrap()
    };
    COMPATIBLE.iter().map(named).collect()
}

/// Text of a model whose favourites move from step to step.
fn write(mark: &Mark, len: usize, coins: &mut ChaCha8Rng) -> Vec<u32> {
    const VOCABULARY: usize = 1000;
    let mut session = Session::new(mark);
    let mut buffer = CandidateBuffer::default();
    for step in 0..len {
        let rank = |token: usize| (token * 7919 + step * 104_729) % VOCABULARY;
        let logits: Vec<f32> = (0..VOCABULARY)
            .map(|token| -((rank(token) + 20) as f32).ln())
            .collect();
        session
            .sample(&logits, &Sampling::default(), &mut buffer, coins)
            .unwrap();
    }
    session.tokens().to_vec()
}

fn exhibit(mark: &Mark, text: &[u32]) -> Exhibit {
    let mut exhibit = Exhibit::new(mark.scheme().context_width());
    exhibit.push(text);
    exhibit
}

/// Positive control: text that is written here under a mark is found, by the library's whole chain. Negative control: under
/// ten keys that nobody used it is not, at 1e-6 each.
#[test]
fn what_is_written_is_read_and_under_no_other_key() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for profile in profiles() {
        let mark = profile.bind(&slot(7)).unwrap();
        let text = write(&mark, 600, &mut rng);
        let exhibit = exhibit(&mark, &text);
        let found = Test::of(&mark, &exhibit);
        assert!(found.p.ln() < 1e-9f64.ln(), "{}: {found:?}", profile.id);
        assert_eq!(found.key_bits, mark.scheme().key_bits());
        let mut stream = Stream::new(&mark);
        stream.push(&text).unwrap();
        let streamed = stream.finish().unwrap();
        assert_eq!(streamed.score, score(&mark, &exhibit), "{}", profile.id);
        let decoys = profile.engine_decoys(10).unwrap();
        for stranger in &decoys {
            let nothing = Test::of(stranger, &exhibit);
            assert!(nothing.p.ln() > 1e-6f64.ln(), "{}: {nothing:?}", profile.id);
        }
        let input = Distillation::new(&mark, &exhibit, &decoys);
        let report = distill(&input, &|_| {}).unwrap();
        assert!(
            report
                .findings
                .iter()
                .all(|finding| finding.p.ln() < 1e-6f64.ln())
        );
        let bits = mark.scheme().key_bits().unwrap();
        let warned = |warning: &Warning| matches!(warning, Warning::WeakFunction { key_bits, .. } if *key_bits == bits);
        assert!(report.warnings.iter().any(warned), "{}", profile.id);
        assert_eq!(report.findings[0].decoys.as_ref().unwrap().rank, 1);
    }
}

/// Repetitive text over few tokens, so that rows are used for many cells, and inputs collide.
fn natural(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len)
        .map(|_| {
            let unit = f64::from(rng.next_u32()) / 4_294_967_296.0;
            (600f64.powf(unit)) as u32
        })
        .collect()
}

/// H0: text independent of the key, a fresh key a trial. Of 11 profiles, rejections at 5 % among 300 keys (100 where a key
/// costs 30 ms) are at most the upper end of a band that holds for all 11 together with probability 1 - 1e-6;
/// 0.5 % of keys more would not be seen, twice as many would. For exponential scores p is uniform by KS, 1e-6.
#[test]
fn false_alarms_are_as_often_as_stated() {
    for (number, profile) in (0..).zip(profiles()) {
        let trials = if profile.id.contains("selfhash") {
            100
        } else {
            300
        };
        let text = natural(number, 700);
        let first = profile.bind(&slot(1)).unwrap();
        let exhibit = exhibit(&first, &text);
        let battery = Battery::closed(&first, &exhibit);
        let tables = battery.tables();
        let mut p: Vec<f64> = Vec::new();
        let mut rng = ChaCha8Rng::seed_from_u64(100 + number);
        for _ in 0..trials {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            let key = SlotKey::from_parts(bytes, Epoch::new("t").unwrap(), 0);
            let mark = profile.bind(&key).unwrap();
            p.push(tables.glance(&mark)[0].p.ln().exp());
        }
        let rejected = p.iter().filter(|&&p| p <= 0.05).count() as u64;
        let band = simultaneous_band(trials as u64, 0.05, 11, 1.0 - 1e-6);
        assert!(
            rejected <= *band.end(),
            "{}: {rejected}, {band:?}",
            profile.id
        );
        if matches!(
            profile.bind(&slot(1)).unwrap().scheme().null(),
            Null::Gamma { .. }
        ) {
            let ks = ks_attained(&mut p);
            assert!(ks.p.ln() > 1e-6f64.ln(), "{}: {ks:?}", profile.id);
        }
    }
}

#[test]
fn one_form_for_all_profiles_and_errors_by_field() {
    for profile in profiles() {
        assert_eq!(Profile::from_json(&profile.to_json()), Ok(profile.clone()));
        assert!(profile.weakness().unwrap().len() > 40);
    }
    assert_eq!(Profile::built_in("greenlist-h1").unwrap().weakness(), None);
    assert!(
        !Profile::built_in("greenlist-h1")
            .unwrap()
            .to_json()
            .contains("engine")
    );
    assert_eq!(Profile::built_in("vllm-gumbel:1000"), None);
    let gumbel = json!({"type": "gumbel", "context_width": 4});
    let dual = json!({"type": "gumbel-dual", "context_width": 4});
    let green = json!({"type": "greenlist", "context_width": 1, "gamma": 0.25, "delta": 2.0});
    let tournament = json!({"type": "tournament", "context_width": 4, "depth": 30, "leaves": 3});
    for (function, scheme, more, word) in [
        ("vllm", &green, json!({}), "greenlist"),
        (
            "vllm",
            &gumbel,
            json!({"engine": {"alpha": 0.1}}),
            "engine.alpha",
        ),
        (
            "vllm",
            &dual,
            json!({"engine": {"alpha": 1.5}}),
            "engine.alpha",
        ),
        (
            "vllm",
            &dual,
            json!({"engine": {"mixing_probability": 0.5}}),
            "engine.mixing_probability",
        ),
        (
            "sglang",
            &dual,
            json!({"engine": {"mixing_probability": 0.0}}),
            "mixing_probability",
        ),
        ("hf-kgw", &gumbel, json!({}), "gumbel"),
        (
            "hf-kgw",
            &green,
            json!({"engine": {"vocabulary_size": 3}}),
            "vocabulary_size",
        ),
        (
            "hf-kgw",
            &green,
            json!({"engine": {"sampling_table_seed": 3}}),
            "sampling_table_seed",
        ),
        ("hf-synthid", &tournament, json!({}), "leaves"),
        (
            "textseal",
            &json!({"type": "gumbel", "context_width": 11}),
            json!({}),
            "context_width",
        ),
        (
            "wmk1",
            &green,
            json!({"engine": {"vocabulary_size": 1000}}),
            "engine.vocabulary_size",
        ),
        ("vllm", &gumbel, json!({"rounds": 20}), "rounds"),
        ("vllm", &gumbel, json!({"slot": "leak"}), "slot"),
        ("vllm", &gumbel, json!({"engine": {"beta": 1}}), "beta"),
        ("vlm", &gumbel, json!({}), "vlm"),
    ] {
        let mut profile = json!({"schema": "watermark.profile/1", "id": "x",
            "function": function, "scheme": scheme});
        let fields = profile.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let error = Profile::from_json(&profile.to_string())
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error} should name {word}");
    }
    let missing = Profile::built_in("hf-kgw-lefthash").unwrap();
    let error = missing.bind(&slot(1)).unwrap_err().to_string();
    assert!(error.contains("vocabulary_size") && error.contains("hf-kgw-lefthash:50257"));
}

#[test]
fn keys_fit_their_profiles() {
    for profile in profiles() {
        let by_slot = profile.bind(&slot(5)).unwrap();
        let by_key = profile
            .bind_engine(&profile.engine_key(&slot(5)).unwrap())
            .unwrap();
        let text = natural(3, 200);
        let exhibit = exhibit(&by_slot, &text);
        assert_eq!(
            score(&by_slot, &exhibit),
            score(&by_key, &exhibit),
            "{}",
            profile.id
        );
        assert_eq!(by_slot.key_id(), slot(5).id());
        assert_ne!(by_slot.key_id(), by_key.key_id());
        let config = profile
            .engine_config(&profile.engine_key(&slot(5)).unwrap())
            .unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert!(config.as_object().unwrap().len() > 2, "{config}");
    }
    let vllm = Profile::built_in("vllm-gumbel").unwrap();
    let error = vllm
        .bind_engine(&engine_key("sglang", json!(5)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sglang") && error.contains("vllm"),
        "{error}"
    );
    let dual = Profile::built_in("sglang-dual-key-gumbel").unwrap();
    let error = dual
        .bind_engine(&engine_key("sglang", json!(5)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("holds 1") && error.contains("takes 2"),
        "{error}"
    );
    let keys: Vec<u64> = (1..=29).chain([1 + 65_536]).collect();
    let synthid = Profile::built_in("hf-synthid").unwrap();
    let error = synthid
        .bind_engine(&engine_key("hf-synthid", json!(keys)))
        .unwrap_err();
    assert!(error.to_string().contains("layers 1 and 30"), "{error}");
    assert!(
        Profile::built_in("greenlist-h1")
            .unwrap()
            .engine_key(&slot(1))
            .is_err()
    );
}

#[test]
fn configurations_hold_what_engines_read() {
    let config = |profile: Profile, key: EngineKey| -> Value {
        serde_json::from_str(&profile.engine_config(&key).unwrap()).unwrap()
    };
    let key = engine_key("vllm", json!("18446744073709551615"));
    assert_eq!(
        config(Profile::built_in("vllm-dual-key-gumbel").unwrap(), key),
        json!({"key": u64::MAX, "algorithm": "dual_key_gumbel", "alpha": 0.1, "context_width": 4,
            "deduplicate_contexts": "single_turn", "prf": "philox"})
    );
    let keys = engine_key("sglang", json!(["0x0123456789abcdef", "0xff"]));
    assert_eq!(
        config(Profile::built_in("sglang-dual-key-gumbel").unwrap(), keys),
        json!({"key": "123456789abcdef", "key_b": "ff", "mixing_probability": 0.5,
            "context_window": 4, "enforce_all": true})
    );
    let key = engine_key("hf-kgw", json!(15_485_863));
    assert_eq!(
        config(Profile::built_in("hf-kgw-selfhash:1000").unwrap(), key),
        json!({"greenlist_ratio": 0.25, "bias": 2, "hashing_key": 15_485_863,
            "seeding_scheme": "selfhash", "context_width": 4})
    );
}

/// Positions that no key reaches count nowhere; inputs that collide count once.
#[test]
fn effective_inputs_are_counted() {
    let kgw = Profile::built_in("hf-kgw-lefthash:1000")
        .unwrap()
        .bind(&slot(2))
        .unwrap();
    let zeros = exhibit(&kgw, &[0, 5, 0, 6, 0, 7, 3, 8]);
    assert_eq!(zeros.counts().cells, 7);
    assert_eq!(score(&kgw, &zeros).cells, 4, "what follows 5, 6, 7 and 3");
    assert_eq!(kgw.scheme().cell(&kgw.scheme().row(&[0]), 5), NOT_KEYED);

    let scheme = json!({"type": "gumbel", "context_width": 1});
    let bricks = profile("three-bricks", scheme, json!({}));
    let bricks = bricks
        .bind_engine(&engine_key("three-bricks", json!([0, 35317])))
        .unwrap();
    let text = natural(1, 100);
    assert_eq!(score(&bricks, &exhibit(&bricks, &text)).cells, 0);
    assert_eq!(Test::of(&bricks, &exhibit(&bricks, &text)).p.ln(), 0.0);

    // 200,000 windows have no more residues than there are.
    let synthid = Profile::built_in("hf-synthid")
        .unwrap()
        .bind(&slot(2))
        .unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let long: Vec<u32> = (0..200_000).map(|_| rng.next_u32() % 100_000).collect();
    let cells = score(&synthid, &exhibit(&synthid, &long)).cells;
    assert!((60_000..=65_536).contains(&cells), "{cells}");
}

/// A key of 32 bits cannot carry a smaller p than 2^-32, and the e-value stops there too.
#[test]
fn no_p_value_below_the_keys_bits() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let profile = Profile::built_in("sglang-gumbel").unwrap();
    let mark = profile.bind(&slot(1)).unwrap();
    let text = write(&mark, 600, &mut rng);
    let exhibit = exhibit(&mark, &text);
    let sum = score(&mark, &exhibit);
    assert!(mark.scheme().null().upper_tail(sum.cells, sum.sum).log10() < -50.0);
    let test = Test::of(&mark, &exhibit);
    assert!((test.p.log10() + 32.0 * core::f64::consts::LOG10_2).abs() < 1e-9);
    let report = distill(&Distillation::new(&mark, &exhibit, &[]), &|_| {}).unwrap();
    assert!(report.bets.iter().all(|bet| bet.e.log10() < 9.64));
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.p.log10() > -9.64)
    );
    assert_eq!(profile.function, Function::Sglang);
}
