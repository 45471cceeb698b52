//! The distillation tests on small data: what each of them counts, what it finds, what it refuses.
//!
//! How often they reject where nothing is there is counted by the calibration tier of the
//! evaluation crate.

use std::num::NonZeroUsize;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watermark_core::battery::{Battery, Mismatch};
use watermark_core::detect::TestId;
use watermark_core::distill::{
    BettingId, DistillError, Distillation, Finding, Logs, Open, distill,
};
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::{Mark, Profile};
use watermark_core::regime::{Chosen, ChosenError, ExactWindows, WindowCounts, never_emitted};
use watermark_core::report::Report;
use watermark_core::stats::LnP;
use watermark_core::stats::weighted::TailMethod;
use watermark_core::verdict::{Policy, Verdict};
use watermark_core::warning::Warning;
use watermark_core::window::Exhibit;

const VOCABULARY: usize = 64;

fn mark(name: &str, byte: u8) -> Mark {
    let key = SlotKey::from_parts([byte; 32], Epoch::new("t").unwrap(), u32::from(byte));
    Profile::built_in(name).unwrap().bind(&key).unwrap()
}

fn exhibit(width: usize, texts: &[Vec<u32>]) -> Exhibit {
    let mut exhibit = Exhibit::new(width);
    for (source, text) in texts.iter().enumerate() {
        exhibit.push_from(source as u32, text);
    }
    exhibit
}

/// A suspect's text: skewed, repetitive, and with probability `tilt` a step that takes the better
/// of two tokens by score.
fn text(mark: &Mark, tilt: f64, len: usize, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let scheme = mark.scheme();
    let width = scheme.context_width();
    let mut text: Vec<u32> = Vec::new();
    while text.len() < len {
        let mut draw = || {
            let pair = rng.next_u64();
            (pair as u32 % 64) * ((pair >> 32) as u32 % 64) / 64
        };
        let (a, b) = (draw(), draw());
        let tilted = f64::from(rng.next_u32()) < tilt * f64::from(u32::MAX);
        let next = match text.len().checked_sub(width) {
            Some(from) if tilted => {
                let row = scheme.row(&text[from..]);
                if scheme.score(&row, b) > scheme.score(&row, a) {
                    b
                } else {
                    a
                }
            }
            _ => a,
        };
        text.push(next);
    }
    text
}

fn texts(mark: &Mark, tilt: f64, seed: u64) -> Vec<Vec<u32>> {
    (0..12)
        .map(|i| text(mark, tilt, 150, 1000 * seed + i))
        .collect()
}

/// A model that gives every token of `favourites(window)` an equal share and reads `text`.
fn read(text: &[u32], mut favourites: impl FnMut(usize) -> Vec<(u32, f64)>) -> ScoredText {
    let lists: Vec<_> = (0..text.len()).map(&mut favourites).collect();
    ScoredText::new(VOCABULARY, text.to_vec(), 0, lists).unwrap()
}

fn input<'a>(mark: &'a Mark, suspect: &'a Exhibit, decoys: &'a [Mark]) -> Distillation<'a> {
    Distillation {
        threads: NonZeroUsize::new(2).unwrap(),
        ..Distillation::new(mark, suspect, decoys)
    }
}

#[test]
fn weights_are_those_of_the_specification() {
    let mark = mark("greenlist-h1", 3);
    // Cells and counts: (1,2) x 3, (2,1) x 2, (1,5) x 1.
    let exhibit = exhibit(1, &[vec![1, 2, 1, 2, 1], vec![1, 2], vec![1, 5]]);
    let tests = Battery::closed(&mark, &exhibit).tests(&mark);
    let scheme = mark.scheme();
    let green = |window, token| scheme.score(&scheme.row(&[window]), token) as i128;
    let sum = |weights: [i128; 3]| {
        weights[0] * green(1, 2) + weights[1] * green(2, 1) + weights[2] * green(1, 5)
    };
    // floor(sqrt(64 n)); and 8 n N / Q with N = 4, Q = 10 for window 1, N = 2, Q = 4 for window 2.
    for (id, weights) in [
        (TestId::ClosedCells, [1, 1, 1]),
        (TestId::ClosedSqrt, [13, 11, 8]),
        (TestId::ClosedInverseVariance, [10, 8, 3]),
    ] {
        let test = tests.iter().find(|test| test.id == id).unwrap();
        assert_eq!(test.sum, sum(weights), "{id}");
        assert_eq!((test.n_scored, test.method), (3, TailMethod::Exact));
    }
    let corpus = Battery::corpus(&mark, &exhibit, &[vec![1, 5, 9, 1, 5], vec![7]]);
    assert_eq!(corpus.tests(&mark)[0].sum, sum([13, 11, 13]));
}

#[test]
fn a_reference_takes_away_what_it_expected() {
    let mark = mark("greenlist-h1", 3);
    let answer = vec![1, 2, 3];
    let exhibit = exhibit(1, std::slice::from_ref(&answer));
    // Sure of the 2, half sure of the 3, the other half on a 9.
    let expected = read(&answer, |at| match at {
        1 => vec![(2, 1.0)],
        2 => vec![(3, 0.5), (9, 0.5)],
        _ => vec![],
    });
    let battery = Battery::reference(&mark, &exhibit, &[expected]).unwrap();
    let cells: Vec<_> = battery.cells().iter().map(|(w, t)| (w[0], t)).collect();
    assert_eq!(cells, [(2, 3), (2, 9)]);
    let row = mark.scheme().row(&[2]);
    let score = |token| mark.scheme().score(&row, token) as i128;
    assert_eq!(battery.tests(&mark)[0].sum, 32 * score(3) - 32 * score(9));
    let other = read(&[1, 2, 4], |_| vec![]);
    assert_eq!(
        Battery::reference(&mark, &exhibit, &[other]).unwrap_err(),
        Mismatch { text: 0, at: 2 }
    );
}

#[test]
fn contrast_needs_the_same_texts_and_cancels_what_both_say() {
    let mark = mark("gumbel-dual-h2", 3);
    let neutral = text(&mark, 0.0, 120, 5);
    let both = read(&neutral, |at| vec![(at as u32 % 60, 0.5), (61, 0.25)]);
    let battery = Battery::contrast(
        &mark,
        std::slice::from_ref(&both),
        &[std::slice::from_ref(&both)],
    );
    assert!(battery.unwrap().cells().is_empty());
    let shorter = read(&neutral[..100], |_| vec![]);
    let error = Battery::contrast(&mark, std::slice::from_ref(&both), &[&[shorter]]).unwrap_err();
    assert_eq!(error, Mismatch { text: 0, at: 100 });
    let error = Battery::contrast(&mark, std::slice::from_ref(&both), &[&[]]).unwrap_err();
    assert_eq!(error, Mismatch { text: 0, at: 0 });
}

/// Every closed and open test finds a planted mark; none does under another key. Seeds are fixed: a failure
/// is a change of behaviour.
#[test]
fn planted_marks_are_found_and_other_keys_see_nothing() {
    for name in [
        "greenlist-h1",
        "selfhash-h4",
        "gumbel-h2",
        "gumbel-dual-h2",
        "tournament-h2",
    ] {
        let (ours, other) = (mark(name, 3), mark(name, 4));
        let width = ours.scheme().context_width();
        let suspect = exhibit(width, &texts(&ours, 0.8, 1));
        for test in Battery::closed(&ours, &suspect).tests(&ours) {
            assert!(test.p.log10() < -6.0, "{name} {}: {}", test.id, test.p);
        }
        for test in Battery::closed(&other, &suspect).tests(&other) {
            assert!(
                test.p.log10() > -4.0 && test.z.abs() < 5.0,
                "{name} {}",
                test.id
            );
        }
        // Open weights that lean to the better of two tokens at every position of neutral text.
        let scheme = ours.scheme();
        let open: Vec<ScoredText> = texts(&ours, 0.0, 2)
            .iter()
            .map(|text| {
                read(text, |at| {
                    let Some(from) = at.checked_sub(width) else {
                        return vec![];
                    };
                    let row = scheme.row(&text[from..at]);
                    let (a, b) = (at as u32 % 64, (at as u32 * 7 + 3) % 64);
                    if a == b {
                        return vec![];
                    }
                    let better = scheme.score(&row, a) > scheme.score(&row, b);
                    let p = if better { 0.55 } else { 0.05 };
                    vec![(a, p), (b, 0.6 - p)]
                })
            })
            .collect();
        let plain: Vec<ScoredText> = open
            .iter()
            .map(|text| {
                let even = text.positions().map(|position| {
                    let ids: Vec<(u32, f64)> =
                        position.top.iter().map(|&(id, _)| (id, 0.3)).collect();
                    ids
                });
                ScoredText::new(VOCABULARY, text.tokens().to_vec(), 0, even).unwrap()
            })
            .collect();
        for battery in [
            Battery::argmax(&ours, &open),
            Battery::soft(&ours, &open),
            Battery::contrast(&ours, &open, &[&plain]).unwrap(),
        ] {
            let test = &battery.tests(&ours)[0];
            assert!(test.p.log10() < -4.0, "{name} {}: {}", test.id, test.p);
            let test = &battery.tests(&other)[0];
            assert!(test.p.log10() > -4.0, "{name} {}: {}", test.id, test.p);
        }
    }
}

#[test]
fn a_table_for_many_keys_says_what_the_test_says() {
    for name in ["greenlist-h1", "gumbel-h2", "tournament-h2"] {
        let ours = mark(name, 3);
        let suspect = exhibit(ours.scheme().context_width(), &texts(&ours, 0.3, 3));
        let soft: Vec<ScoredText> = texts(&ours, 0.0, 4)
            .iter()
            .map(|text| {
                read(text, |at| {
                    vec![(at as u32 % 64, 0.7), ((at as u32 + 9) % 64, 0.1)]
                })
            })
            .collect();
        for battery in [
            Battery::closed(&ours, &suspect),
            Battery::soft(&ours, &soft),
        ] {
            let tables = battery.tables();
            for byte in 3..9 {
                let key = mark(name, byte);
                for (glance, test) in tables.glance(&key).iter().zip(battery.tests(&key)) {
                    assert!((glance.z - test.z).abs() < 1e-9);
                    let figure = test.saddlepoint.map_or(test.p.log10(), |figure| figure);
                    let tolerance = if test.saddlepoint.is_some() {
                        0.02
                    } else {
                        1e-8
                    };
                    assert!(
                        (glance.p.log10() - figure).abs() < tolerance * (1.0 + figure.abs()),
                        "{name} {}: {} and {figure}",
                        test.id,
                        glance.p.log10()
                    );
                }
            }
        }
    }
}

#[test]
fn logs_choose_cells_in_the_order_of_first_emission() {
    let mark = mark("greenlist-h1", 3);
    let mut logs = ExactWindows::new(1);
    logs.push(&[5, 4, 5, 3]);
    // The end of a text counts: something was drawn from its window.
    assert_eq!(logs.first_emission(&[3]), Some(3));
    assert_eq!(
        (logs.count(&[5]), logs.emitted(), logs.distinct()),
        (2, 4, 3)
    );
    let suspect = exhibit(1, &[vec![3, 9, 4, 8, 5, 7, 5, 6], vec![2, 2]]);
    let chosen = Chosen::of(&mark, &suspect, &logs).unwrap();
    // (5,6), (5,7), (4,8), (3,9): by place of first emission, then by token.
    assert_eq!(chosen.len(), 4);
    let score = |window: u32, token| {
        let row = mark.scheme().row(&[window]);
        mark.scheme().score(&row, token) as i128
    };
    let first = chosen.first(&mark, 3);
    assert_eq!(first.sum, score(5, 6) + score(5, 7) + score(4, 8));
    assert_eq!(chosen.first(&mark, 5).p, LnP::ONE);
    // (9,4), (8,5), (7,5), (2,2): windows that the logs never had.
    let never = never_emitted(&mark, &suspect, &logs).unwrap();
    assert_eq!(never.n_scored, 4);
    assert_eq!(
        never.sum,
        score(9, 4) + score(8, 5) + score(7, 5) + score(2, 2)
    );

    let other = ExactWindows::new(2);
    assert_eq!(
        Chosen::of(&mark, &suspect, &other).unwrap_err(),
        ChosenError::ContextWidth {
            logs: 2,
            exhibit: 1
        }
    );
    let selfhash = self::mark("selfhash-h4", 3);
    let wide = exhibit(4, &[vec![1, 2, 3, 4, 5]]);
    let logs = ExactWindows::new(4);
    assert_eq!(
        Chosen::of(&selfhash, &wide, &logs).unwrap_err(),
        ChosenError::SharedCoins
    );
}

/// A report, but for the time that it took: the same on any number of threads.
fn report(input: &Distillation<'_>) -> Report {
    let one = Distillation {
        threads: NonZeroUsize::MIN,
        ..*input
    };
    let report = distill(input, &|_| ()).unwrap();
    assert_eq!(report, distill(&one, &|_| ()).unwrap());
    report
}

#[test]
fn a_report_adjusts_its_family_and_the_verdict_reads_it() {
    let ours = mark("greenlist-h1", 3);
    let decoys: Vec<Mark> = (40..80).map(|byte| mark("greenlist-h1", byte)).collect();
    let suspect = exhibit(1, &texts(&ours, 0.5, 1));
    let control = exhibit(1, &texts(&ours, 0.0, 7));
    let mut logs = ExactWindows::new(1);
    texts(&ours, 0.9, 9).iter().for_each(|text| logs.push(text));
    let soft = [read(&texts(&ours, 0.0, 4)[0], |at| {
        vec![(at as u32 % 64, 0.7)]
    })];
    let input = Distillation {
        control: Some(&control),
        open: Some(Open {
            suspect: &soft,
            references: &[],
            control: None,
        }),
        logs: Some(Logs {
            windows: &logs,
            planned: Some(200),
            effect: Some(0.5),
        }),
        ..input(&ours, &suspect, &decoys)
    };
    let found = report(&input);
    let ids: Vec<TestId> = found.findings.iter().map(Finding::id).collect();
    use TestId as T;
    assert_eq!(
        ids,
        [
            T::ClosedCells,
            T::ClosedSqrt,
            T::ClosedInverseVariance,
            T::OpenSoft,
            T::Supervised
        ]
    );
    for finding in &found.findings {
        assert!(finding.adjusted >= finding.p);
        assert!(finding.adjusted <= finding.p.bonferroni(5));
    }
    let smallest = found.findings.iter().map(|f| f.p).min().unwrap();
    assert_eq!(
        found.strongest(&Policy::default()).unwrap().adjusted,
        smallest.bonferroni(5)
    );
    assert_eq!(
        found.decoys(T::ClosedSqrt).map(|d| (d.rank, d.of)),
        Some((1, 41))
    );
    assert!(found.decoys(T::Supervised).is_none());
    assert_eq!(
        Verdict::of_report(&found, &Policy::default()),
        Verdict::Rejected
    );
    let bets: Vec<BettingId> = found.bets.iter().map(|bet| bet.id).collect();
    assert_eq!(bets, [BettingId::Closed, BettingId::Supervised]);
    assert!(found.warnings.contains(&Warning::PlanNotSealed));
    assert!(found.never_emitted.is_some());

    let innocent = report(&Distillation {
        suspect: &control,
        ..input
    });
    assert_eq!(
        Verdict::of_report(&innocent, &Policy::default()),
        Verdict::NotRejected
    );
    let nothing = Exhibit::new(1);
    let empty = report(&self::input(&ours, &nothing, &[]));
    let verdict = Verdict::of_report(&empty, &Policy::default());
    assert_eq!(verdict, Verdict::InsufficientEvidence);
    assert!(empty.warnings.contains(&Warning::NoDecoys));
    let wrong = Distillation {
        reference: Some(&soft),
        ..input
    };
    assert!(matches!(
        distill(&wrong, &|_| ()),
        Err(DistillError::Reference(_))
    ));
}

/// Twice the smaller tail, except against a reference.
#[test]
fn both_sides_are_asked_where_a_low_sum_speaks_of_the_suspect() {
    let ours = mark("greenlist-h1", 3);
    let answers = texts(&ours, 0.0, 11);
    let suspect = exhibit(1, &answers);
    let expected: Vec<ScoredText> = answers
        .iter()
        .map(|text| read(text, |at| vec![(at as u32 % 64, 0.5)]))
        .collect();
    let found = report(&Distillation {
        two_sided: true,
        reference: Some(&expected),
        ..input(&ours, &suspect, &[])
    });
    let plain = &found.finding(TestId::ClosedCells).unwrap();
    assert_eq!(plain.p, plain.test.p.min(plain.test.lower_p).bonferroni(2));
    let against = &found.finding(TestId::ClosedReference).unwrap();
    assert_eq!(against.p, against.test.p);
}
