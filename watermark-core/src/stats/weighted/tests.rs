//! The inversion against convolution, against the unweighted tails, and against Moschopoulos's series.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::fixed::{SCORE_BITS, neg_ln_q24};
use crate::stats::tail::{ln_add_exp, ln_binomial_pmf};

fn coins(trials: u32, numerator: u32) -> Null {
    Null::Binomial {
        trials,
        numerator,
        bits: 16,
    }
}

const GREEN: Null = Null::Binomial {
    trials: 1,
    numerator: 1,
    bits: 2,
};
const GUMBEL: Null = Null::Gamma { shape: 1 };

/// The promised error of an exact ln p.
fn close(got: LnP, want: f64) -> bool {
    (got.ln() - want).abs() <= 1e-9f64.max(1e-12 * want.abs())
}

/// ln P(T = least + i) by convolution of the classes under the law tilted by e^(lambda T), all terms positive.
/// Returns least, ln P(T >= least + i), and ln P(T < least + i).
fn convolved(law: &WeightedLaw, lambda: f64) -> (i128, Vec<f64>, Vec<f64>) {
    let Null::Binomial { trials, .. } = law.null else {
        panic!("not a lattice")
    };
    let (p, mut least) = (law.null.probability(), 0);
    let (mut pmf, mut shift) = (vec![1.0], 0.0);
    for (weight, cells) in law.classes() {
        let n = cells as f64 * f64::from(trials);
        let size = weight.unsigned_abs() as usize;
        let ln: Vec<f64> = (0..=n as usize)
            .map(|k| ln_binomial_pmf(k as f64, n, p, 1.0 - p) + lambda * k as f64 * weight as f64)
            .collect();
        let peak = ln.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        shift += peak;
        if weight < 0 {
            least += i128::from(weight) * n as i128;
        }
        let mut next = vec![0.0; pmf.len() + size * n as usize];
        for (k, ln) in ln.iter().enumerate() {
            let (k, factor) = (
                if weight > 0 { k } else { n as usize - k },
                (ln - peak).exp(),
            );
            if factor > 0.0 {
                for (sum, x) in next[k * size..].iter_mut().zip(&pmf) {
                    *sum += factor * x;
                }
            }
        }
        pmf = next;
    }
    let ln = |(i, p): (usize, &f64)| p.ln() + shift - lambda * (least + i as i128) as f64;
    let ln: Vec<f64> = pmf.iter().enumerate().map(ln).collect();
    let mut upper = vec![f64::NEG_INFINITY; ln.len() + 1];
    let mut lower = upper.clone();
    for i in (0..ln.len()).rev() {
        upper[i] = ln_add_exp(upper[i + 1], ln[i]);
    }
    for i in 0..ln.len() {
        lower[i + 1] = ln_add_exp(lower[i], ln[i]);
    }
    (least, upper, lower)
}

/// ln P(T >= x) of a sum of w_j Gamma(n_j, 1) as a mixture of gamma laws of the smallest scale, all
/// terms positive (P. G. Moschopoulos, Ann. Inst. Statist. Math. 37, 541, 1985).
fn moschopoulos(classes: &[(f64, f64)], x: f64) -> f64 {
    let scale = classes.iter().map(|c| c.0).fold(f64::INFINITY, f64::min);
    let shape: f64 = classes.iter().map(|c| c.1).sum();
    let ln_c: f64 = classes.iter().map(|&(w, n)| n * (scale / w).ln()).sum();
    let terms = (40.0 * shape + 4.0 * x / scale) as usize + 200;
    let gamma: Vec<f64> = (1..=terms)
        .map(|k| {
            let term = |&(w, n): &(f64, f64)| n * (1.0 - scale / w).powi(k as i32);
            classes.iter().map(term).sum()
        })
        .collect();
    let mut delta = vec![1.0];
    let mut ln_tail = ln_gamma_sf(shape, x / scale).ln();
    for k in 1..terms {
        let sum: f64 = delta.iter().rev().zip(&gamma).map(|(d, g)| d * g).sum();
        delta.push(sum / k as f64);
        let term = delta[k].ln() + ln_gamma_sf(shape + k as f64, x / scale).ln();
        ln_tail = ln_add_exp(ln_tail, term);
        if term < ln_tail - 45.0 && delta[k] < delta[k - 1] && k as f64 > x / scale {
            break;
        }
    }
    ln_tail + ln_c
}

fn q24(x: f64) -> i128 {
    (x * f64::from(1u32 << SCORE_BITS)) as i128
}

#[test]
fn moments_and_scores() {
    let law = WeightedLaw::new(GREEN, [4, 0, 6, -2, 6]);
    assert_eq!(law.cells(), 4);
    assert_eq!(law.classes().collect::<Vec<_>>(), [(-2, 1), (4, 1), (6, 2)]);
    assert!((law.mean() - 3.5).abs() < 1e-15);
    assert!((law.variance() - 92.0 * 0.1875).abs() < 1e-12);
    assert!((law.z(8) - 4.5 / 17.25f64.sqrt()).abs() < 1e-12);
    let law = WeightedLaw::new(GUMBEL, [3, 1, 1]);
    assert!((law.z(q24(6.5)) - 1.5 / 11f64.sqrt()).abs() < 1e-9);
    let none = WeightedLaw::new(GREEN, [0, 0]);
    assert_eq!(none.upper_tail(0), (LnP::ONE, TailMethod::Exact));
    assert_eq!(
        (none.chernoff(0), none.z(0), none.saddlepoint(0)),
        (LnP::ONE, 0.0, 0.0)
    );
}

/// Weights at the ends of i64 and sums far beyond 64 bits.
#[test]
fn nothing_overflows() {
    let law = WeightedLaw::of_classes(coins(30, 32768), [(i64::MAX, 1 << 20), (i64::MIN, 1 << 20)]);
    assert!(law.z(0).abs() < 1e-3);
    assert!(law.chernoff(i128::from(i64::MAX) << 19).ln() < -1.0);
    let law = WeightedLaw::of_classes(GUMBEL, [(i64::MAX, 1 << 20)]);
    assert!(
        (law.z((i128::from(i64::MAX) << 44) + (i128::from(i64::MAX) << 34)) - 1.0).abs() < 1e-9
    );
}

#[test]
fn secondary_peaks_are_counted() {
    // Nearly all weights even: the law sits almost on the even numbers, and |phi| has a second peak at pi.
    let weights = std::iter::repeat_n(2, 200).chain([3]);
    let law = WeightedLaw::new(coins(1, 300), weights);
    let (least, upper, _) = convolved(&law, 0.0);
    assert_eq!(least, 0);
    for (sum, &want) in upper.iter().enumerate().take(60).skip(1) {
        let got = inversion::upper_tail(&law, law.point(sum as i128)).unwrap();
        assert!(close(got, want), "{sum}: {} {want}", got.ln());
    }
}

#[test]
fn equal_weights_by_inversion() {
    let mut lowest = 0f64;
    for null in [
        GREEN,
        coins(30, 32768),
        coins(1, 1),
        coins(2, 60000),
        GUMBEL,
        Null::Gamma { shape: 2 },
    ] {
        for cells in [4u64, 10, 1000, 300_000] {
            let law = WeightedLaw::of_classes(null, [(7, cells)]);
            let sd = (cells as f64 * null.variance()).sqrt();
            for z in [
                -9.0, -3.0, -0.7, -0.01, 0.0, 0.01, 0.7, 2.0, 6.0, 30.0, 150.0,
            ] {
                let natural = cells as f64 * null.mean() + z * sd;
                let scores = (natural * null.unit()).round();
                let most = null.max().map_or(f64::INFINITY, |max| max * cells as f64);
                if scores <= 0.0 || scores >= most {
                    continue;
                }
                let want = null.upper_tail(cells, scores as u64).ln();
                let point = law.point(7 * scores as i128);
                let got = inversion::upper_tail(&law, point).unwrap();
                assert!(
                    close(got, want),
                    "{null:?} {cells} {z}: {} {want}",
                    got.ln()
                );
                assert_eq!(law.upper_tail(7 * scores as i128).0.ln(), want);
                lowest = lowest.min(want);
            }
        }
    }
    assert!(lowest < -1e4, "{lowest}");
}

#[test]
fn far_tails_of_a_lattice() {
    let law = WeightedLaw::of_classes(GREEN, (1..=5).map(|weight| (weight, 2000)));
    for lambda in [0.05, 0.3, 2.0] {
        let (_, upper, _) = convolved(&law, lambda);
        let typical = law.mean() + law.cumulant(lambda, Null::ideal_cumulant).k1;
        let sum = typical as i128;
        let (got, method) = law.upper_tail(sum);
        let want = upper[sum as usize];
        assert_eq!(method, TailMethod::Exact);
        assert!(close(got, want), "{lambda}: {} {want}", got.ln());
    }
    assert!(law.upper_tail(29_800).0.ln() < -1e4);
}

#[test]
fn weighted_gamma_against_the_series() {
    for classes in [
        vec![(1, 6), (2, 3)],
        vec![(1, 2), (3, 2), (4, 5)],
        vec![(2, 20), (3, 20)],
        vec![(8, 40), (11, 20), (13, 10)],
    ] {
        let law = WeightedLaw::of_classes(GUMBEL, classes.iter().copied());
        let real: Vec<(f64, f64)> = classes.iter().map(|&(w, n)| (w as f64, n as f64)).collect();
        for z in [-1.5, -0.8, 0.0, 0.3, 1.0, 3.0, 6.0, 20.0] {
            let sum = q24(law.mean() + z * law.variance().sqrt());
            if sum <= 0 {
                continue;
            }
            let x = sum as f64 / f64::from(1u32 << SCORE_BITS);
            let want = moschopoulos(&real, x);
            let (got, method) = law.upper_tail(sum);
            assert_eq!(method, TailMethod::Exact);
            assert!(close(got, want), "{classes:?} {z}: {} {want}", got.ln());
        }
    }
}

#[test]
fn far_tail_of_a_weighted_gamma() {
    let law = WeightedLaw::of_classes(GUMBEL, [(2, 20), (3, 20)]);
    // Partial fractions at s = 1/3, where 1 - 2s = 1/3 + 2/3 (1 - 3s); those at 1/2 are e^-5333 of them.
    // The terms alternate and fall by a factor of 14 and more.
    let (mut coefficient, mut sum) = (1.0, 0.0);
    let leading = ln_gamma_sf(20.0, 32_000.0 / 3.0).ln();
    for i in 0..20 {
        let i = f64::from(i);
        sum += coefficient * (ln_gamma_sf(20.0 - i, 32_000.0 / 3.0).ln() - leading).exp();
        coefficient *= -2.0 * (20.0 + i) / (i + 1.0);
    }
    let want = leading + 20.0 * 3f64.ln() + sum.ln();
    let (got, method) = law.upper_tail(q24(32_000.0));
    assert_eq!(method, TailMethod::Exact);
    assert!(want < -1e4 && close(got, want), "{} {want}", got.ln());
}

/// P(T >= x) = sum over i of e^(-x / w_i) times the product over j of w_i / (w_i - w_j).
#[test]
fn hypoexponential_far_out() {
    let weights = [1i64, 2, 3, 5, 8];
    let law = WeightedLaw::new(GUMBEL, weights);
    for x in [15.0, 40.0, 400.0] {
        let term = |&w: &i64| {
            let product: f64 = weights
                .iter()
                .filter(|&&v| v != w)
                .map(|&v| w as f64 / (w - v) as f64)
                .product();
            product * (x / 8.0 - x / w as f64).exp()
        };
        let want = weights.iter().map(term).sum::<f64>().ln() - x / 8.0;
        let (got, method) = law.upper_tail(q24(x));
        assert_eq!(method, TailMethod::Exact);
        assert!(close(got, want), "{x}: {} {want}", got.ln());
    }
}

#[test]
fn a_million_weights() {
    for null in [GREEN, GUMBEL] {
        let law = WeightedLaw::new(
            null,
            (0..1_000_000).map(|i| if i % 3 == 0 { -i } else { i }),
        );
        let sum = (law.mean() + 5.0 * law.variance().sqrt()) * null.unit();
        let start = Instant::now();
        let p = law.chernoff(sum as i128);
        println!(
            "Chernoff over {} distinct weights: {:?}",
            law.classes().len(),
            start.elapsed()
        );
        assert!((p.ln() + 12.5).abs() < 0.1, "{}", p.ln());
    }
}

#[test]
fn bounds_where_exactness_is_out_of_reach() {
    // Weights in fixed point: the lattice is far too long.
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let weights: Vec<i64> = (0..500).map(|_| i64::from(rng.next_u32() >> 2)).collect();
    let law = WeightedLaw::new(GREEN, weights);
    let at = |z: f64| (law.mean() + z * law.variance().sqrt()) as i128;
    assert_eq!(law.upper_tail(at(4.0)).1, TailMethod::Chernoff);
    assert_eq!(
        law.tails().upper_tail(at(4.0)),
        (law.chernoff(at(4.0)), TailMethod::Chernoff)
    );
    let law = WeightedLaw::new(GUMBEL, [5, 4, 3, -1]);
    assert_eq!(law.upper_tail(q24(30.0)).1, TailMethod::Chernoff);
    let law = WeightedLaw::new(GUMBEL, [-1, -1, -1]);
    assert!(law.chernoff(q24(-0.5)).ln() < 0.0);
    assert_eq!(law.chernoff(q24(-3.5)), LnP::ONE);
}

/// Null: contrast weights on real scores under fresh words. 20,000 sums, bound at 5 % and 1 %: a Chernoff
/// p-value rejects less often than that. Each look at alpha 1e-4; a true rate of 0.058 or 0.0128 would be
/// seen. It rejects at all, too.
#[test]
fn chernoff_of_contrast_weights_holds_its_level() {
    let weights: Vec<i64> = (1..=20).flat_map(|w| [w, -w]).collect();
    let law = WeightedLaw::new(GUMBEL, weights.iter().copied());
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (trials, mut low, mut lower) = (20_000, 0u64, 0u64);
    for _ in 0..trials {
        let sum = weights
            .iter()
            .map(|&w| i128::from(w) * i128::from(neg_ln_q24(rng.next_u32())))
            .sum();
        let p = law.chernoff(sum).ln();
        low += u64::from(p <= 0.05f64.ln());
        lower += u64::from(p <= 0.01f64.ln());
    }
    assert!(*crate::stats::size::simultaneous_band(trials, 0.05, 2, 0.9998).end() >= low);
    assert!(*crate::stats::size::simultaneous_band(trials, 0.01, 2, 0.9998).end() >= lower);
    assert!(low > 0 && lower > 0);
}

/// Zipfian counts over 20,000 cells, weight isqrt(64 n).
fn square_root_weights() -> Vec<i64> {
    (1..=20_000u64)
        .map(|rank| (64 * (40_000 / rank).max(1)).isqrt() as i64)
        .collect()
}

#[test]
fn table_is_cheap_and_agrees() {
    for null in [GREEN, coins(30, 32768), GUMBEL] {
        let law = WeightedLaw::new(null, square_root_weights());
        let tails = law.tails();
        let sums: Vec<i128> = (-600..600)
            .map(|i| {
                ((law.mean() + f64::from(i) / 100.0 * law.variance().sqrt()) * null.unit()) as i128
            })
            .collect();
        let start = Instant::now();
        for z in [-1, -3, -5, 1, 3, 5] {
            tails.upper_tail(
                ((law.mean() + f64::from(z) * law.variance().sqrt()) * null.unit()) as i128,
            );
        }
        let built = start.elapsed();
        let all: Vec<_> = sums.iter().map(|&sum| tails.upper_tail(sum)).collect();
        let each = (start.elapsed() - built) / sums.len() as u32;
        println!(
            "{null:?}: {} classes, table {built:?}, then {each:?} each",
            law.classes().len()
        );
        let start = Instant::now();
        for (&sum, &(p, method)) in sums.iter().zip(&all).step_by(97) {
            let (want, _) = law.upper_tail(sum);
            assert_eq!(method, TailMethod::Exact);
            assert!(close(p, want.ln()), "{sum}: {} {}", p.ln(), want.ln());
        }
        println!("alone {:?} each", start.elapsed() / 13);
        assert!(each < Duration::from_millis(1));
    }
}

/// Three cells: the sum's own line does not end within the budget, and that of the table does.
#[test]
fn the_table_may_be_exact_where_one_line_is_not() {
    let law = WeightedLaw::new(GUMBEL, [24, 42, 24]);
    // Weighted sums are multiples of the divisor, 6.
    let sum = q24(law.mean() + 1.8187604998869917 * law.variance().sqrt()) / 6 * 6;
    let (bound, by_table) = (law.upper_tail(sum), law.tails().upper_tail(sum));
    assert_eq!(
        (bound.1, by_table.1),
        (TailMethod::Chernoff, TailMethod::Exact)
    );
    let x = sum as f64 / f64::from(1u32 << SCORE_BITS);
    let want = moschopoulos(&[(24.0, 2.0), (42.0, 1.0)], x);
    assert!(close(by_table.0, want), "{} {want}", by_table.0.ln());
    assert!(bound.0 >= by_table.0);
}

#[test]
fn saddlepoint_is_near() {
    for null in [GREEN, GUMBEL] {
        let law = WeightedLaw::of_classes(null, (5..25).map(|weight| (weight, 40)));
        for z in [-4.0, -1.0, -1e-3, 0.0, 1e-6, 1e-3, 0.5, 2.0, 5.0, 12.0] {
            let sum = ((law.mean() + z * law.variance().sqrt()) * null.unit()) as i128;
            let (exact, method) = law.upper_tail(sum);
            assert_eq!(method, TailMethod::Exact);
            let near = law.saddlepoint(sum);
            assert!(
                (near - exact.ln()).abs() < 2e-3,
                "{null:?} {z}: {near} {}",
                exact.ln()
            );
        }
    }
}

fn weights() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        prop::collection::vec(1i64..30, 2..30),
        prop::collection::vec(-20i64..20, 2..30),
        prop::collection::vec((1i64..8).prop_map(|w| 6 * w), 2..30),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lattice_against_convolution(weights in weights(), trials in 1u32..4, numerator in 1u32..65536) {
        let law = WeightedLaw::new(coins(trials, numerator), weights);
        let (least, upper, lower) = convolved(&law, 0.0);
        for i in (1..upper.len() - 1).step_by(1 + upper.len() / 50) {
            let sum = least + i as i128;
            let point = law.point(sum);
            let at = (point.sum * i128::from(law.divisor) - least) as usize;
            if law.cells == 0 || law.below_support(point) || at + 1 >= upper.len() {
                continue;
            }
            let got = inversion::upper_tail(&law, point);
            prop_assert!(got.is_some(), "{:?} {}", law, sum);
            let got = got.unwrap();
            // The convolution's own complement near p = 1.
            let want = if upper[at] > -0.5 { ln_1m_exp(lower[at].min(0.0)) } else { upper[at] };
            prop_assert!(close(got, want), "{:?} {}: {} {}", law, sum, got.ln(), want);
            prop_assert!(law.chernoff(sum).ln() >= got.ln() - 1e-9);
        }
    }

    #[test]
    fn table_agrees_with_single_tails(weights in weights(), gamma in any::<bool>(), z in -8.0..8.0f64) {
        let null = if gamma { GUMBEL } else { GREEN };
        let law = WeightedLaw::new(null, weights);
        let sum = ((law.mean() + z * law.variance().sqrt()) * null.unit()) as i128;
        prop_assume!(law.support().1.is_none_or(|most| law.point(sum).sum <= most));
        let (alone, by_table) = (law.upper_tail(sum), law.tails().upper_tail(sum));
        // Three cells of a gamma law are at the edge of the budget: one line can be feasible and another not.
        if alone.1 == TailMethod::Chernoff && by_table.1 == TailMethod::Exact {
            prop_assert!(gamma && by_table.0 <= alone.0, "{:?} {:?}", alone, by_table);
        } else {
            prop_assert_eq!(alone.1, by_table.1);
            prop_assert!(close(by_table.0, alone.0.ln()), "{:?} {:?}", alone, by_table);
        }
        prop_assert!(law.chernoff(sum).ln() >= alone.0.ln() - 1e-9);
    }

    #[test]
    fn p_falls_in_the_sum(weights in weights(), gamma in any::<bool>(), z in -5.0..12.0f64, more in 0.0..2.0f64) {
        let null = if gamma { GUMBEL } else { GREEN };
        let law = WeightedLaw::new(null, weights);
        let sum = |z: f64| ((law.mean() + z * law.variance().sqrt()) * null.unit()) as i128;
        prop_assume!(law.support().1.is_none_or(|most| law.point(sum(z + more)).sum <= most));
        let (low, high) = (law.upper_tail(sum(z)), law.upper_tail(sum(z + more)));
        // A bound may lie above the exact tail of a lower sum, as with weights 6, 16, 17 at the edge of the budget.
        if low.1 == high.1 || low.1 == TailMethod::Chernoff {
            prop_assert!(high.0.ln() <= low.0.ln() + 1e-9, "{:?} {:?}", low, high);
        }
        let (low, high) = (law.chernoff(sum(z)), law.chernoff(sum(z + more)));
        prop_assert!(high.ln() <= low.ln() + 1e-9, "{} {}", low.ln(), high.ln());
    }
}
