//! Times the crate `llm-watermarking`: one round a call, medians as one JSON object.
//!
//! `crate-bench SECONDS`: thread CPU time spent on each measurement.

use std::hint::black_box;
use std::time::Duration;

use cpu_time::ThreadTime;
use llm_watermarking::exponential::{ExponentialRace, ExponentialRaceConfig};
use llm_watermarking::kgw::{Kgw, KgwConfig};
use llm_watermarking::synthid::{SynthIdConfig, SynthIdText};

const KEY: [u8; 32] = [0x42; 32];

/// Weights that fall off as 1/rank in shuffled order; all but the first `kept` ranks are 0.
fn weights(len: usize, kept: usize) -> Vec<f32> {
    let rank = |i: usize| i * 7919 % len;
    (0..len).map(|i| if rank(i) < kept { 1.0 / (1 + rank(i)) as f32 } else { 0.0 }).collect()
}

/// Median CPU time of a call in microseconds. The weights are restored outside the clock.
fn step(seconds: f64, initial: &[f32], mut call: impl FnMut(&mut [f32], u32)) -> f64 {
    let (mut samples, mut spent, mut i) = (Vec::new(), Duration::ZERO, 0);
    let mut probabilities = initial.to_vec();
    while samples.len() < 3 || spent.as_secs_f64() < seconds {
        probabilities.copy_from_slice(initial);
        let start = ThreadTime::now();
        call(black_box(&mut probabilities), i);
        let took = start.elapsed();
        if i > 0 {
            samples.push(took.as_secs_f64() * 1e6);
        }
        spent += took;
        i += 1;
    }
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Tokens read a CPU second, over as many as the time allows; `call` returns how many were scored.
fn read(seconds: f64, mut call: impl FnMut(&[u32]) -> usize) -> f64 {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let text: Vec<u32> = (0..131_072)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 50_000) as u32
        })
        .collect();
    let mut len = 64;
    loop {
        let start = ThreadTime::now();
        let scored = call(black_box(&text[..len]));
        let took = start.elapsed().as_secs_f64();
        assert!(scored * 10 >= len * 8, "{scored} of {len} tokens were scored");
        if len == text.len() || took >= seconds / 2.0 {
            return len as f64 / took;
        }
        len = ((len as f64 * seconds / took.max(1e-6)) as usize).clamp(len * 2, len * 64).min(text.len());
    }
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).expect("SECONDS");
    let mut found = Vec::new();
    let kgw = |vocabulary, context_width| {
        let mut config = KgwConfig::new(KEY, vocabulary);
        config.context_width = context_width;
        Kgw::new(&config).expect("valid")
    };
    for (id, vocabulary) in [("green-32k", 32_000), ("green-128k", 128_000)] {
        let mark = kgw(vocabulary, 1);
        found.push((id, step(seconds, &weights(vocabulary, vocabulary), |p, i| {
            mark.apply(p, &[1, 2, 3, 4, i % 30_000], 4).expect("valid");
        })));
    }
    let race = |vocabulary| {
        let mut config = ExponentialRaceConfig::new(KEY, vocabulary);
        config.sequence_len = 65_536;
        ExponentialRace::new(&config).expect("valid")
    };
    let tournament = SynthIdText::new(&SynthIdConfig::new(KEY)).expect("valid");
    for (gumbel, synthid, vocabulary, kept) in [
        ("gumbel-128k", "synthid-128k", 128_000, 128_000),
        ("gumbel-50", "synthid-50", 50, 50),
        ("gumbel-50-of-128k", "synthid-50-of-128k", 128_000, 50),
    ] {
        let (mark, initial) = (race(vocabulary), weights(vocabulary, kept));
        found.push((gumbel, step(seconds, &initial, |p, i| {
            black_box(mark.sample(p, i as usize % 65_536).expect("valid"));
        })));
        found.push((synthid, step(seconds, &initial, |p, i| {
            tournament.apply(p, &[1, 2, 3, 4, i], 4).expect("valid");
        })));
    }
    let mark = kgw(128_000, 4);
    found.push(("read-green", read(3.0 * seconds, |text| mark.detect(text, 0, &[]).expect("valid").trials)));
    let mark = race(128_000);
    found.push(("read-gumbel", read(3.0 * seconds, |text| mark.detect(text, 0, &[], 0).expect("valid").tokens_scored)));
    found.push(("read-synthid", read(3.0 * seconds, |text| tournament.detect(text, 0, &[]).expect("valid").tokens_scored)));
    let pairs: Vec<_> = found.iter().map(|(id, value)| format!("\"{id}\": {value}")).collect();
    println!("{{{}}}", pairs.join(", "));
}
