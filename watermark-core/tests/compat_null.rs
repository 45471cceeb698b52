//! Calibration of other engines' marks on natural text: 200 keys that nobody used, a profile at a time.
//!
//! Not part of the everyday tests: it takes minutes, and a release build.
//!
//! ```text
//! WATERMARK_NULL_TEXT=a.txt:b.txt cargo nextest run --release -p watermark-core --test compat_null --run-ignored all --no-capture
//! ```
//!
//! Text is the embedded held-out text and the files named, cut into words and marks, numbered as they come first. It is read
//! as segments of 500 tokens, up to a million of them or `WATERMARK_NULL_TOKENS`; profiles that draw a list or
//! run a generator for nearly every cell read the first hundred thousand. `WATERMARK_NULL_PROFILE` names some
//! profiles by a part of their names, `WATERMARK_NULL_SEED` (1) chooses the keys.
//!
//! H0 holds: text and keys are independent. Per profile, p of the unweighted test under 200 keys is compared with the
//! uniform law (KS; TextSeal's, whose grid makes them too large, from below alone), and rejections at 1e-2 and 1e-3 with what is allowed; 33 looks share an alpha of 1e-3. A p-value that
//! is half of what it should be would be seen by KS, sizes 4 times (1e-2) or 12 times (1e-3) too large as well.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watermark_core::battery::{Battery, Glance};
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::profile::{COMPATIBLE, Profile};
use watermark_core::stats::decoy::ks_attained;
use watermark_core::stats::size::simultaneous_band;
use watermark_core::window::Exhibit;

const KEYS: u64 = 200;
const SEGMENT: usize = 500;
const MOST: usize = 1_000_000;
const MOST_OF_DEAR: usize = 100_000;
const LOOKS: u64 = 33;
const ALPHA: f64 = 1e-3;

/// Words and single other characters, numbered from 1 by first appearance: 0 is what some functions do not key.
fn tokens() -> Vec<u32> {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpora/data/held_out.txt");
    let named = std::env::var_os("WATERMARK_NULL_TEXT").unwrap_or_default();
    let files = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty());
    let files: Vec<PathBuf> = [embedded].into_iter().chain(files).collect();
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut all = Vec::new();
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let mut word = String::new();
        for c in text.chars().chain([' ']) {
            if c.is_alphanumeric() {
                word.push(c);
                continue;
            }
            let mark = (!c.is_whitespace()).then(|| c.to_string());
            let ended = (!word.is_empty()).then(|| core::mem::take(&mut word));
            for token in ended.into_iter().chain(mark) {
                let next = numbers.len() as u32 + 1;
                all.push(*numbers.entry(token).or_insert(next));
            }
        }
    }
    let most = std::env::var("WATERMARK_NULL_TOKENS").ok();
    all.truncate(most.map_or(MOST, |most| most.parse().unwrap()));
    all
}

fn under_keys(profile: &Profile, tokens: &[u32]) -> (usize, Vec<Vec<Glance>>) {
    let mut exhibit = Exhibit::new(profile.context_width());
    tokens
        .chunks(SEGMENT)
        .for_each(|segment| exhibit.push(segment));
    let seed = std::env::var("WATERMARK_NULL_SEED").map_or(1, |seed| seed.parse().unwrap());
    let key = |index: u64| {
        let mut bytes = [0; 32];
        ChaCha8Rng::seed_from_u64(index + 1000 * seed).fill_bytes(&mut bytes);
        SlotKey::from_parts(bytes, Epoch::new("null").unwrap(), 0)
    };
    let first = profile.bind(&key(0)).unwrap();
    let battery = Battery::closed(&first, &exhibit);
    let tables = battery.tables();
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= KEYS {
                        break;
                    }
                    let mark = profile.bind(&key(index)).unwrap();
                    let glance = tables.glance(&mark);
                    found.lock().unwrap().push(glance);
                }
            });
        }
    });
    let test = &battery.tests(&first)[0];
    (test.n_scored as usize, found.into_inner().unwrap())
}

#[test]
#[ignore = "minutes, in a release build"]
fn natural_text_under_200_keys() {
    let tokens = tokens();
    let vocabulary = tokens.iter().max().unwrap() + 1;
    println!("{} tokens, {vocabulary} of them different", tokens.len());
    println!(
        "profile | tokens | cells | KS p | p <= 0.01 | p <= 0.001 | z | s.d. of z | z, sqrt | s.d., sqrt"
    );
    let only = std::env::var("WATERMARK_NULL_PROFILE").unwrap_or_default();
    let mut failures = Vec::new();
    for name in COMPATIBLE.iter().filter(|name| name.contains(&only)) {
        let lists = name.contains("kgw") || name.contains("greenlist");
        let dear = name.contains("selfhash") || name.contains("three-bricks");
        let profile = if lists {
            Profile::built_in(&format!("{name}:{vocabulary}")).unwrap()
        } else {
            Profile::built_in(name).unwrap()
        };
        let text = &tokens[..tokens.len().min(if dear { MOST_OF_DEAR } else { MOST })];
        let (cells, found) = under_keys(&profile, text);
        let mut p: Vec<f64> = found
            .iter()
            .map(|glances| glances[0].p.ln().exp())
            .collect();
        let count = |alpha: f64| p.iter().filter(|&&p| p <= alpha).count() as u64;
        let counts = [(1e-2, count(1e-2)), (1e-3, count(1e-3))];
        let moments = |place: usize| {
            let n = found.len() as f64;
            let mean = found.iter().map(|g| g[place].z).sum::<f64>() / n;
            let squares = found.iter().map(|g| (g[place].z - mean).powi(2));
            (mean, (squares.sum::<f64>() / (n - 1.0)).sqrt())
        };
        let ((mean, sd), (mean_sqrt, sd_sqrt)) = (moments(0), moments(1));
        let ks = ks_attained(&mut p);
        println!(
            "{name} | {} | {cells} | {} | {} | {} | {mean:.3} | {sd:.3} | {mean_sqrt:.3} | {sd_sqrt:.3}",
            text.len(),
            ks.p,
            counts[0].1,
            counts[1].1,
        );
        // Too small p-values alone: by Massart's bound of the one-sided distance. A coarse grid makes TextSeal's too large.
        p.sort_unstable_by(f64::total_cmp);
        let n = p.len() as f64;
        let above = (1..).zip(&p).map(|(rank, p)| f64::from(rank) / n - p);
        let distance = above.fold(0.0, f64::max);
        let ln_small = -2.0 * n * distance * distance;
        let coarse = name.contains("textseal");
        let ln_p = if coarse { ln_small } else { ks.p.ln() };
        if ln_p < (ALPHA / LOOKS as f64).ln() {
            failures.push(format!(
                "{name}: KS {ks:?}, one-sided 10^{}",
                ln_small / core::f64::consts::LN_10
            ));
        }
        for (alpha, count) in counts {
            let band = simultaneous_band(KEYS, alpha, LOOKS, 1.0 - ALPHA);
            if count > *band.end() {
                failures.push(format!("{name}: {count} at {alpha}, {band:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
