//! The tails against 70-digit arithmetic, against statrs where statrs is right, and against their own laws.

use std::collections::BTreeMap;

use proptest::prelude::*;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Gamma};
use watermark_core::scheme::Null;
use watermark_core::stats::LnP;
use watermark_core::stats::tail::{
    ln_1m_exp, ln_add_exp, ln_binomial_cdf, ln_binomial_sf, ln_gamma_cdf, ln_gamma_sf,
};
use watermark_core::stats::weighted::{TailMethod, WeightedLaw};

/// The error that the tails promise in ln p: absolute up to |ln p| = 1000, relative beyond.
const ABSOLUTE: f64 = 1e-11;
const RELATIVE: f64 = 1e-13;
/// ln of 10^-300000.
const BELOW_E300000: f64 = -690_776.0;

/// Columns of a table of `testdata/tails`, after its comment and its header.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table.lines().skip(2).map(|row| row.split(',').collect())
}

fn number(field: &str) -> f64 {
    field.parse().unwrap()
}

/// Keeps the largest error by size of the law and depth of the tail, so that a run with `--nocapture` tells
/// the margin (`eval/record/tails.md`).
struct Worst {
    law: &'static str,
    absolute: f64,
    relative: f64,
    cases: usize,
    lowest: f64,
    /// By the power of ten that bounds n or the shape, and whether |ln p| is at most 1000: cases, largest error.
    ranges: BTreeMap<(u32, bool), (usize, f64)>,
}

impl Worst {
    /// Promises an error in ln p: absolute up to |ln p| = 1000, relative beyond.
    fn new(law: &'static str, absolute: f64, relative: f64) -> Self {
        Self {
            law,
            absolute,
            relative,
            cases: 0,
            lowest: 0.0,
            ranges: BTreeMap::new(),
        }
    }

    fn compare(&mut self, size: f64, got: LnP, want: f64, case: &dyn std::fmt::Debug) {
        let near = want.abs() < 1000.0;
        let difference = (got.ln() - want).abs();
        let (error, promised) = match near {
            true => (difference, self.absolute),
            false => (difference / want.abs(), self.relative),
        };
        let got = got.ln();
        assert!(error <= promised, "{case:?}: {got} is off by {error:e}");
        let decade = [3, 5, 7].into_iter().find(|&e| size <= 10f64.powi(e));
        let range = (decade.unwrap_or(8) as u32, near);
        let (cases, worst) = self.ranges.entry(range).or_default();
        *cases += 1;
        *worst = worst.max(error);
        self.lowest = self.lowest.min(want);
        self.cases += 1;
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        let (law, cases, lowest) = (self.law, self.cases, self.lowest);
        println!("{law}: {cases} tails down to ln p = {lowest:.0}");
        for ((decade, near), (cases, worst)) in &self.ranges {
            let kind = if *near {
                "error"
            } else {
                "relative error beyond 1000"
            };
            println!("{law}, size to 1e{decade}: {cases} tails, worst {kind} {worst:.1e}");
        }
    }
}

#[test]
fn binomial_against_the_table() {
    let mut worst = Worst::new("binomial", ABSOLUTE, RELATIVE);
    for row in rows(include_str!("../testdata/tails/binomial.csv")) {
        let (k, n) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        let (p, q, size) = (number(row[2]), number(row[3]), n as f64);
        worst.compare(size, ln_binomial_sf(k, n, p, q), number(row[4]), &row);
        worst.compare(size, ln_binomial_cdf(k, n, p, q), number(row[5]), &row);
    }
    assert!(worst.cases >= 1000 && worst.lowest < BELOW_E300000);
    assert!(worst.ranges.contains_key(&(8, true)) && worst.ranges.contains_key(&(8, false)));
}

#[test]
fn gamma_against_the_table() {
    let mut worst = Worst::new("gamma", ABSOLUTE, RELATIVE);
    for row in rows(include_str!("../testdata/tails/gamma.csv")) {
        let (shape, x) = (number(row[0]), number(row[1]));
        worst.compare(shape, ln_gamma_sf(shape, x), number(row[2]), &row);
        worst.compare(shape, ln_gamma_cdf(shape, x), number(row[3]), &row);
    }
    assert!(worst.cases >= 1000 && worst.lowest < BELOW_E300000);
    assert!(worst.ranges.contains_key(&(8, true)) && worst.ranges.contains_key(&(8, false)));
}

/// Sums convolved in whole numbers, and gamma sums by exact partial fractions: what is called exact is within the
/// promised 1e-9, and a bound is not below the tail.
#[test]
fn weighted_sums_against_the_table() {
    let mut binomial = Worst::new("weighted binomial", 1e-9, 1e-12);
    let mut gamma = Worst::new("weighted gamma", 1e-9, 1e-12);
    let mut bounds = 0;
    for row in rows(include_str!("../testdata/tails/weighted.csv")) {
        let classes = row[0].split(' ').map(|class| {
            let (weight, cells) = class.split_once(':').unwrap();
            (weight.parse().unwrap(), cells.parse().unwrap())
        });
        let law: Vec<u32> = row[1].split(':').map(|n| n.parse().unwrap()).collect();
        let (null, worst) = match law[..] {
            [trials, numerator, bits] => (
                Null::Binomial {
                    trials,
                    numerator,
                    bits,
                },
                &mut binomial,
            ),
            [shape] => (Null::Gamma { shape }, &mut gamma),
            _ => panic!("{row:?}"),
        };
        let law = WeightedLaw::of_classes(null, classes);
        let (sum, want) = (row[2].parse().unwrap(), number(row[3]));
        match law.upper_tail(sum) {
            (p, TailMethod::Exact) => worst.compare(law.cells() as f64, p, want, &row),
            (p, TailMethod::Chernoff) => {
                bounds += 1;
                println!("a bound: {row:?}");
                assert!(p.ln() >= want, "{row:?}: {} below {want}", p.ln());
            }
        }
        assert!(law.chernoff(sum).ln() >= want - 1e-9, "{row:?}");
    }
    assert!(binomial.cases > 100 && gamma.cases > 60 && binomial.lowest < -10_000.0);
    assert_eq!(bounds, 0);
}

/// The last row of the results expected by the code of 2402.14904, closed model with logs, gamma = 1/4:
/// "num_scored" 248200, p = 2.6243116273e-24. Its rows score one token more than they say (the one of 0
/// has p = 1/4), and 64,239 is the only count of green tokens that gives this p.
#[test]
fn the_published_row() {
    let p = ln_binomial_sf(64_239, 248_201, 0.25, 0.75);
    assert_eq!(p.to_string(), "2.6e-24");
    assert!((p.ln() - 2.6243116273313888e-24f64.ln()).abs() < 1e-11);
}

#[test]
fn a_million_heads() {
    let p = ln_binomial_sf(1_000_000, 1_000_000, 0.5, 0.5);
    assert_eq!(p.to_string(), "10^-301030.0");
}

#[test]
fn defined_at_the_edges() {
    assert_eq!(ln_binomial_sf(0, 0, 0.25, 0.75), LnP::ONE);
    assert_eq!(ln_binomial_cdf(0, 0, 0.25, 0.75), LnP::ONE);
    assert_eq!(ln_binomial_sf(0, 9, 0.25, 0.75), LnP::ONE);
    assert_eq!(ln_binomial_cdf(9, 9, 0.25, 0.75), LnP::ONE);
    assert_eq!(ln_gamma_sf(0.0, 0.0), LnP::ONE);
    assert_eq!(ln_gamma_cdf(0.0, 0.0), LnP::ONE);
    assert_eq!(ln_gamma_sf(5.0, 0.0), LnP::ONE);
    assert!(ln_gamma_cdf(5.0, 0.0).ln() < -3000.0);
    assert!(ln_gamma_sf(5.0, 1e300).ln().is_finite());
    assert_eq!(ln_1m_exp(0.0), f64::NEG_INFINITY);
    assert_eq!(
        ln_add_exp(f64::NEG_INFINITY, f64::NEG_INFINITY),
        f64::NEG_INFINITY
    );
    assert_eq!(ln_add_exp(-2.0, f64::NEG_INFINITY), -2.0);
}

/// Far beyond the table the fractions still end, and at the mean both halves are one half.
#[test]
fn no_cap_on_the_fractions() {
    let half = 0.5f64.ln();
    assert!((ln_binomial_sf(5_000_000_001, 10_000_000_000, 0.5, 0.5).ln() - half).abs() < 1e-5);
    assert!((ln_gamma_sf(1e10, 1e10).ln() - half).abs() < 1e-5);
}

proptest! {
    #[test]
    fn binomial_equals_statrs_where_statrs_is_right(n in 1u64..400, share in 0.0..1.0f64, p in 0.001..0.999f64) {
        let k = ((n as f64 * share) as u64).max(1);
        let law = Binomial::new(p, n).unwrap();
        let (sf, cdf) = (law.sf(k - 1), law.cdf(k));
        // statrs returns p itself: it is right only while neither tail is the small difference of large ones.
        prop_assert!(sf < 1e-250 || (ln_binomial_sf(k, n, p, 1.0 - p).ln() - sf.ln()).abs() < 1e-9);
        prop_assert!(cdf < 1e-250 || (ln_binomial_cdf(k, n, p, 1.0 - p).ln() - cdf.ln()).abs() < 1e-9);
    }

    #[test]
    fn gamma_equals_statrs_where_statrs_is_right(shape in 0.5..200.0f64, spread in -4.0..6.0f64) {
        let x = (shape + spread * shape.sqrt()).max(0.01);
        let law = Gamma::new(shape, 1.0).unwrap();
        prop_assert!((ln_gamma_sf(shape, x).ln().exp() - law.sf(x)).abs() < 1e-10);
        prop_assert!((ln_gamma_cdf(shape, x).ln().exp() - law.cdf(x)).abs() < 1e-10);
    }

    #[test]
    fn binomial_falls_in_k(n in 2u64..100_000_000, share in 0.0..1.0f64, p in 1e-5..0.99999f64) {
        let k = ((n - 1) as f64 * share) as u64;
        let (here, next) = (ln_binomial_sf(k, n, p, 1.0 - p).ln(), ln_binomial_sf(k + 1, n, p, 1.0 - p).ln());
        prop_assert!(next <= here + ABSOLUTE + RELATIVE * here.abs(), "{} then {}", here, next);
    }

    /// At the mean, where the two fractions take over from each other.
    #[test]
    fn binomial_falls_strictly_across_the_mean(n in 10u64..10_000_000, p in 0.01..0.99f64, step in 0u64..6) {
        let k = (n as f64 * p) as u64 + step.min(n / 200);
        let (here, next) = (ln_binomial_sf(k, n, p, 1.0 - p).ln(), ln_binomial_sf(k + 1, n, p, 1.0 - p).ln());
        prop_assert!(next < here, "{} then {}", here, next);
    }

    #[test]
    fn binomial_tails_sum_to_one(n in 1u64..1_000_000, spread in -6.0..6.0f64, p in 0.001..0.999f64) {
        let (mean, sd) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
        let k = (mean + spread * sd).clamp(1.0, n as f64) as u64;
        let (above, below) = (ln_binomial_sf(k, n, p, 1.0 - p), ln_binomial_cdf(k - 1, n, p, 1.0 - p));
        prop_assert!(ln_add_exp(above.ln(), below.ln()).abs() < ABSOLUTE);
    }

    #[test]
    fn successes_and_failures_are_symmetric(n in 1u64..1_000_000, share in 0.0..1.0f64, p in 0.001..0.999f64) {
        let k = (n as f64 * share) as u64;
        prop_assert_eq!(ln_binomial_cdf(k, n, p, 1.0 - p), ln_binomial_sf(n - k, n, 1.0 - p, p));
    }

    /// The k-th point of a Poisson process comes after x if fewer than k points come before: the gamma tail
    /// is the limit of the binomial one, from which it differs by about x / n.
    #[test]
    fn gamma_is_the_limit_of_the_binomial(k in 1u64..50, x in 0.1..60.0f64) {
        let n = 1u64 << 40;
        let p = x / n as f64;
        let (binomial, gamma) = (ln_binomial_sf(k, n, p, 1.0 - p), ln_gamma_cdf(k as f64, x));
        prop_assert!((binomial.ln() - gamma.ln()).abs() < 1e-7, "{} {}", binomial, gamma);
    }

    #[test]
    fn gamma_falls_in_x(shape in 0.5..1e8f64, spread in -40.0..400.0f64) {
        let x = (shape + spread * shape.sqrt()).max(1e-3);
        let (here, next) = (ln_gamma_sf(shape, x).ln(), ln_gamma_sf(shape, x * 1.0001).ln());
        prop_assert!(next <= here + ABSOLUTE + RELATIVE * here.abs(), "{} then {}", here, next);
        let (here, next) = (ln_gamma_cdf(shape, x).ln(), ln_gamma_cdf(shape, x * 1.0001).ln());
        prop_assert!(next >= here - ABSOLUTE - RELATIVE * here.abs(), "{} then {}", here, next);
    }

    #[test]
    fn gamma_tails_sum_to_one(shape in 0.5..1e7f64, spread in -6.0..6.0f64) {
        let x = (shape + spread * shape.sqrt()).max(1e-3);
        prop_assert!(ln_add_exp(ln_gamma_sf(shape, x).ln(), ln_gamma_cdf(shape, x).ln()).abs() < ABSOLUTE);
    }

    #[test]
    fn nothing_is_displayed_as_zero(n in 1u64..100_000_000, share in 0.0..1.0f64) {
        let text = ln_binomial_sf((n as f64 * share) as u64, n, 0.25, 0.75).to_string();
        prop_assert!(text.starts_with("10^-") || text.parse::<f64>().unwrap() > 0.0, "{}", text);
    }

    #[test]
    fn the_helpers_invert_each_other(x in -700.0..-1e-12f64) {
        prop_assert!(ln_add_exp(x, ln_1m_exp(x)).abs() < 1e-15);
    }
}
