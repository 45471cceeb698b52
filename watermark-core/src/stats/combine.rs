//! Many tests: families of hypotheses, and several tests of one hypothesis.
//!
//! Every rule here holds under any dependence between the tests. Adjusted values are compared with alpha
//! by `ln() <= alpha.ln()`, like p-values.

use super::LnP;
use super::evalue::LnE;
use super::tail::ln_add_exp;

/// Holm's adjusted p-values, in the order of `family`: the j-th smallest (from 0) of m becomes the
/// largest of (m - i) p_i over i <= j. Those at most alpha are rejected with family-wise error at most
/// alpha under any dependence (Holm 1979, Scand. J. Statist. 6, 65).
pub fn holm(family: &[LnP]) -> Vec<LnP> {
    let order = ascending(family);
    let mut adjusted = family.to_vec();
    let mut largest = LnP::from_ln(f64::MIN);
    for (rank, &index) in order.iter().enumerate() {
        largest = largest.max(family[index].bonferroni((family.len() - rank) as u64));
        adjusted[index] = largest;
    }
    adjusted
}

/// One p-value from several tests of *one* hypothesis: min(1, 2 mean p). Valid under any dependence, and 2
/// cannot be lowered (V. Vovk and R. Wang, "Combining p-values via averaging", Biometrika 107, 791, 2020).
///
/// It never says less than 2 p_max / m: use it for tests that should agree, such as one test under several
/// seeds, and [`LnP::bonferroni`] where a single test may carry all of the evidence. No tests are p = 1.
pub fn average_p(tests: &[LnP]) -> LnP {
    if tests.is_empty() {
        return LnP::ONE;
    }
    let sum = tests
        .iter()
        .fold(f64::NEG_INFINITY, |sum, p| ln_add_exp(sum, p.ln()));
    LnP::from_ln(sum + (2.0 / tests.len() as f64).ln())
}

/// Adjusted p-values of Y. Benjamini and D. Yekutieli (Ann. Statist. 29, 1165, 2001), in the order of `family`:
/// the j-th smallest (from 1) of m becomes the smallest of p_i m (1 + 1/2 + .. + 1/m) / i over i >= j, at most 1.
/// Rejecting those at most alpha keeps the false discovery rate at most alpha under any dependence.
pub fn benjamini_yekutieli(family: &[LnP]) -> Vec<LnP> {
    let m = family.len() as f64;
    let harmonic: f64 = (1..=family.len()).map(|i| 1.0 / i as f64).sum();
    step_up(family.len(), &ascending(family), |index, rank| {
        family[index].ln() + (m * harmonic / rank as f64).ln()
    })
}

/// The e-BH procedure of R. Wang and A. Ramdas (J. R. Statist. Soc. B 84, 822, 2022) as adjusted values, in the order
/// of `family`: the j-th largest e-value (from 1) of m becomes the smallest of m / (i e_i) over i >= j, at most 1.
/// Rejecting those at most alpha keeps the false discovery rate at most alpha under any dependence, without the
/// harmonic factor of [`benjamini_yekutieli`].
///
/// The adjusted values order a family for that rule; they are not p-values.
pub fn e_bh(family: &[LnE]) -> Vec<LnP> {
    let mut order: Vec<usize> = (0..family.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(family[index]));
    let m = family.len() as f64;
    step_up(family.len(), &order, |index, rank| {
        (m / rank as f64).ln() - family[index].ln()
    })
}

fn ascending(family: &[LnP]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..family.len()).collect();
    order.sort_by_key(|&index| family[index]);
    order
}

/// Smallest `ln(index, rank)` from each rank (from 1) to the last.
fn step_up(len: usize, order: &[usize], ln: impl Fn(usize, usize) -> f64) -> Vec<LnP> {
    let mut adjusted = vec![LnP::ONE; len];
    let mut smallest = LnP::ONE;
    for (rank, &index) in order.iter().enumerate().rev() {
        smallest = smallest.min(LnP::from_ln(ln(index, rank + 1)));
        adjusted[index] = smallest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p(p: f64) -> LnP {
        LnP::from_ln(p.ln())
    }

    fn same(got: &[LnP], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got.ln().exp() - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn by_hand() {
        let family = [p(0.04), p(0.01), p(0.9), p(0.011)];
        same(&holm(&family), &[0.08, 0.04, 0.9, 0.04]);
        // 1 + 1/2 + 1/3 + 1/4 = 25/12.
        let c = 25.0 / 12.0;
        same(
            &benjamini_yekutieli(&family),
            &[0.16 / 3.0 * c, 0.022 * c, 1.0, 0.022 * c],
        );
        let e = [
            LnE::from_ln(60f64.ln()),
            LnE::from_ln(2f64.ln()),
            LnE::from_ln(80f64.ln()),
        ];
        same(&e_bh(&e), &[3.0 / 120.0, 0.5, 3.0 / 120.0]);
        same(&[average_p(&[p(0.01), p(0.03)])], &[0.04]);
        assert_eq!(average_p(&[p(0.9), p(0.7)]), LnP::ONE);
        assert_eq!(average_p(&[]), LnP::ONE);
        assert!(
            holm(&[]).is_empty() && benjamini_yekutieli(&[]).is_empty() && e_bh(&[]).is_empty()
        );
    }

    #[test]
    fn far_below_the_smallest_double() {
        let far = LnP::from_ln(-1e5);
        assert!((average_p(&[far, far]).ln() + 1e5 - 2f64.ln()).abs() < 1e-9);
        assert!((e_bh(&[LnE::from_ln(1e5)])[0].ln() + 1e5).abs() < 1e-9);
        assert_eq!(benjamini_yekutieli(&[far])[0], far);
    }

    proptest! {
        /// e-BH rejects the k largest with k e_k / m >= 1 / alpha, for the largest such k.
        #[test]
        fn e_bh_by_its_definition(es in prop::collection::vec(-2.0..8.0f64, 1..20), alpha in 0.01..0.5f64) {
            let es: Vec<LnE> = es.into_iter().map(LnE::from_ln).collect();
            let mut sorted = es.clone();
            sorted.sort();
            sorted.reverse();
            let m = es.len() as f64;
            let count = (1..=es.len())
                .rev()
                .find(|&k| k as f64 * sorted[k - 1].ln().exp() / m >= 1.0 / alpha)
                .unwrap_or(0);
            let rejected = e_bh(&es).iter().filter(|a| a.ln() <= alpha.ln()).count();
            prop_assert_eq!(rejected, count);
        }

        #[test]
        fn adjusted_values_keep_the_order(ps in prop::collection::vec(-9.0..0.0f64, 1..20)) {
            let ps: Vec<LnP> = ps.into_iter().map(LnP::from_ln).collect();
            for adjusted in [holm(&ps), benjamini_yekutieli(&ps)] {
                for i in 0..ps.len() {
                    prop_assert!(adjusted[i] >= ps[i]);
                    for j in 0..ps.len() {
                        prop_assert!(ps[i] > ps[j] || adjusted[i] <= adjusted[j]);
                    }
                }
            }
        }
    }
}
