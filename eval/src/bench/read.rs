//! Tokens read under one key, cells under many, and whose copy leaked.

use std::hint::black_box;
use std::num::NonZeroUsize;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watermark_core::accounts;
use watermark_core::cells::Cells;
use watermark_core::stream::Stream;
use watermark_core::window::Exhibit;

use super::{Extent, Item, Times, VOCABULARY, green, gumbel, leak, measure, slot, tournament};

/// Uniform ids: as good as every cell is a new one, the most expensive text.
fn uniform(count: usize, below: u32, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.next_u32() % below).collect()
}

fn cells(count: usize) -> Cells {
    let mut exhibit = Exhibit::new(4);
    exhibit.push(&uniform(count + 4, VOCABULARY as u32, 3));
    exhibit.cells().clone()
}

pub(super) fn reads(extent: &Extent, hear: &dyn Fn(&str)) -> Times {
    let text = uniform(extent.tokens, 50_000, 2);
    let cells = cells(extent.cells);
    let leak = leak();
    let null = leak
        .bind_account(&slot(), 1)
        .expect("valid")
        .scheme()
        .null();
    let marks = [
        ("detectGreenNs", green(0.25)),
        ("detectGumbelNs", gumbel()),
        ("detectTournamentNs", tournament()),
    ];
    let mut items: Vec<Item<'_>> = Vec::new();
    for (name, mark) in &marks {
        let text = &text;
        items.push(Item {
            name,
            calls: 1,
            scale: 1e9 / extent.tokens as f64,
            step: Box::new(move || {
                let mut stream = Stream::new(mark);
                for segment in text.chunks(1000) {
                    stream.push(black_box(segment)).expect("in memory");
                }
                black_box(stream.finish().expect("in memory").test(mark));
            }),
        });
    }
    // Sorted once, as for every list that is read under many keys.
    black_box(cells.digest());
    let (mark, cells) = (&marks[0].1, &cells);
    items.push(Item {
        name: "cellKeyNs",
        calls: 10,
        scale: 1e9 / cells.len() as f64,
        step: Box::new(move || {
            black_box(cells.scores(mark));
        }),
    });
    let leak = &leak;
    for (name, count) in [
        ("accountTile1000Seconds", 1000),
        ("accounts24kSeconds", 24_000),
    ] {
        items.push(Item {
            name,
            calls: 1,
            scale: 1.0,
            step: Box::new(move || {
                let scores = accounts::scores(leak, &slot(), cells, count, NonZeroUsize::MIN);
                black_box(accounts::rank(null, &scores.expect("valid")));
            }),
        });
    }
    measure(items, extent.rounds, hear)
}
