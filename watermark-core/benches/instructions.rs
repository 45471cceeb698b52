//! Instructions of one call each, for a counting simulator: `.ci/instructions` runs this under callgrind and compares
//! with `instructions.json`. Unlike times, the counts are the same on a loaded machine.
//!
//! `instructions KERNEL OPERATION` calls the operation once, inside `measured`, after once outside.

#![allow(missing_docs, reason = "a bench has no public functions")]

use std::hint::black_box;
use std::num::NonZeroUsize;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use watermark_core::accounts;
use watermark_core::candidates::Candidates;
use watermark_core::kernel::Kernel;
use watermark_core::key::{Epoch, MasterKey, SlotKey};
use watermark_core::prf::Slot;
use watermark_core::profile::{Mark, Profile, SchemeSpec};
use watermark_core::stream::Stream;
use watermark_core::window::Exhibit;

fn slot() -> SlotKey {
    MasterKey::from_bytes([1; 32]).slot(&Epoch::new("bench").unwrap(), 0)
}

fn mark(scheme: SchemeSpec) -> Mark {
    Profile::new("bench", scheme).bind(&slot()).unwrap()
}

fn greenlist(gamma: f64) -> SchemeSpec {
    SchemeSpec::Greenlist {
        context_width: 4,
        gamma,
        delta: 2.0,
    }
}

const GUMBEL: SchemeSpec = SchemeSpec::Gumbel { context_width: 4 };
const TOURNAMENT: SchemeSpec = SchemeSpec::Tournament {
    context_width: 4,
    depth: 30,
    leaves: 2,
};

/// What the counter collects.
#[inline(never)]
fn measured(operation: &mut dyn FnMut()) {
    operation();
}

fn bias(scheme: SchemeSpec) -> Box<dyn FnMut()> {
    let (mark, mut logits) = (mark(scheme), vec![0.0f32; 128_000]);
    Box::new(move || {
        let scheme = mark.scheme();
        let biaser = scheme.as_biaser().unwrap();
        biaser.bias(&scheme.row(&[1, 2, 3, 4]), black_box(&mut logits));
    })
}

fn choose(scheme: SchemeSpec, tokens: Option<usize>) -> Box<dyn FnMut()> {
    let mark = mark(scheme);
    let len = tokens.unwrap_or(128_000);
    let weights: Vec<f32> = (0..len)
        .map(|i| 1.0 / (1 + i * 7919 % len) as f32)
        .collect();
    let ids: Vec<u32> = (0..len as u32).map(|i| i * 2551).collect();
    Box::new(move || {
        let candidates = match tokens {
            Some(_) => Candidates::pairs(&ids, &weights),
            None => Candidates::dense(&weights),
        };
        let row = mark.scheme().row(&[1, 2, 3, 4]);
        let mut coins = ChaCha8Rng::seed_from_u64(1);
        black_box(
            mark.scheme()
                .choose(&row, black_box(&candidates.unwrap()), &mut coins),
        );
    })
}

fn text() -> Vec<u32> {
    (0..20_000u32)
        .map(|i| i.wrapping_mul(0x9e37_79b9) >> 12)
        .collect()
}

fn read(scheme: SchemeSpec) -> Box<dyn FnMut()> {
    let (mark, text) = (mark(scheme), text());
    Box::new(move || {
        let mut stream = Stream::new(&mark);
        stream.push(black_box(&text)).unwrap();
        black_box(stream.finish().unwrap().score);
    })
}

fn ranked() -> Box<dyn FnMut()> {
    let mut exhibit = Exhibit::new(4);
    exhibit.push(&text()[..104]);
    let profile = Profile {
        slot: Slot::Leak,
        ..Profile::new("leak", greenlist(0.5))
    };
    Box::new(move || {
        let cells = exhibit.cells();
        let scores = accounts::scores(&profile, &slot(), cells, 24_000, NonZeroUsize::MIN);
        black_box(scores.unwrap());
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own arguments say that nobody counts.
    let [kernel, operation] = &arguments[..] else {
        eprintln!("usage: instructions KERNEL OPERATION, under a counter (see CONTRIBUTING.md)");
        return;
    };
    kernel.parse::<Kernel>().unwrap().select().unwrap();
    let mut run = match operation.as_str() {
        "green-half-128k" => bias(greenlist(0.5)),
        "green-quarter-128k" => bias(greenlist(0.25)),
        "gumbel-50" => choose(GUMBEL, Some(50)),
        "gumbel-128k" => choose(GUMBEL, None),
        "tournament-50" => choose(TOURNAMENT, Some(50)),
        "tournament-128k" => choose(TOURNAMENT, None),
        "read-green-20k" => read(greenlist(0.25)),
        "read-gumbel-20k" => read(GUMBEL),
        "read-tournament-20k" => read(TOURNAMENT),
        "accounts-100x24000" => ranked(),
        other => panic!("no operation {other}"),
    };
    // Once outside: memory of the thread, pages, tables.
    run();
    measured(&mut run);
}
