//! The contract of `Scheme`, for every scheme: what is written is read, a stranger's key sees
//! nothing, false alarms come as often as stated, distributions are kept where promised.
//!
//! All seeds are fixed: a failure is a change of behaviour, not bad luck.

mod plain;

use plain::Plain;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use statrs::distribution::{ChiSquared, ContinuousCDF};
use watermark_core::candidates::{CandidateBuffer, Candidates, Sampling};
use watermark_core::detect::{Test, score};
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::profile::{Mark, Profile};
use watermark_core::sampler::Session;
use watermark_core::scheme::Null;
use watermark_core::stats::tail::{ln_binomial_cdf, ln_binomial_sf};
use watermark_core::window::Exhibit;

/// Below this p-value a statistical test fails.
const ALPHA: f64 = 1e-6;

fn profiles() -> Vec<(String, Profile)> {
    let green =
        |h: u32| json!({"type": "greenlist", "context_width": h, "gamma": 0.25, "delta": 2.0});
    let tournament = |depth: u32, leaves: u32| json!({"type": "tournament", "context_width": 2, "depth": depth, "leaves": leaves});
    [
        green(0),
        green(1),
        green(2),
        json!({"type": "greenlist-selfhash", "context_width": 4, "gamma": 0.25, "delta": 2.0}),
        json!({"type": "gumbel", "context_width": 2}),
        json!({"type": "gumbel-dual", "context_width": 2}),
        tournament(30, 2),
        tournament(40, 2),
        tournament(30, 3),
        tournament(40, 3),
    ]
    .into_iter()
    .map(|scheme| {
        (
            scheme.to_string(),
            Profile::new("contract", serde_json::from_value(scheme).unwrap()),
        )
    })
    .collect()
}

fn key(rng: &mut ChaCha8Rng) -> SlotKey {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    SlotKey::from_parts(bytes, Epoch::new("t").unwrap(), 0)
}

/// `len` tokens of a model whose favourites move from step to step.
fn write(mark: &Mark, len: usize, coins: &mut ChaCha8Rng) -> Vec<u32> {
    const VOCABULARY: usize = 2000;
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

#[test]
fn what_is_written_is_read_and_under_no_other_key() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (name, profile) in profiles() {
        let mark = profile.bind(&key(&mut rng)).unwrap();
        let text = write(&mark, 600, &mut rng);
        let found = Test::of(&mark, &exhibit(&mark, &text));
        assert!(found.p.ln() < 1e-9f64.ln(), "{name}: {found:?}");
        for _ in 0..20 {
            let stranger = profile.bind(&key(&mut rng)).unwrap();
            let nothing = Test::of(&stranger, &exhibit(&stranger, &text));
            assert!(nothing.p.ln() > ALPHA.ln(), "{name}: {nothing:?}");
        }
    }
}

#[test]
fn a_leak_slot_reads_its_account_only() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (name, mut profile) in profiles() {
        profile.slot = watermark_core::prf::Slot::Leak;
        let key = key(&mut rng);
        let mark = profile.bind_account(&key, 17).unwrap();
        let text = write(&mark, 600, &mut rng);
        for account in [1, 16, 17, 18, 33] {
            let mark = profile.bind_account(&key, account).unwrap();
            let p = Test::of(&mark, &exhibit(&mark, &text)).p;
            assert_eq!(p.ln() < 1e-9f64.ln(), account == 17, "{name}, {account}");
            assert!(account == 17 || p.ln() > ALPHA.ln(), "{name}, {account}");
        }
    }
}

/// Eight tokens, from common to rare.
const WEIGHTS: [f32; 8] = [0.5, 0.2, 0.1, 0.08, 0.06, 0.04, 0.015, 0.005];
const TOKENS: [u32; 8] = [90_001, 3, 511, 512, 70, 1, 40_000, 65_535];

fn chi_square(counts: &[u64], probabilities: &[f64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let sum: f64 = counts
        .iter()
        .zip(probabilities)
        .map(|(&count, p)| {
            let expected = p * total as f64;
            (count as f64 - expected).powi(2) / expected
        })
        .sum();
    ChiSquared::new(counts.len() as f64 - 1.0).unwrap().sf(sum)
}

/// With 100,000 keys and 7 degrees of freedom the test fails at a sum above 41, so that it
/// catches in half of all cases a shift of 0.009 of the token of probability 0.5, and of 0.0013
/// of that of 0.005.
#[test]
fn a_random_key_keeps_the_distribution_where_promised() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let total: f64 = WEIGHTS.iter().map(|&w| f64::from(w)).sum();
    let probabilities = WEIGHTS.map(|w| f64::from(w) / total);
    for (name, profile) in profiles() {
        let scheme_of = |rng: &mut ChaCha8Rng| profile.bind(&key(rng)).unwrap();
        if !scheme_of(&mut rng).scheme().preserves_distribution() {
            continue;
        }
        for dense in [false, true] {
            let candidates = if dense {
                Candidates::dense(&WEIGHTS).unwrap()
            } else {
                Candidates::pairs(&TOKENS, &WEIGHTS).unwrap()
            };
            let mut counts = [0; 8];
            for _ in 0..100_000 {
                let mark = scheme_of(&mut rng);
                let row = mark.scheme().row(&[1, 2]);
                counts[mark.scheme().choose(&row, &candidates, &mut rng)] += 1;
            }
            let p = chi_square(&counts, &probabilities);
            assert!(p > ALPHA, "{name}, dense {dense}: {counts:?}, p {p}");
        }
    }
}

/// (token, green) against the exact law, a mean over all 2^8 green sets. With 100,000 keys and
/// 15 degrees of freedom it fails at a sum above 57: in half of all cases it catches a gamma of
/// 0.25 that is wrong by 0.009 or a delta of 2 that is wrong by 0.05.
#[test]
fn a_green_list_tilts_as_its_formula_says() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (gamma, factor) = (0.25f64, 2.0f64.exp());
    let mut probabilities = [0.0; 16];
    for greens in 0u32..256 {
        let ones = greens.count_ones() as i32;
        let chance = gamma.powi(ones) * (1.0 - gamma).powi(8 - ones);
        let green = |i: usize| (greens >> i & 1) as usize;
        let tilted = |i: usize| f64::from(WEIGHTS[i]) * factor.powi(green(i) as i32);
        let total: f64 = (0..8).map(tilted).sum();
        for i in 0..8 {
            probabilities[2 * i + green(i)] += chance * tilted(i) / total;
        }
    }
    for (name, profile) in profiles() {
        if profile
            .bind(&key(&mut rng))
            .unwrap()
            .scheme()
            .as_biaser()
            .is_none()
        {
            continue;
        }
        for dense in [false, true] {
            let candidates = if dense {
                Candidates::dense(&WEIGHTS).unwrap()
            } else {
                Candidates::pairs(&TOKENS, &WEIGHTS).unwrap()
            };
            let mut counts = [0; 16];
            for _ in 0..100_000 {
                let mark = profile.bind(&key(&mut rng)).unwrap();
                let scheme = mark.scheme();
                let row = scheme.row(&[4, 3, 2, 1][..scheme.context_width()]);
                let index = scheme.choose(&row, &candidates, &mut rng);
                let green = scheme.score(&row, candidates.get(index).0);
                counts[2 * index + green as usize] += 1;
            }
            let p = chi_square(&counts, &probabilities);
            assert!(p > ALPHA, "{name}, dense {dense}: {counts:?}, p {p}");
        }
    }
}

/// One layer with three leaves, which keeps no distribution, against the exact law of a match:
/// a mean over all 2^8 layers of bits.
#[test]
fn three_leaves_meet_as_three_competitors() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let total: f64 = WEIGHTS.iter().map(|&w| f64::from(w)).sum();
    let p = WEIGHTS.map(|w| f64::from(w) / total);
    let mut probabilities = [0.0; 8];
    for bits in 0u32..256 {
        let mut draws = vec![];
        for i in 0..512usize {
            draws.push([i & 7, i >> 3 & 7, i >> 6]);
        }
        for draw in draws {
            let chance: f64 = draw.iter().map(|&i| p[i]).product::<f64>() / 256.0;
            let best = draw.iter().map(|&i| bits >> i & 1).max().unwrap();
            let ahead: Vec<usize> = draw
                .into_iter()
                .filter(|&i| bits >> i & 1 == best)
                .collect();
            for &i in &ahead {
                probabilities[i] += chance / ahead.len() as f64;
            }
        }
    }
    let spec = json!({"type": "tournament", "context_width": 2, "depth": 1, "leaves": 3});
    let profile = Profile::new("three", serde_json::from_value(spec).unwrap());
    let candidates = Candidates::pairs(&TOKENS, &WEIGHTS).unwrap();
    let mut counts = [0; 8];
    for _ in 0..100_000 {
        let mark = profile.bind(&key(&mut rng)).unwrap();
        let row = mark.scheme().row(&[1, 2]);
        counts[mark.scheme().choose(&row, &candidates, &mut rng)] += 1;
    }
    let p = chi_square(&counts, &probabilities);
    assert!(p > ALPHA, "{counts:?}, p {p}");
}

#[test]
fn a_bias_is_the_mask_times_delta() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (name, profile) in profiles() {
        let mark = profile.bind(&key(&mut rng)).unwrap();
        let scheme = mark.scheme();
        let Some(biaser) = scheme.as_biaser() else {
            continue;
        };
        let row = scheme.row(&[4, 3, 2, 1][..scheme.context_width()]);
        // Below and above the length that is done without allocating; no multiple of 32.
        for len in [1000, 5001] {
            let mut logits = vec![1.0; len];
            biaser.bias(&row, &mut logits);
            for (token, logit) in (0..).zip(logits) {
                let expected = if scheme.score(&row, token) == 1 {
                    3.0
                } else {
                    1.0
                };
                assert_eq!(logit, expected, "{name}, {token}");
            }
        }
    }
}

/// Text that says the same things again and again: 25 phrases over 60 words.
fn repetitive(rng: &mut ChaCha8Rng) -> Vec<u32> {
    let phrases: Vec<Vec<u32>> = (0..25)
        .map(|_| (0..7).map(|_| rng.next_u32() % 60).collect())
        .collect();
    (0..200)
        .flat_map(|_| phrases[rng.next_u32() as usize % phrases.len()].clone())
        .collect()
}

/// The largest level of a test of nominal level `alpha`: sums are integers.
fn attained(null: &Null, cells: u64, alpha: f64) -> f64 {
    let most = match null {
        Null::Binomial { trials, .. } => cells * u64::from(*trials),
        Null::List { .. } => cells,
        // The largest score of one cell is below 23 nats.
        Null::Gamma { shape } => cells * u64::from(*shape) * (23 << 24),
    };
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if null.upper_tail(cells, middle).ln() <= alpha.ln() {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    null.upper_tail(cells, low).ln().exp()
}

/// A key that nobody used rejects as often as stated. 2000 trials at level 0.05 catch in half of
/// all cases a true rate below 0.030 or above 0.075; at 0.01, above 0.023. Repeats counted as
/// evidence would give rates above 0.2.
#[test]
fn false_alarms_come_as_often_as_stated() {
    const TRIALS: u64 = 2000;
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let text = repetitive(&mut rng);
    for (name, profile) in profiles() {
        let exhibit = exhibit(&profile.bind(&key(&mut rng)).unwrap(), &text);
        let (mut alarms, mut levels) = ([0u64; 2], [0.0; 2]);
        let mut known = (u64::MAX, [0.0; 2]);
        for _ in 0..TRIALS {
            let mark = profile.bind(&key(&mut rng)).unwrap();
            let null = mark.scheme().null();
            let test = Test::of(&mark, &exhibit);
            // Only self-hash has a number of cells that depends on the key.
            if known.0 != test.n_scored {
                known = (
                    test.n_scored,
                    [0.05, 0.01].map(|alpha| attained(&null, test.n_scored, alpha)),
                );
            }
            for (i, alpha) in [0.05f64, 0.01].into_iter().enumerate() {
                alarms[i] += u64::from(test.p.ln() <= alpha.ln());
                levels[i] += known.1[i] / TRIALS as f64;
            }
        }
        for (alarms, level) in alarms.into_iter().zip(levels) {
            let more = ln_binomial_sf(alarms, TRIALS, level, 1.0 - level).ln();
            let fewer = ln_binomial_cdf(alarms, TRIALS, level, 1.0 - level).ln();
            assert!(
                more > ALPHA.ln() && fewer > ALPHA.ln(),
                "{name}: {alarms} alarms in {TRIALS} at level {level}"
            );
        }
    }
}

#[test]
fn saying_it_twice_is_no_evidence() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (name, profile) in profiles() {
        let mark = profile.bind(&key(&mut rng)).unwrap();
        let text = write(&mark, 200, &mut rng);
        let once = exhibit(&mark, &text);
        let mut twice = once.clone();
        twice.push(&text);
        assert_eq!(score(&mark, &once), score(&mark, &twice), "{name}");
        assert_eq!(once.digest(), twice.digest(), "{name}");
    }
}

#[test]
fn a_dual_key_says_two_things() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let profile = Profile::built_in("gumbel-dual-h2").unwrap();
    let mark = profile.bind(&key(&mut rng)).unwrap();
    let flat = [1.0; 500];
    let candidates = Candidates::dense(&flat).unwrap();
    let row = mark.scheme().row(&[1, 2]);
    let mut said: Vec<usize> = (0..100)
        .map(|_| mark.scheme().choose(&row, &candidates, &mut rng))
        .collect();
    said.sort_unstable();
    said.dedup();
    assert_eq!(said.len(), 2);
}

/// The whole race, with no candidate dismissed unheard.
fn full_race(plain: &Plain, window: &[u32], candidates: &[(u32, f32)]) -> u32 {
    let mut best = (f64::INFINITY, u32::MAX);
    for &(token, weight) in candidates {
        if weight > 0.0 {
            let w = (f64::from(plain.words(window, token)[0]) + 0.5) / 4_294_967_296.0;
            let time = -(-w).ln_1p() / f64::from(weight);
            if time < best.0 || (time == best.0 && token < best.1) {
                best = (time, token);
            }
        }
    }
    best.1
}

fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        2 => Just(0.0f32),
        1 => Just(f32::NAN),
        1 => Just(-1.0f32),
        1 => Just(1e-42f32),
        2 => Just(0.25f32),
        3 => 0.0f32..1.0,
        3 => (-30.0f32..5.0).prop_map(f32::exp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_pruned_race_is_the_full_race(
        bytes in any::<[u8; 32]>(),
        weights in prop::collection::vec(weight(), 1..80),
        order in any::<u64>(),
        window in any::<[u32; 2]>(),
    ) {
        prop_assume!(Candidates::dense(&weights).is_ok());
        let profile: Value = json!({
            "schema": "watermark.profile/1", "id": "x",
            "scheme": {"type": "gumbel", "context_width": 2},
        });
        let slot = SlotKey::from_parts(bytes, Epoch::new("t").unwrap(), 0);
        let mark = Profile::from_json(&profile.to_string()).unwrap().bind(&slot).unwrap();
        let plain = Plain::new(&profile, &bytes, 0);
        let mut pairs: Vec<(u32, f32)> = (0..).zip(weights.iter().copied()).collect();
        let expected = full_race(&plain, &window, &pairs);

        let mut rng = ChaCha8Rng::seed_from_u64(order);
        let row = mark.scheme().row(&window);
        let dense = Candidates::dense(&weights).unwrap();
        prop_assert_eq!(mark.scheme().choose(&row, &dense, &mut rng) as u32, expected);

        // A candidate that stands twice ties with itself.
        pairs.push(pairs[order as usize % pairs.len()]);
        for i in (1..pairs.len()).rev() {
            pairs.swap(i, rng.next_u64() as usize % (i + 1));
        }
        let (tokens, weights): (Vec<u32>, Vec<f32>) = pairs.into_iter().unzip();
        let shuffled = Candidates::pairs(&tokens, &weights).unwrap();
        let index = mark.scheme().choose(&row, &shuffled, &mut rng);
        prop_assert_eq!(tokens[index], expected);
    }
}

/// Words that make two times equal exactly: whoever has the lower id wins, in either order.
#[test]
fn a_tie_goes_to_the_lower_token() {
    let profile: Value = json!({
        "schema": "watermark.profile/1", "id": "x",
        "scheme": {"type": "gumbel", "context_width": 1},
    });
    let bytes = [5; 32];
    let slot = SlotKey::from_parts(bytes, Epoch::new("t").unwrap(), 0);
    let mark = Profile::from_json(&profile.to_string())
        .unwrap()
        .bind(&slot)
        .unwrap();
    let plain = Plain::new(&profile, &bytes, 0);
    // Among 200,000 words of 32 bits four or five pairs are equal.
    let mut words: Vec<(u32, u32)> = (0..200_000)
        .map(|token| (plain.words(&[1], token)[0], token))
        .collect();
    words.sort_unstable();
    let pair = words
        .windows(2)
        .find(|pair| pair[0].0 == pair[1].0)
        .unwrap();
    let (low, high) = (pair[0].1, pair[1].1);
    let row = mark.scheme().row(&[1]);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for tokens in [[low, high], [high, low]] {
        let candidates = Candidates::pairs(&tokens, &[0.5, 0.5]).unwrap();
        let index = mark.scheme().choose(&row, &candidates, &mut rng);
        assert_eq!(tokens[index], low);
    }
}
