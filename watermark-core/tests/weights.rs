//! The vectors of SPEC.md section 13: cells, weights and sums of every test. The straight-line reference, the
//! library and the committed file agree.
//!
//! `cargo test --test weights -- --ignored` writes the file anew, from the reference.

mod plain;

use std::path::PathBuf;

use plain::weights::{
    Cell, Read, Said, counted_once, open_argmax, open_contrast, open_soft, weighed,
};
use plain::{Plain, hex, unhex};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use watermark_core::battery::Battery;
use watermark_core::detect::{Test, TestId};
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::{Mark, Profile};
use watermark_core::reading::Reading;
use watermark_core::regime::{Chosen, ExactWindows, never_emitted};
use watermark_core::window::Exhibit;

/// All that the tests of one suspect read.
#[derive(Clone, Debug)]
struct Evidence {
    said: Said,
    corpus: Vec<Vec<u32>>,
    /// The suspect's segments as a reference reads them.
    reference: Vec<Read>,
    neutral: Vec<Read>,
    /// The neutral texts as references read them.
    references: Vec<Vec<Read>>,
    logs: Vec<Vec<u32>>,
}

// ---- the committed inputs ----

fn read(tokens: &[u32], first: usize, top: &[&[(u32, f32)]]) -> Read {
    assert_eq!(first + top.len(), tokens.len());
    Read {
        tokens: tokens.to_vec(),
        first,
        top: top.iter().map(|list| list.to_vec()).collect(),
    }
}

/// One set of texts for every h: repeats, an excluded prompt, a segment without a window, and lists whose sums
/// fall on halves of the units 2^-6 and 2^-20, on 0, and just beside them.
fn evidence(h: usize) -> Evidence {
    const U: f32 = 1.0 / 1_048_576.0;
    // So uneven that the weight of the last cell by inverse variance rounds to 0.
    let uneven = [[6, 7].repeat(18), vec![6, 9]].concat();
    let segments = vec![
        uneven,
        vec![1, 2, 3, 1, 2, 3, 1, 2, 4, 2, 1, 2, 3],
        vec![2, 1, 3, 2, 3, 1, 70_000, 1, 2],
        vec![3],
        vec![],
        vec![1, 2, 3, 9, 8, 1, 2, 9, 8, 5],
        vec![1, 2, 3, 1, 2, 3, 1, 2, 5, 2, 1, 2, 3, 1],
    ];
    let reference = vec![
        // What stands before token 2 is the prompt; windows start behind it.
        read(
            &[9, 8, 1, 2, 3, 1, 2, 3, 1, 2, 4, 2, 1, 2, 3],
            2,
            &[
                &[(1, 0.25)],
                &[(4, 0.3), (2, 0.1)],
                // 1 - 1/128: 63.5 units, and -1/128: half a unit below 0.
                &[(3, 0.007_812_5), (5, 0.007_812_5), (6, 0.003_906)],
                &[(1, 1.0)],
                &[(2, 0.9), (1, 0.05)],
                &[],
                &[(4, 0.023_437_5), (1, 0.5)],
                &[(2, 1.0)],
                &[(4, 0.0)],
                &[(2, 0.125), (70_000, 1e-30)],
                &[(1, 0.333_333_34), (2, 0.333_333_34), (3, 0.333_333_34)],
                &[(2, 0.7)],
                &[(3, 0.1), (1, 0.1), (2, 0.1), (4, 0.1)],
            ],
        ),
        read(
            &[2, 1, 3, 2, 3, 1, 70_000, 1, 2],
            0,
            &[
                &[],
                &[(1, 0.6)],
                &[(3, 0.2), (2, 0.7)],
                &[(2, 0.992_187_5)],
                &[(3, 1.0), (2, 0.000_5)],
                &[(1, 0.992_2)],
                &[(70_000, 1e-7)],
                &[(7, 0.992_187_5), (1, 0.001)],
                &[(2, 0.02), (7, 0.02)],
            ],
        ),
    ];
    let neutral = vec![
        read(
            &[5, 6, 5, 6, 7, 5],
            1,
            &[
                &[(6, 0.5), (7, 0.5 * U), (8, 0.25 * U), (9, 0.499)],
                &[(5, 0.25), (6, 1.5 * U), (7, 0.25)],
                &[(6, 0.1), (7, 0.1), (8, 0.1)],
                &[(7, 0.7), (1, 0.2 * U)],
                &[],
            ],
        ),
        read(
            &[6, 5, 6, 5, 6],
            0,
            &[
                &[(6, 0.125)],
                &[(5, 0.2), (4, 0.0)],
                &[(6, 0.1), (7, 2.0 * U), (8, 0.25 * U)],
                &[(5, 0.333_333_34), (3, 0.333_333_34)],
                &[(6, 0.3), (7, 0.3), (2, 0.25)],
            ],
        ),
        read(
            &[1, 2, 3, 1, 2],
            2,
            &[
                &[(1, 0.5 * U), (2, 1.5 * U), (3, 0.499 * U), (4, 2.499 * U)],
                &[(2, 0.499 * U), (1, 0.25 * U)],
                &[(2, 1e-30), (1, 0.5 * U), (3, 0.499_999_97 * U)],
            ],
        ),
    ];
    let other = |which: usize| -> Vec<Read> {
        let mut texts = neutral.clone();
        for (at, list) in texts.iter_mut().flat_map(|t| &mut t.top).enumerate() {
            match which {
                // The suspect itself: what it shares with the others nearly cancels.
                0 => {}
                1 => list.retain(|&(id, _)| !(id as usize + at).is_multiple_of(3)),
                _ => list.push((11 + at as u32 % 2, 1.5 * U)),
            }
        }
        texts
    };
    Evidence {
        references: (0..3).map(other).collect(),
        said: Said {
            h,
            exclude: vec![vec![9, 8], vec![4]],
            segments,
        },
        // An excluded window counts in the corpus as any other.
        corpus: vec![vec![1, 2, 3, 1, 2, 3], vec![9, 8, 1, 70_000, 1], vec![2]],
        reference,
        neutral,
        logs: vec![
            vec![2, 3, 1],
            vec![3],
            vec![],
            vec![1, 70_000, 1, 2],
            vec![8, 1, 2, 3],
            vec![2, 1],
        ],
    }
}

fn profiles(h: usize) -> Vec<Value> {
    let green = json!({"type": "greenlist", "context_width": h, "gamma": 0.25, "delta": 2.0});
    let specs = [
        json!({"type": "gumbel", "context_width": h}),
        json!({"type": "gumbel-dual", "context_width": h}),
        json!({"type": "tournament", "context_width": h, "depth": 30}),
        json!({"type": "greenlist-selfhash", "context_width": h, "gamma": 0.5, "delta": 2.0}),
    ];
    let specs = if h == 0 { &specs[..0] } else { &specs };
    [green]
        .iter()
        .chain(specs)
        .map(|scheme| json!({"schema": "watermark.profile/1", "id": "vector", "scheme": scheme}))
        .collect()
}

// ---- the reference's answers ----

/// Name, cells and weights of every weighted test, and of those where a coin counts once.
fn weights(e: &Evidence) -> Vec<(&'static str, Vec<(Cell, i64)>)> {
    let h = e.said.h;
    vec![
        ("closed-cells", e.said.closed_cells()),
        ("closed-sqrt", e.said.closed_sqrt()),
        ("closed-inverse-variance", e.said.closed_inverse_variance()),
        ("closed-corpus", e.said.closed_corpus(&e.corpus)),
        ("closed-reference", e.said.closed_reference(&e.reference)),
        ("open-argmax", open_argmax(h, &e.neutral)),
        ("open-soft", open_soft(h, &e.neutral)),
        ("open-contrast", open_contrast(h, &e.neutral, &e.references)),
    ]
}

/// n and T of every test under a mark; of the supervised test for every N up to its number of cells.
fn sums(e: &Evidence, plain: &Plain) -> Value {
    let mut found = Map::new();
    for (name, weights) in weights(e) {
        let once = ["closed-cells", "open-argmax"].contains(&name);
        let cells: Vec<Cell> = weights.iter().map(|(cell, _)| cell.clone()).collect();
        let sum = if once {
            counted_once(plain, &cells)
        } else {
            weighed(plain, &weights)
        };
        found.insert(name.to_owned(), pair(sum));
    }
    found.extend(sums_by_logs(e, plain));
    found.into()
}

fn sums_by_logs(e: &Evidence, plain: &Plain) -> Map<String, Value> {
    let mut found = Map::new();
    if plain.scheme != 5 {
        let (mut n, mut sum) = (0, 0);
        let chosen = e.said.supervised(&e.logs);
        let all = chosen.iter().map(|cell| {
            n += 1;
            sum += counted_once(plain, std::slice::from_ref(cell)).1;
            pair((n, sum))
        });
        found.insert("supervised".to_owned(), all.collect());
        let unseen = e.said.never_emitted(&e.logs);
        let sum = counted_once(plain, &unseen);
        found.insert("never-emitted".to_owned(), pair(sum));
    }
    found
}

fn pair((n, sum): (u64, i128)) -> Value {
    json!({"n": n, "T": sum.to_string()})
}

const SLOT_KEY: [u8; 32] = [0x5a; 32];

fn texts(read: &[Read]) -> Value {
    // The shortest decimal, not that of the same number in binary64.
    let entry = |&(id, p): &(u32, f32)| json!([id, p.to_string().parse::<f64>().unwrap()]);
    let list = |list: &Vec<(u32, f32)>| list.iter().map(entry).collect::<Value>();
    let text = |text: &Read| {
        let top: Value = text.top.iter().map(list).collect();
        json!({"tokens": text.tokens, "first": text.first, "top": top})
    };
    read.iter().map(text).collect()
}

fn digest(h: usize, cells: &[Cell]) -> String {
    hex(&plain::cells_digest(h as u8, cells))
}

fn case(e: &Evidence) -> Value {
    let h = e.said.h;
    let mut tests = Map::new();
    for (name, mut weights) in weights(e) {
        weights.sort();
        let cells: Vec<Cell> = weights.iter().map(|(cell, _)| cell.clone()).collect();
        let listed: Vec<Value> = weights.iter().map(|(c, w)| json!([c, w])).collect();
        tests.insert(
            name.to_owned(),
            json!({"cells": listed, "cells_digest": digest(h, &cells)}),
        );
    }
    let chosen = e.said.supervised(&e.logs);
    let marks = profiles(h).into_iter().map(|profile| {
        let plain = Plain::new(&profile, &SLOT_KEY, 0);
        json!({"profile": profile, "slot_key": hex(&SLOT_KEY), "sums": sums(e, &plain)})
    });
    json!({
        "context_width": h,
        "exclude": e.said.exclude, "segments": e.said.segments, "corpus": e.corpus,
        "reference": texts(&e.reference), "neutral": texts(&e.neutral),
        "references": e.references.iter().map(|r| texts(r)).collect::<Vec<_>>(),
        "logs": e.logs,
        "tests": tests,
        "supervised": {"order": chosen, "cells_digest": digest(h, &chosen)},
        "marks": marks.collect::<Vec<_>>(),
    })
}

/// Texts, where their answers start, and the digest of both (section 8).
fn readings() -> Value {
    let cases: [(&[&[u32]], &[usize]); 4] = [
        (&[], &[]),
        (&[&[1, 2, 70_000]], &[1]),
        (&[&[9, 8, 1], &[9, 8], &[5]], &[2, 2, 0]),
        (&[&[9], &[8, 1, 9, 8, 5]], &[0, 3]),
    ];
    let case = |(texts, starts): &(&[&[u32]], &[usize])| {
        let sha256 = hex(&plain::texts_digest(texts, starts));
        json!({"texts": texts, "starts": starts, "sha256": sha256})
    };
    cases.iter().map(case).collect()
}

fn generated() -> Value {
    let cases = [0, 1, 2].map(|h| case(&evidence(h)));
    json!({
        "function": "wmk1",
        "about": "Cells, weights and sums of the tests of SPEC.md section 13, made by the straight-line reference. A cell is its window, oldest first, and its token. A probability is the binary32 number nearest to the decimal. T is a string, since it can exceed what JSON readers keep exactly. Of the supervised test entry N - 1 is that of the first N cells.",
        "cases": cases,
        "readings": readings(),
    })
}

// ---- the library's ----

fn scored(read: &Read) -> ScoredText {
    let lists = read.top.iter().map(|list| {
        let entry = |&(id, p): &(u32, f32)| (id, f64::from(p));
        list.iter().map(entry).collect::<Vec<_>>()
    });
    ScoredText::new(1 << 20, read.tokens.clone(), read.first, lists).unwrap()
}

/// What the library reads.
struct Loaded {
    exhibit: Exhibit,
    corpus: Vec<Vec<u32>>,
    reference: Vec<ScoredText>,
    neutral: Vec<ScoredText>,
    references: Vec<Vec<ScoredText>>,
    logs: ExactWindows,
}

impl Loaded {
    fn of(e: &Evidence) -> Self {
        let mut exhibit = Exhibit::new(e.said.h);
        e.said.exclude.iter().for_each(|text| exhibit.exclude(text));
        e.said.segments.iter().for_each(|text| exhibit.push(text));
        let mut logs = ExactWindows::new(e.said.h);
        e.logs.iter().for_each(|segment| logs.push(segment));
        let all = |texts: &[Read]| -> Vec<ScoredText> { texts.iter().map(scored).collect() };
        Self {
            exhibit,
            corpus: e.corpus.clone(),
            reference: all(&e.reference),
            neutral: all(&e.neutral),
            references: e.references.iter().map(|texts| all(texts)).collect(),
            logs,
        }
    }

    fn batteries(&self, mark: &Mark) -> Vec<Battery<'_>> {
        let references: Vec<&[ScoredText]> = self.references.iter().map(Vec::as_slice).collect();
        vec![
            Battery::closed(mark, &self.exhibit),
            Battery::corpus(mark, &self.exhibit, &self.corpus),
            Battery::reference(mark, &self.exhibit, &self.reference).unwrap(),
            Battery::argmax(mark, &self.neutral),
            Battery::soft(mark, &self.neutral),
            Battery::contrast(mark, &self.neutral, &references).unwrap(),
        ]
    }

    /// Cells and weights of every battery's tests, ascending.
    fn weights(&self, mark: &Mark) -> Vec<(TestId, Vec<(Cell, i64)>)> {
        let mut found = Vec::new();
        for battery in self.batteries(mark) {
            for id in battery.ids() {
                let weighed = battery.weights(id).unwrap();
                let mut weights: Vec<(Cell, i64)> = weighed
                    .map(|(window, token, weight)| ([window, &[token]].concat(), weight))
                    .collect();
                weights.sort();
                found.push((id, weights));
            }
        }
        found
    }

    fn sums(&self, mark: &Mark) -> Value {
        let pair = |test: &Test| json!({"n": test.n_scored, "T": test.sum.to_string()});
        let mut found = Map::new();
        for battery in self.batteries(mark) {
            for test in battery.tests(mark) {
                found.insert(test.id.name().to_owned(), pair(&test));
            }
        }
        found.extend(self.sums_by_logs(mark));
        found.into()
    }

    /// Those of the tests that need logs; none for a mark that has no such tests.
    fn sums_by_logs(&self, mark: &Mark) -> Map<String, Value> {
        let pair = |test: &Test| json!({"n": test.n_scored, "T": test.sum.to_string()});
        let mut found = Map::new();
        if mark.scheme().cells_are_pairs() {
            let chosen = Chosen::of(mark, &self.exhibit, &self.logs).unwrap();
            let first = |n: usize| pair(&chosen.first(mark, n as u64));
            let all: Vec<Value> = (1..=chosen.len()).map(first).collect();
            found.insert("supervised".to_owned(), all.into());
            let never = never_emitted(mark, &self.exhibit, &self.logs).unwrap();
            found.insert("never-emitted".to_owned(), pair(&never));
        }
        found
    }
}

fn mark(profile: &Value, key: [u8; 32]) -> Mark {
    let slot = SlotKey::from_parts(key, Epoch::new("e").unwrap(), 0);
    let profile = Profile::from_json(&profile.to_string()).unwrap();
    profile.bind(&slot).unwrap()
}

// ---- the file ----

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/vectors/wmk1-tests.json")
}

fn committed() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap()
}

fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn parsed_texts(value: &Value) -> Vec<Read> {
    let text = |text: &Value| Read {
        tokens: parsed(&text["tokens"]),
        first: parsed(&text["first"]),
        top: parsed(&text["top"]),
    };
    value.as_array().unwrap().iter().map(text).collect()
}

fn parsed_evidence(case: &Value) -> Evidence {
    let references = case["references"].as_array().unwrap();
    Evidence {
        said: Said {
            h: parsed(&case["context_width"]),
            exclude: parsed(&case["exclude"]),
            segments: parsed(&case["segments"]),
        },
        corpus: parsed(&case["corpus"]),
        reference: parsed_texts(&case["reference"]),
        neutral: parsed_texts(&case["neutral"]),
        references: references.iter().map(parsed_texts).collect(),
        logs: parsed(&case["logs"]),
    }
}

/// Objects over several lines, lists that hold none in one.
fn pretty(value: &Value, indent: usize, out: &mut String) {
    fn flat(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().all(flat),
            Value::Object(_) => false,
            _ => true,
        }
    }
    let mut block = |open: char, close: char, items: Vec<(String, &Value)>| {
        out.push(open);
        for (place, (name, item)) in items.iter().enumerate() {
            out.push_str(if place == 0 { "\n" } else { ",\n" });
            out.push_str(&" ".repeat(indent + 1));
            out.push_str(name);
            pretty(item, indent + 1, out);
        }
        out.push('\n');
        out.push_str(&" ".repeat(indent));
        out.push(close);
    };
    match value {
        Value::Object(map) => {
            let named = map.iter().map(|(name, item)| (format!("{name:?}: "), item));
            block('{', '}', named.collect());
        }
        Value::Array(items) if !flat(value) => {
            let items = items.iter().map(|item| (String::new(), item));
            block('[', ']', items.collect());
        }
        _ => out.push_str(&value.to_string()),
    }
}

#[test]
#[ignore = "writes the committed file"]
fn write_the_vectors() {
    let mut text = String::new();
    pretty(&generated(), 0, &mut text);
    text.push('\n');
    std::fs::write(file(), text).unwrap();
}

#[test]
fn the_reference_reproduces_the_file() {
    let committed = committed();
    let cases = committed["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for (place, committed) in cases.iter().enumerate() {
        let generated = case(&parsed_evidence(committed));
        for (name, value) in generated.as_object().unwrap() {
            assert_eq!(&committed[name], value, "case {place}: {name}");
        }
    }
    for name in ["about", "readings"] {
        assert_eq!(committed[name], generated()[name]);
    }
}

#[test]
fn the_library_digests_texts() {
    for case in committed()["readings"].as_array().unwrap() {
        let texts: Vec<Vec<u32>> = parsed(&case["texts"]);
        // No list is needed: whoever asks for entries is not yet betting.
        let texts = texts.into_iter().map(|tokens| {
            let end = tokens.len();
            ScoredText::new(1 << 20, tokens, end, [[(0, 0.0)]; 0]).unwrap()
        });
        let (texts, starts): (Vec<_>, Vec<usize>) = (texts.collect(), parsed(&case["starts"]));
        let reading = Reading::new(&texts, &starts, 1).unwrap();
        assert_eq!(json!(hex(&reading.texts_digest())), case["sha256"]);
    }
}

#[test]
fn the_library_reproduces_the_file() {
    for case in committed()["cases"].as_array().unwrap() {
        let evidence = parsed_evidence(case);
        let loaded = Loaded::of(&evidence);
        for entry in case["marks"].as_array().unwrap() {
            let key = unhex(entry["slot_key"].as_str().unwrap());
            let mark = mark(&entry["profile"], key.try_into().unwrap());
            assert_eq!(loaded.sums(&mark), entry["sums"], "{}", entry["profile"]);
            let mut tests = 0;
            for (id, weights) in loaded.weights(&mark) {
                let expected = &case["tests"][id.name()];
                assert_eq!(json!(weights), expected["cells"], "{id}");
                tests += 1;
            }
            assert_eq!(tests, case["tests"].as_object().unwrap().len());
            for battery in loaded.batteries(&mark) {
                for id in battery
                    .ids()
                    .filter(|id| *id != TestId::ClosedInverseVariance)
                {
                    // Inverse variance leaves out cells of weight 0, which its list keeps.
                    let expected = &case["tests"][id.name()]["cells_digest"];
                    assert_eq!(&json!(hex(&battery.cells().digest())), expected, "{id}");
                }
            }
            if mark.scheme().cells_are_pairs() {
                let chosen = Chosen::of(&mark, &loaded.exhibit, &loaded.logs).unwrap();
                assert_eq!(json!(chosen.digest()), case["supervised"]["cells_digest"]);
                let too_many = chosen.first(&mark, chosen.len() as u64 + 1);
                assert_eq!((too_many.n_scored, too_many.sum), (0, 0));
                assert_eq!(too_many.p.ln(), 0.0);
            }
        }
    }
}

/// What the cases are there for.
#[test]
fn the_file_holds_its_hard_cases() {
    for case in committed()["cases"].as_array().unwrap() {
        let weights = |name: &str| -> Vec<(Cell, i64)> { parsed(&case["tests"][name]["cells"]) };
        let has = |name: &str, weight: i64| weights(name).iter().any(|&(_, w)| w == weight);
        let h = case["context_width"].as_u64().unwrap();
        // Halves away from zero, on both sides, and weights below a half left out.
        assert!(h == 0 || has("closed-reference", 64) && has("closed-reference", -1));
        assert!(weights("closed-reference").iter().any(|&(_, w)| w < 0));
        assert!(weights("open-contrast").iter().any(|&(_, w)| w < 0));
        assert!(h == 0 || has("open-soft", 1) && has("open-soft", 2));
        let [soft, contrast] = ["open-soft", "open-contrast"].map(weights);
        assert!(
            soft.iter()
                .any(|(c, _)| contrast.iter().all(|(d, _)| c != d))
        );
        let [once, inverse] = ["closed-cells", "closed-inverse-variance"].map(weights);
        assert_eq!(once.len() > inverse.len(), h > 0);
        // Coins of several cells, of both kinds of counting.
        for entry in case["marks"].as_array().unwrap() {
            let selfhash = entry["profile"]["scheme"]["type"] == "greenlist-selfhash";
            for name in ["closed-cells", "closed-sqrt"] {
                let n = entry["sums"][name]["n"].as_u64().unwrap();
                let shared = n < once.len() as u64;
                assert_eq!(shared, selfhash && h > 1, "{name} {}", entry["profile"]);
            }
        }
    }
}

// ---- any evidence ----

fn segments() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0u32..4, 0..12), 1..5)
}

/// Probabilities at halves of the units, and any others.
fn probability() -> impl Strategy<Value = f32> {
    prop_oneof![
        (0u32..16).prop_map(|k| k as f32 / 2_097_152.0),
        (0u32..24).prop_map(|k| k as f32 / 128.0),
        0.0..0.24f32,
    ]
}

fn list() -> impl Strategy<Value = Vec<(u32, f32)>> {
    let full = prop::collection::btree_map(0u32..5, probability(), 0..5);
    full.prop_map(|map| {
        let sum: f32 = map.values().sum();
        let scale = if sum > 1.0 { 0.25 } else { 1.0 };
        // Descending ids: the order of a list carries nothing.
        let scaled = map.into_iter().map(|(id, p)| (id, p * scale));
        scaled.rev().collect()
    })
}

/// Lists for every token of the texts, as many as are needed out of a pool.
fn along(texts: &[Vec<u32>], first: usize, pool: &[Vec<(u32, f32)>]) -> Vec<Read> {
    let mut pool = pool.iter().cycle();
    let read = |tokens: &Vec<u32>| {
        let first = first.min(tokens.len());
        let top = (first..tokens.len()).map(|_| pool.next().unwrap().clone());
        Read {
            tokens: tokens.clone(),
            first,
            top: top.collect(),
        }
    };
    texts.iter().map(read).collect()
}

prop_compose! {
    fn any_evidence()(
        h in 0usize..=3,
        exclude in prop::collection::vec(prop::collection::vec(0u32..4, 0..4), 0..2),
        texts in prop::array::uniform4(segments()),
        pools in prop::array::uniform4(prop::collection::vec(list(), 7)),
        prompts in prop::collection::vec(0u32..4, 0..3),
        first in 0usize..3,
        references in 1usize..4,
    ) -> Evidence {
        let [segments, corpus, neutral, logs] = texts;
        let mut reference = along(&segments, 0, &pools[0]);
        for text in &mut reference {
            text.tokens.splice(0..0, prompts.iter().copied());
            text.first = prompts.len();
        }
        Evidence {
            said: Said { h, exclude, segments },
            corpus,
            reference,
            references: (1..=references).map(|i| along(&neutral, first, &pools[i])).collect(),
            neutral: along(&neutral, first, &pools[0]),
            logs,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_library_equals_the_reference(evidence in any_evidence(), key in any::<[u8; 32]>(), which in 0usize..5) {
        let profiles = profiles(evidence.said.h);
        let profile = &profiles[which % profiles.len()];
        let (mark, plain) = (mark(profile, key), Plain::new(profile, &key, 0));
        let loaded = Loaded::of(&evidence);
        let expected = weights(&evidence).into_iter().map(|(name, mut weights)| {
            weights.sort();
            (name, weights)
        });
        let found = loaded.weights(&mark).into_iter().map(|(id, weights)| (id.name(), weights));
        prop_assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        // The sums of weighted tests are left to the file: their tails take a second each without optimisation.
        prop_assert_eq!(loaded.sums_by_logs(&mark), sums_by_logs(&evidence, &plain));
        if mark.scheme().cells_are_pairs() {
            let chosen = Chosen::of(&mark, &loaded.exhibit, &loaded.logs).unwrap();
            let reference = evidence.said.supervised(&evidence.logs);
            prop_assert_eq!(chosen.digest(), digest(evidence.said.h, &reference));
        }
    }
}
