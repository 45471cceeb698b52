//! Ranks among decoy keys, and whether a set of p-values is as uniform as the null hypothesis says.

use super::LnP;
use super::tail::{ln_add_exp, ln_binomial_pmf};

/// Rank of the real key's score among those of `decoys`: p = (1 + #{decoy >= real}) / (B + 1).
///
/// Exact in the clean regime, where the real key is exchangeable with keys drawn like it and never used; a tie
/// counts against the real key. Never 0: the smallest value that B decoys can give is 1 / (B + 1).
pub fn rank_p(real: f64, decoys: &[f64]) -> LnP {
    // Not `decoy >= real`: a score that is NaN must not speak for the real key.
    let below = decoys.iter().filter(|&&decoy| decoy < real).count();
    let ranks = (decoys.len() + 1) as f64;
    LnP::from_ln(((ranks - below as f64) / ranks).ln())
}

/// Result of a Kolmogorov-Smirnov test against the uniform law on [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ks {
    /// Largest distance between the empirical and the uniform distribution function.
    pub d: f64,
    /// Two-sided p-value, P(D_n >= d) for a continuous law.
    #[serde(rename = "pLog10")]
    pub p: LnP,
}

/// Two-sided Kolmogorov-Smirnov test that `sample` is uniform on [0, 1]. Sorts the sample.
///
/// For *continuous* laws only, such as gamma tails. The p-values of a discrete test have gaps, and in a
/// large sample the gap itself is a distance from uniform that is no fault of the test: see
/// [`ks_attained`] for those. An empty sample has d = 0, p = 1.
pub fn ks_uniform(sample: &mut [f64]) -> Ks {
    sort(sample);
    let n = sample.len() as f64;
    let distance = |(i, &u): (usize, &f64)| (u - i as f64 / n).max((i + 1) as f64 / n - u);
    ks(sample.len(), sample.iter().enumerate().map(distance))
}

/// The same test for p-values of a *discrete* exact test, where P(p <= t) = t holds at every value t that
/// p can attain and nowhere between: binomial tails, ranks among decoys. Sorts the sample.
///
/// The distributions are compared at the values attained in the sample only. On those a discrete p-value
/// and the uniform variable that it rounds up agree, so d is at most the continuous D_n and p errs on
/// the side of "uniform" (G. E. Noether, Metrika 7, 115, 1963).
pub fn ks_attained(sample: &mut [f64]) -> Ks {
    sort(sample);
    let n = sample.len() as f64;
    let mut below = 0;
    let runs = sample.chunk_by(|a, b| a == b).map(|run| {
        below += run.len();
        (below as f64 / n - run[0]).abs()
    });
    ks(sample.len(), runs)
}

fn sort(sample: &mut [f64]) {
    debug_assert!(
        sample.iter().all(|u| (0.0..=1.0).contains(u)),
        "a sample outside [0, 1]"
    );
    sample.sort_by(f64::total_cmp);
}

fn ks(n: usize, distances: impl Iterator<Item = f64>) -> Ks {
    let d = distances.fold(0.0, f64::max);
    Ks {
        d,
        p: ln_ks_sf(n, d),
    }
}

/// The largest sample with an exact two-sided tail at every d: at most 127 rows, some milliseconds.
const EXACT: usize = 1000;

/// ln P(D_n >= d) of the two-sided statistic D_n of n continuous observations.
///
/// - n d^2 >= 4, p below 7e-4: twice the one-sided tail. An upper bound: it counts twice that both sides
///   are exceeded, about p^4 / 8, less than 1e-10 of p.
/// - otherwise up to n = [`EXACT`]: exact, by the matrix of Marsaglia, Tsang and Wang.
/// - otherwise: Kolmogorov's series at Vrbik's corrected argument, error below 2e-5 and below 0.5 % of p.
fn ln_ks_sf(n: usize, d: f64) -> LnP {
    let count = n as f64;
    if n == 0 || d <= 0.5 / count {
        LnP::ONE
    } else if d >= 1.0 {
        // Impossible for a continuous law; a sample of zeros or ones reaches it. 2 (1 - d)^n at the last
        // value below.
        ln_one_sided(n, 1.0 - f64::EPSILON)
    } else if count * d * d >= 4.0 {
        LnP::from_ln(std::f64::consts::LN_2 + ln_one_sided(n, d).ln())
    } else if n <= EXACT {
        LnP::from_ln((1.0 - marsaglia(n, d)).ln())
    } else {
        LnP::from_ln(vrbik(count, d).ln())
    }
}

/// ln P(D+ >= d), Z. W. Birnbaum and F. H. Tingey (Ann. Math. Statist. 22, 592, 1951):
/// d sum over j <= n (1 - d) of C(n, j) u^(j - 1) (1 - u)^(n - j), u = d + j / n. All terms are positive.
fn ln_one_sided(n: usize, d: f64) -> LnP {
    let count = n as f64;
    let sum = (0..n)
        .map(|j| (j as f64, d + j as f64 / count))
        .take_while(|&(_, u)| u < 1.0)
        .map(|(j, u)| ln_binomial_pmf(j, count, u, 1.0 - u) - u.ln())
        .fold(f64::NEG_INFINITY, ln_add_exp);
    LnP::from_ln(d.ln() + sum)
}

/// P(D_n < d), G. Marsaglia, W. W. Tsang and J. Wang (J. Stat. Softw. 8(18), 2003): n! / n^n times the
/// middle entry of H^n, where H is nearly the matrix of 1 / (i - j + 1)! and only its first column and
/// last row know the fraction of n d.
fn marsaglia(n: usize, d: f64) -> f64 {
    let scaled = n as f64 * d;
    let middle = scaled.ceil() as usize;
    let size = 2 * middle - 1;
    let h = middle as f64 - scaled;
    let factorial = |i: usize| (1..=i).map(|f| f as f64).product::<f64>();
    let edge = |i: usize| (1.0 - h.powi(i as i32)) / factorial(i);
    let corner = 1.0 - 2.0 * h.powi(size as i32) + (2.0 * h - 1.0).max(0.0).powi(size as i32);
    let matrix: Vec<Vec<f64>> = (0..size)
        .map(|i| {
            (0..size)
                .map(|j| match (i + 1 == size, j == 0) {
                    (true, true) => corner / factorial(size),
                    (false, true) => edge(i + 1),
                    (true, false) => edge(size - j),
                    (false, false) if j <= i + 1 => 1.0 / factorial(i + 1 - j),
                    (false, false) => 0.0,
                })
                .collect()
        })
        .collect();
    // One row of H^n is enough; n! / n^n goes in factor by factor, so that nothing overflows.
    let mut row = vec![0.0; size];
    row[middle - 1] = 1.0;
    for step in 1..=n {
        let mut next = vec![0.0; size];
        for (x, line) in row.iter().zip(&matrix) {
            let weight = x * step as f64 / n as f64;
            next.iter_mut()
                .zip(line)
                .for_each(|(sum, entry)| *sum += weight * entry);
        }
        row = next;
    }
    row[middle - 1]
}

/// P(D_n >= d) for large n: Kolmogorov's limit 2 sum over i of (-1)^(i - 1) exp(-2 i^2 z^2) at
/// z = s + 1 / (6 sqrt n) + (s - 1) / (4 n), s = d sqrt n (J. Vrbik, Pioneer J. Theor. Appl. Stat. 15, 15, 2018).
fn vrbik(n: f64, d: f64) -> f64 {
    let s = d * n.sqrt();
    let z = s + 1.0 / (6.0 * n.sqrt()) + (s - 1.0) / (4.0 * n);
    if z < 0.2 {
        // 1 within 1e-12; the series would need ever more terms.
        return 1.0;
    }
    let term = |i: i32| (-2.0 * f64::from(i * i) * z * z).exp();
    2.0 * (1..20)
        .map(|i| if i % 2 == 1 { term(i) } else { -term(i) })
        .sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    #[test]
    fn rank_counts_ties_against_the_real_key() {
        let p = |real, decoys: &[f64]| rank_p(real, decoys).ln().exp();
        assert_eq!(p(1.0, &[]), 1.0);
        assert!((p(3.0, &[1.0, 2.0, 0.0]) - 0.25).abs() < 1e-15);
        assert!((p(2.0, &[1.0, 2.0, 0.0]) - 0.5).abs() < 1e-15);
        assert!((p(2.0, &[1.0, f64::NAN, 0.0]) - 0.5).abs() < 1e-15);
        assert!((p(f64::NAN, &[1.0, 2.0]) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn distances_by_hand() {
        assert_eq!(
            ks_uniform(&mut []),
            Ks {
                d: 0.0,
                p: LnP::ONE
            }
        );
        assert!((ks_uniform(&mut [0.9, 0.1]).d - 0.4).abs() < 1e-15);
        assert!((ks_attained(&mut [0.5, 1.0, 0.5, 0.5]).d - 0.25).abs() < 1e-15);
        assert!(ks_uniform(&mut [0.0; 50]).p.ln().is_finite());
    }

    #[test]
    fn tail_against_exact_determinants() {
        let cases = include_str!("../../testdata/tails/ks.csv");
        for row in cases.lines().skip(2) {
            let fields: Vec<f64> = row.split(',').map(|field| field.parse().unwrap()).collect();
            let [n, d, want] = fields[..] else {
                panic!("{row}")
            };
            let got = ln_ks_sf(n as usize, d).ln().exp();
            let tolerance = if n * d * d >= 4.0 {
                1e-9 * want
            } else if n <= EXACT as f64 {
                1e-12
            } else {
                2e-5f64.min(5e-3 * want)
            };
            assert!(
                (got - want).abs() < tolerance,
                "n = {n}, d = {d}: {got:e}, not {want:e}"
            );
        }
    }

    #[test]
    fn continuous_and_discrete_p_values_need_their_own_test() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut uniform: Vec<f64> = (0..5000)
            .map(|_| f64::from(rng.next_u32()) / 2f64.powi(32))
            .collect();
        let mut ranks: Vec<f64> = (0..5000)
            .map(|_| f64::from(rng.next_u32() % 33 + 1) / 33.0)
            .collect();
        let level = 1e-3f64.ln();
        assert!(ks_uniform(&mut uniform).p.ln() > level);
        assert!(ks_attained(&mut uniform).p.ln() > level);
        assert!(
            ks_uniform(&mut ranks).p.ln() < level,
            "the gap of 1/33 is seen"
        );
        assert!(ks_attained(&mut ranks).p.ln() > level);
    }

    proptest! {
        #[test]
        fn tail_falls_with_distance(n in 1usize..400, d in 0.01..0.98f64) {
            let (near, far) = (ln_ks_sf(n, d).ln(), ln_ks_sf(n, d + 0.01).ln());
            prop_assert!(far <= near + 1e-6, "n = {}, d = {}: {} {}", n, d, near, far);
        }
    }
}
