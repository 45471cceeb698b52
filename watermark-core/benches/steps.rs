//! What a step of writing and a token of reading cost.
//!
//! `cargo bench -p watermark-core --bench steps -- --quick` for a first look.

#![allow(missing_docs, reason = "criterion_group makes a public function")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watermark_core::candidates::Candidates;
use watermark_core::detect::score;
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::{Mark, Profile, SchemeSpec};
use watermark_core::window::Exhibit;

fn mark(scheme: SchemeSpec) -> Mark {
    let slot = MasterKey::from_bytes([1; 32]).slot(&Epoch::new("bench").unwrap(), 0);
    Profile::new("bench", scheme).bind(&slot).unwrap()
}

fn greenlist(context_width: u8, gamma: f64) -> Mark {
    mark(SchemeSpec::Greenlist {
        context_width,
        gamma,
        delta: 2.0,
    })
}

/// Weights that fall off as 1/rank, in shuffled order of tokens.
fn weights(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| 1.0 / (1 + i * 7919 % len) as f32)
        .collect()
}

fn green_list_bias(c: &mut Criterion) {
    let mut group = c.benchmark_group("green list");
    for vocabulary in [32_000usize, 128_000, 256_000] {
        for gamma in [0.5, 0.25, 0.1] {
            let mark = greenlist(4, gamma);
            let scheme = mark.scheme();
            let biaser = scheme.as_biaser().unwrap();
            let mut logits = vec![0.0f32; vocabulary];
            let mut step = 0;
            let mut mask = vec![0; vocabulary.div_ceil(32)];
            group.bench_function(format!("mask, {vocabulary} tokens, gamma {gamma}"), |b| {
                b.iter(|| {
                    step += 1;
                    biaser.fill_mask(&scheme.row(&[1, 2, 3, step]), black_box(&mut mask));
                });
            });
            group.bench_function(format!("bias, {vocabulary} tokens, gamma {gamma}"), |b| {
                b.iter(|| {
                    step += 1;
                    biaser.bias(&scheme.row(&[1, 2, 3, step]), black_box(&mut logits));
                });
            });
        }
    }
    group.finish();
}

fn choices(c: &mut Criterion) {
    let mut group = c.benchmark_group("choose");
    let schemes = [
        ("gumbel", SchemeSpec::Gumbel { context_width: 4 }),
        (
            "tournament m 30",
            SchemeSpec::Tournament {
                context_width: 4,
                depth: 30,
                leaves: 2,
            },
        ),
    ];
    let tokens: Vec<u32> = (0..50).map(|i| i * 2551).collect();
    let (few, all) = (weights(50), weights(128_000));
    for (name, scheme) in schemes {
        let mark = mark(scheme);
        let scheme = mark.scheme();
        let mut coins = ChaCha8Rng::seed_from_u64(1);
        for (what, candidates) in [
            ("50 candidates", Candidates::pairs(&tokens, &few).unwrap()),
            ("128000 tokens", Candidates::dense(&all).unwrap()),
        ] {
            let mut step = 0;
            group.bench_function(format!("{name}, {what}"), |b| {
                b.iter(|| {
                    step += 1;
                    let row = scheme.row(&[1, 2, 3, step]);
                    scheme.choose(&row, black_box(&candidates), &mut coins)
                });
            });
        }
    }
    group.finish();
}

fn detector(c: &mut Criterion) {
    const TOKENS: usize = 1_000_000;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let text: Vec<u32> = (0..TOKENS).map(|_| rng.next_u32() % 50_000).collect();
    let mut group = c.benchmark_group("detector, a token");
    group.throughput(Throughput::Elements(TOKENS as u64));
    group.sample_size(10);
    group.bench_function("exhibit", |b| {
        b.iter_batched(
            || Exhibit::new(4),
            |mut exhibit| {
                exhibit.push(&text);
                exhibit
            },
            BatchSize::PerIteration,
        );
    });
    for (name, mark) in [
        ("greenlist", greenlist(4, 0.25)),
        ("gumbel", mark(SchemeSpec::Gumbel { context_width: 4 })),
    ] {
        let mut exhibit = Exhibit::new(4);
        exhibit.push(&text);
        group.bench_function(format!("score, {name}"), |b| {
            b.iter(|| score(&mark, black_box(&exhibit)));
        });
        group.bench_function(format!("exhibit and score, {name}"), |b| {
            b.iter(|| {
                let mut exhibit = Exhibit::new(4);
                exhibit.push(black_box(&text));
                score(&mark, &exhibit)
            });
        });
    }
    group.finish();
}

fn tails(c: &mut Criterion) {
    let mut group = c.benchmark_group("tail");
    for (name, mark, mean) in [
        ("binomial", greenlist(1, 0.25), 0.25),
        (
            "gamma",
            mark(SchemeSpec::Gumbel { context_width: 1 }),
            f64::from(1 << 24),
        ),
    ] {
        let null = mark.scheme().null();
        for cells in [1_000u64, 1_000_000] {
            let sum = (cells as f64 * mean * 1.05) as u64;
            group.bench_function(format!("{name}, {cells} cells"), |b| {
                b.iter(|| null.upper_tail(black_box(cells), black_box(sum)));
            });
        }
    }
    group.finish();
}

criterion_group!(steps, green_list_bias, choices, detector, tails);
criterion_main!(steps);
