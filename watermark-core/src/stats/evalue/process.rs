//! An e-process for scores with predictable weights.

use serde::{Deserialize, Serialize};

use super::{LnE, log_mean_exp};
use crate::stats::law::Null;

/// The e-process of a weighted sum whose weights are known before the scores: probabilities that a model gives to the
/// tokens after a window, for instance. A mixture, with equal weights, over a grid of lambda fixed by the null law:
///
/// ```text
/// E = mean over j of exp(sum over cells c of lambda_j w_c (s_c - mean) - k(lambda_j w_c)),
/// ```
///
/// k the centred cumulant function ([`Null::cumulant`]). Each factor has mean at most 1 given all steps before
/// it, so E is a supermartingale from 1.
///
/// **What the caller owes**: every cell comes once in the whole process; the weights of a step are a function
/// of the text and of the scores of *earlier* steps only; no step is left out.
///
/// The state is the grid's logarithms, and goes through serde to be resumed exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct TiltProcess {
    null: Null,
    lambdas: Vec<f64>,
    ln_terms: Vec<f64>,
    cells: u64,
}

/// A weight or score that no step may have. The process is left as it was.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum StepError {
    /// A weight outside [-1, 1], or NaN.
    #[error("the weight {0} of a cell is not within -1 and 1")]
    Weight(f64),
    /// A score that is negative, infinite or NaN, or larger than the null law's largest.
    #[error("the score {0} of a cell is not one of the null law")]
    Score(f64),
}

/// A stored state that does not belong to its law.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{found} finite terms in a stored e-process, where its law has {expected}")]
pub struct StateError {
    found: usize,
    expected: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    null: Null,
    cells: u64,
    ln_terms: Vec<f64>,
}

impl TiltProcess {
    /// The process before the first step, E = 1.
    ///
    /// Its grid falls by factors of the square root of 2 to lambda = 2^-9 over the null standard deviation of a
    /// cell, a mean moved by about 2^-9 standard deviations at weight 1. It starts at 4 over the standard deviation
    /// for binomial scores, since weights may be small, and at 0.9 for gamma scores, since lambda w < 1 must hold
    /// for weights up to 1.
    pub fn new(null: Null) -> Self {
        let lambdas = grid(null);
        Self {
            null,
            ln_terms: vec![0.0; lambdas.len()],
            lambdas,
            cells: 0,
        }
    }

    /// Adds one step: weight, within [-1, 1], and score in natural units (successes, or nats rounded down to the grid
    /// of [`fixed`](crate::fixed)) of each of its cells.
    pub fn push(&mut self, step: &[(f64, f64)]) -> Result<(), StepError> {
        let max = self.null.max().unwrap_or(f64::MAX);
        for &(weight, score) in step {
            if !(-1.0..=1.0).contains(&weight) {
                return Err(StepError::Weight(weight));
            }
            if !(0.0..=max).contains(&score) {
                return Err(StepError::Score(score));
            }
        }
        let mean = self.null.mean();
        let excess: f64 = step.iter().map(|&(w, score)| w * (score - mean)).sum();
        for (&lambda, ln_term) in self.lambdas.iter().zip(&mut self.ln_terms) {
            let k: f64 = step
                .iter()
                .map(|&(weight, _)| self.null.cumulant(lambda * weight).k)
                .sum();
            *ln_term += lambda * excess - k;
        }
        self.cells += step.iter().filter(|&&(weight, _)| weight != 0.0).count() as u64;
        Ok(())
    }

    /// E now.
    pub fn value(&self) -> LnE {
        LnE::from_ln(log_mean_exp(self.ln_terms.iter().copied()))
    }

    /// Cells of non-zero weight so far.
    pub fn cells(&self) -> u64 {
        self.cells
    }

    /// The grid.
    pub fn lambdas(&self) -> &[f64] {
        &self.lambdas
    }
}

fn grid(null: Null) -> Vec<f64> {
    let sd = null.variance().sqrt();
    let largest = match null {
        Null::Binomial { .. } | Null::List { .. } => 4.0 / sd,
        Null::Gamma { .. } => 0.9,
    };
    let ratio = 2f64.sqrt();
    let smallest = 2f64.powi(-9) / sd;
    std::iter::successors(Some(largest), |lambda| Some(lambda / ratio))
        .take_while(|&lambda| lambda >= smallest / ratio)
        .collect()
}

impl From<TiltProcess> for State {
    fn from(process: TiltProcess) -> Self {
        Self {
            null: process.null,
            cells: process.cells,
            ln_terms: process.ln_terms,
        }
    }
}

impl TryFrom<State> for TiltProcess {
    type Error = StateError;

    fn try_from(state: State) -> Result<Self, StateError> {
        let lambdas = grid(state.null);
        let found = state.ln_terms.iter().filter(|x| x.is_finite()).count();
        if found != lambdas.len() || state.ln_terms.len() != found {
            return Err(StateError {
                found,
                expected: lambdas.len(),
            });
        }
        Ok(Self {
            null: state.null,
            lambdas,
            ln_terms: state.ln_terms,
            cells: state.cells,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::{SCORE_BITS, neg_ln_q24};
    use crate::stats::size::simultaneous_band;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    const GREEN: Null = Null::Binomial {
        trials: 1,
        numerator: 1,
        bits: 2,
    };
    const GUMBEL: Null = Null::Gamma { shape: 1 };

    /// Null: real Gumbel scores; signed weights that depend on the score before (predictable). Stopped at the first
    /// E >= 20 or after 60 steps of three cells; 10,000 runs. Two looks at alpha 1e-4 altogether: the mean of E is
    /// at most 1 (1.25 would be seen) and at most 5 % reach 20 (6.1 % would be seen).
    #[test]
    fn mean_at_most_one_with_predictable_weights() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (runs, mut total, mut squares, mut reached) = (10_000u64, 0.0, 0.0, 0);
        for _ in 0..runs {
            let (mut process, mut last) = (TiltProcess::new(GUMBEL), 1.0f64);
            for _ in 0..60 {
                let mut score =
                    || neg_ln_q24(rng.next_u32()) as f64 / f64::from(1u32 << SCORE_BITS);
                let bet = (last - 1.0).clamp(-1.0, 1.0);
                let step = [(bet, score()), (0.3, score()), (-0.2, score())];
                last = step[0].1;
                process.push(&step).unwrap();
                if process.value().ln() >= 20f64.ln() {
                    reached += 1;
                    break;
                }
            }
            let e = process.value().ln().exp();
            total += e;
            squares += e * e;
        }
        let mean = total / runs as f64;
        let error = ((squares / runs as f64 - mean * mean) / runs as f64).sqrt();
        println!("mean {mean:.3} +- {error:.3}, {reached} reached 20");
        assert!(mean < 1.0 + 4.0 * error && 4.0 * error < 0.25);
        assert!(reached > 0 && reached <= *simultaneous_band(runs, 0.05, 2, 0.9998).end());
    }

    #[test]
    fn finds_a_soft_mark() {
        // Coins of 0.35 instead of 0.25 at weight 0.2, and the control at 0.25.
        let run = |p: f64| {
            let mut rng = ChaCha8Rng::seed_from_u64(8);
            let mut process = TiltProcess::new(GREEN);
            for _ in 0..2000 {
                let hit = f64::from(rng.next_u32()) < p * 2f64.powi(32);
                process.push(&[(0.2, f64::from(u8::from(hit)))]).unwrap();
            }
            process.value().ln()
        };
        assert!(run(0.35) > 20.0);
        assert!(run(0.25) < 3.0);
    }

    #[test]
    fn refuses_what_no_step_may_have() {
        let mut process = TiltProcess::new(GREEN);
        let before = process.clone();
        assert_eq!(
            process.push(&[(0.5, 1.0), (1.5, 1.0)]),
            Err(StepError::Weight(1.5))
        );
        assert_eq!(process.push(&[(0.5, 2.0)]), Err(StepError::Score(2.0)));
        assert!(process.push(&[(f64::NAN, 1.0)]).is_err());
        assert!(process.push(&[(0.5, f64::NAN)]).is_err());
        assert_eq!(process, before);
        assert_eq!(process.value(), LnE::ONE);
        let text = serde_json::to_string(&process).unwrap();
        let short = text.replace("[0.0,", "[");
        let refused = serde_json::from_str::<TiltProcess>(&short).unwrap_err();
        assert!(
            refused.to_string().contains("stored e-process"),
            "{refused}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Exact: over all outcomes of ten coins, in steps of two, with weights that depend on the steps before.
        #[test]
        fn mean_one_over_all_outcomes(weights in prop::collection::vec(-1.0..1.0f64, 10)) {
            let mut mean = 0.0;
            for outcome in 0u32..1 << 10 {
                let mut process = TiltProcess::new(GREEN);
                let mut probability = 1.0;
                let mut sign = 1.0;
                for pair in 0..5 {
                    let hit = |i: usize| f64::from(outcome >> i & 1);
                    let (a, b) = (2 * pair, 2 * pair + 1);
                    process.push(&[(sign * weights[a], hit(a)), (weights[b], hit(b))]).unwrap();
                    sign = 1.0 - 2.0 * hit(a);
                    for i in [a, b] {
                        probability *= if hit(i) == 1.0 { 0.25 } else { 0.75 };
                    }
                }
                mean += probability * process.value().ln().exp();
            }
            prop_assert!((mean - 1.0).abs() < 1e-11, "{}", mean);
        }

        #[test]
        fn resumed_where_it_was(steps in prop::collection::vec((-1.0..1.0f64, 0.0..9.0f64), 1..40), cut in 0usize..40) {
            let mut whole = TiltProcess::new(GUMBEL);
            let mut parts = TiltProcess::new(GUMBEL);
            for (i, step) in steps.iter().enumerate() {
                whole.push(&[*step]).unwrap();
                if i == cut {
                    parts = serde_json::from_str(&serde_json::to_string(&parts).unwrap()).unwrap();
                }
                parts.push(&[*step]).unwrap();
            }
            prop_assert_eq!(whole, parts);
        }
    }
}
