//! The ways of reading many cells agree with reading one: batches, streams in any number of parts and
//! any memory, accounts side by side.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use watermark_core::accounts;
use watermark_core::detect::score;
use watermark_core::key::{Epoch, MasterKey, SlotKey};
use watermark_core::prf::{BATCH, Slot, Windows};
use watermark_core::profile::{BUILT_IN, Mark, Profile, SchemeSpec};
use watermark_core::stream::Stream;
use watermark_core::window::Exhibit;

fn slot() -> SlotKey {
    MasterKey::from_bytes([9; 32]).slot(&Epoch::new("t").unwrap(), 0)
}

/// Every built-in profile, a deep tournament, shares of other widths, and each as a leak slot.
fn marks() -> Vec<(String, Mark)> {
    let others = [
        SchemeSpec::Tournament {
            context_width: 2,
            depth: 70,
            leaves: 3,
        },
        SchemeSpec::Greenlist {
            context_width: 0,
            gamma: 0.1,
            delta: 1.0,
        },
        SchemeSpec::Greenlist {
            context_width: 11,
            gamma: 0.5,
            delta: 1.0,
        },
    ];
    let profiles = BUILT_IN
        .iter()
        .map(|name| Profile::built_in(name).unwrap())
        .chain(others.map(|scheme| Profile::new("other", scheme)));
    profiles
        .flat_map(|profile| {
            let leak = Profile {
                slot: Slot::Leak,
                ..profile.clone()
            };
            [
                (
                    format!("{:?}", profile.scheme),
                    profile.bind(&slot()).unwrap(),
                ),
                (
                    format!("{:?}, account 1234", profile.scheme),
                    leak.bind_account(&slot(), 1234).unwrap(),
                ),
            ]
        })
        .collect()
}

fn read<'m, 't>(
    mut stream: Stream<'m>,
    prompt: &[u32],
    segments: impl Iterator<Item = &'t [u32]>,
) -> Stream<'m> {
    stream.exclude(prompt);
    for segment in segments {
        stream.push(segment).unwrap();
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_batch_is_as_one_at_a_time(
        ids in proptest::collection::vec(0u32..200_000, 12 * BATCH),
        which in proptest::collection::vec(0u32..40, 0..=BATCH),
        tokens in proptest::collection::vec(any::<u32>(), BATCH),
    ) {
        for (name, mark) in marks() {
            let scheme = mark.scheme();
            let width = scheme.context_width();
            let windows = Windows { ids: &ids, count: 40, stride: width + 1, width };
            let tokens = &tokens[..which.len()];
            let (mut scores, mut cells) = ([0; BATCH], [0; BATCH]);
            scheme.score_batch(&windows, &which, tokens, &mut scores, Some(&mut cells));
            for (i, (&token, &which)) in tokens.iter().zip(&which).enumerate() {
                let row = scheme.row(windows.get(which as usize));
                prop_assert_eq!(scores[i], scheme.score(&row, token), "{}", name);
                prop_assert_eq!(cells[i], scheme.cell(&row, token), "{}", name);
            }
        }
    }

    #[test]
    fn a_stream_is_an_exhibit_in_any_parts(
        text in proptest::collection::vec(0u32..12, 3000..6000),
        prompt in proptest::collection::vec(0u32..12, 0..40),
        lengths in proptest::collection::vec(0usize..700, 1..20),
    ) {
        // Segments that repeat, so that coins lie in several parts and runs.
        let mut segments: Vec<&[u32]> = Vec::new();
        let mut rest = &text[..];
        for &length in lengths.iter().cycle() {
            let (segment, after) = rest.split_at(length.min(rest.len()));
            segments.push(segment);
            rest = after;
            if rest.is_empty() || segments.len() > 200 {
                break;
            }
        }
        let directory = tempfile::tempdir().unwrap();
        for (name, mark) in marks() {
            let mut exhibit = Exhibit::new(mark.scheme().context_width());
            exhibit.exclude(&prompt);
            segments.iter().for_each(|segment| exhibit.push(segment));
            let expected = score(&mark, &exhibit);

            let whole = |stream, pick: &dyn Fn(usize) -> bool| {
                let picked = segments.iter().enumerate().filter(|(i, _)| pick(*i));
                read(stream, &prompt, picked.map(|(_, segment)| *segment))
            };
            let one = whole(Stream::new(&mark), &|_| true);
            let plain = whole(Stream::new(&mark), &|_| true).finish().unwrap();
            prop_assert_eq!(plain.score, expected, "{}", name);
            let found = one.finish_with_digest().unwrap();
            prop_assert_eq!(found.score, expected, "{}", name);
            let counts = exhibit.counts();
            prop_assert_eq!(found.counts.tokens, counts.tokens);
            prop_assert_eq!(found.counts.excluded, counts.excluded);
            prop_assert_eq!(found.counts.partial, counts.partial);

            let bounded = || Stream::bounded(&mark, 1000, directory.path().to_owned());
            let small = whole(bounded(), &|_| true).finish_with_digest().unwrap();
            prop_assert_eq!(small.score, expected, "{}, in runs", name);
            prop_assert_eq!(small.digest, found.digest);
            for digest in [false, true] {
                let mut parts = whole(Stream::new(&mark), &|i| i % 4 == 0);
                parts.merge(whole(Stream::new(&mark), &|i| i % 4 == 1)).unwrap();
                let mut others = whole(Stream::new(&mark), &|i| i % 4 == 2);
                others.merge(whole(Stream::new(&mark), &|i| i % 4 == 3)).unwrap();
                parts.merge(others).unwrap();
                let parts = if digest {
                    parts.finish_with_digest().unwrap()
                } else {
                    parts.finish().unwrap()
                };
                prop_assert_eq!(parts.score, expected, "{}, merged", name);
                prop_assert_eq!(parts.digest, found.digest.filter(|_| digest));
                prop_assert_eq!(parts.counts, found.counts);
            }
            let mut parts = whole(bounded(), &|i| i % 3 == 0);
            parts.merge(whole(Stream::new(&mark), &|i| i % 3 == 1)).unwrap();
            parts.merge(whole(bounded(), &|i| i % 3 == 2)).unwrap();
            let parts = parts.finish_with_digest().unwrap();
            prop_assert_eq!(parts.score, expected, "{}, in parts", name);
            prop_assert_eq!(parts.digest, found.digest);
            prop_assert_eq!(parts.counts, found.counts);
        }
    }
}

#[test]
fn accounts_side_by_side_are_as_one_by_one() {
    let mut exhibit = Exhibit::new(2);
    let text: Vec<u32> = (0..300u32).map(|i| i * i * 7919 % 50_021).collect();
    exhibit.push(&text);
    for scheme in [
        SchemeSpec::Greenlist {
            context_width: 2,
            gamma: 0.5,
            delta: 1.0,
        },
        SchemeSpec::Greenlist {
            context_width: 2,
            gamma: 0.1,
            delta: 1.0,
        },
        SchemeSpec::Tournament {
            context_width: 2,
            depth: 5,
            leaves: 2,
        },
    ] {
        let profile = Profile {
            slot: Slot::Leak,
            ..Profile::new("leak", scheme)
        };
        // Across the border of a group of tiles.
        let accounts = if matches!(profile.scheme, SchemeSpec::Tournament { .. }) {
            40
        } else {
            4500
        };
        for threads in [1, 3] {
            let threads = NonZeroUsize::new(threads).unwrap();
            let scores =
                accounts::scores(&profile, &slot(), exhibit.cells(), accounts, threads).unwrap();
            assert_eq!(scores.len(), accounts as usize);
            let some = (1..=accounts).filter(|a| a % 97 == 1 || *a > accounts - 20 || *a < 20);
            for account in some {
                let mark = profile.bind_account(&slot(), account).unwrap();
                let alone = score(&mark, &exhibit);
                assert_eq!(scores[account as usize - 1], alone, "account {account}");
            }
        }
    }
}

#[test]
fn a_planted_account_comes_first_and_innocents_are_as_the_null_says() {
    const ACCOUNTS: u32 = 2000;
    const PLANTED: u32 = 1234;
    let profile = Profile {
        slot: Slot::Leak,
        ..Profile::new(
            "leak",
            SchemeSpec::Greenlist {
                context_width: 1,
                gamma: 0.5,
                delta: 1.0,
            },
        )
    };
    let mark = profile.bind_account(&slot(), PLANTED).unwrap();
    let scheme = mark.scheme();
    // Of two candidates a step, a green one three times in four.
    let mut text = vec![1u32];
    for i in 0..2000u32 {
        let row = scheme.row(&text[text.len() - 1..]);
        let pair = [i * 31 % 4999, i * 77 % 5003];
        let green = pair.iter().find(|&&token| scheme.score(&row, token) == 1);
        text.push(*green.unwrap_or(&pair[0]));
    }
    let mut exhibit = Exhibit::new(1);
    exhibit.push(&text);
    let threads = NonZeroUsize::MIN;
    let scores = accounts::scores(&profile, &slot(), exhibit.cells(), ACCOUNTS, threads).unwrap();
    let ranked = accounts::rank(scheme.null(), &scores);
    assert_eq!(ranked[0].account, PLANTED);
    assert!(ranked[0].p_adjusted.log10() < -50.0);
    assert!(ranked[1].p_adjusted.ln() > -7.0);
    // Fixed keys: mean 0 and variance 1 within 4.4 standard errors (two-sided 1e-5).
    let n = f64::from(ACCOUNTS - 1);
    let mean = ranked[1..].iter().map(|r| r.z).sum::<f64>() / n;
    let variance = ranked[1..]
        .iter()
        .map(|r| (r.z - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0);
    assert!(mean.abs() < 4.4 / n.sqrt(), "mean {mean}");
    assert!(
        (variance - 1.0).abs() < 4.4 * (2.0 / n).sqrt(),
        "variance {variance}"
    );
}
