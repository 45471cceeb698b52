//! Steps of writing, from the window to the changed logits or the chosen candidate.

use std::hint::black_box;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use watermark_core::candidates::Candidates;
use watermark_core::prf::Lane;

use super::{Item, Times, VOCABULARY, green, gumbel, leak, measure, self_hash, slot, tournament};

/// Weights that fall off as 1/rank, in shuffled order of tokens.
fn weights(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| 1.0 / (1 + i * 7919 % len) as f32)
        .collect()
}

pub(super) fn steps(rounds: usize, hear: &dyn Fn(&str)) -> Times {
    let of_account = leak().bind_account(&slot(), 1).expect("a valid profile");
    let (half, quarter, tenth) = (green(0.5), green(0.25), green(0.1));
    let (gumbel, tournament, self_hash) = (gumbel(), tournament(), self_hash());
    let tokens: Vec<u32> = (0..50).map(|i| i * 2551).collect();
    let (few, all) = (weights(50), weights(VOCABULARY));
    let mut logits = vec![0.0f32; VOCABULARY];
    let mut items = vec![Item::micros("biasAddUs128k", 200, move || {
        let delta = black_box(2.0f32);
        logits.iter_mut().for_each(|logit| *logit += delta);
        black_box(&mut logits);
    })];
    for (name, mark, vocabulary) in [
        ("greenStepUs32k", &half, 32_000),
        ("greenStepUs128k", &half, VOCABULARY),
        ("greenStepUs256k", &half, 2 * VOCABULARY),
        ("greenQuarterUs128k", &quarter, VOCABULARY),
        ("greenTenthUs128k", &tenth, VOCABULARY),
        ("greenLeakStepUs128k", &of_account, VOCABULARY),
        ("selfHashStepUs128k", &self_hash, VOCABULARY),
    ] {
        let mut logits = vec![0.0f32; vocabulary];
        let mut at = 0;
        items.push(Item::micros(name, 200, move || {
            at += 1;
            let scheme = mark.scheme();
            let biaser = scheme.as_biaser().expect("a green list");
            biaser.bias(&scheme.row(&[1, 2, 3, at]), black_box(&mut logits));
        }));
    }
    let (mut mask, mut at) = (vec![0u32; VOCABULARY / 32], 0);
    let mark = &half;
    items.push(Item::micros("greenMaskUs128k", 400, move || {
        at += 1;
        let scheme = mark.scheme();
        let biaser = scheme.as_biaser().expect("a green list");
        biaser.fill_mask(&scheme.row(&[1, 2, 3, at]), black_box(&mut mask));
    }));
    let (mut words, mut at) = (vec![0u32; VOCABULARY], 0);
    let mark = &gumbel;
    items.push(Item::micros("keystreamUs128k", 40, move || {
        at += 1;
        let row = mark.scheme().row(&[1, 2, 3, at]);
        row.seeds()[0].words(Lane::Gumbel, black_box(&mut words));
    }));
    let mut at = 0;
    items.push(Item::micros("rowUs", 10_000, move || {
        at += 1;
        black_box(mark.scheme().row(black_box(&[1, 2, 3, at])));
    }));
    for (name, mark, calls, few_of_them) in [
        ("gumbel50Us", &gumbel, 4000, Some(50)),
        ("tournament50Us", &tournament, 4000, Some(50)),
        ("selfHash40Us", &self_hash, 2000, Some(40)),
        ("gumbelVocabUs128k", &gumbel, 40, None),
        ("tournamentVocabUs128k", &tournament, 5, None),
    ] {
        let mut coins = ChaCha8Rng::seed_from_u64(1);
        let (tokens, few, all) = (&tokens, &few, &all);
        let mut at = 0;
        items.push(Item::micros(name, calls, move || {
            at += 1;
            let scheme = mark.scheme();
            let row = scheme.row(&[1, 2, 3, at]);
            let candidates = match few_of_them {
                Some(len) => Candidates::pairs(black_box(&tokens[..len]), few),
                None => Candidates::dense(black_box(all)),
            };
            let candidates = candidates.expect("positive weights");
            black_box(scheme.choose(&row, &candidates, &mut coins));
        }));
    }
    measure(items, rounds, hear)
}
